"""The stories that between them drive every activity, short, and patient: whatever dies on the way, their end is the same.

Each names the activities it drives. An activity the worker registers and no story names is found by `undriven`, and one
that a story names and never reaches by the run itself: it is never struck.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final

import psycopg

from cli.demo.world import CARD, Json, Person, World, expect
from contracts.ids import workflow_id
from infra.temporal import connect

Story = Callable[[World], Awaitable[None]]
STORIES: Final[dict[str, Story]] = {}
DRIVES: Final[dict[str, tuple[str, ...]]] = {}
"""Story → the activities it drives for certain."""
PATIENCE_SECONDS: Final = 400
_HELD, _PAGE = 200_000, 150_000
_PROFIT = 70_000
_LOST_CALL_SECONDS: Final = 20
"""Longer than any call, and than the lease of an exclusive effect: whoever made it is dead or has been answered."""
_BUSINESS_TRIES: Final = 20
_BUSY_TIMES: Final = 3
"""One for the first step, one for its repetition after a strike, one for the step that follows."""


def drives(*activities: str) -> Callable[[Story], Story]:
    """Register a story."""

    def register(story: Story) -> Story:
        STORIES[story.__name__] = story
        DRIVES[story.__name__] = activities
        return story

    return register


def undriven(activities: Iterable[str]) -> list[str]:
    """Registered activities that no story drives."""
    return sorted({*activities} - {name for driven in DRIVES.values() for name in driven})


@drives("advance_campaign", "start_attempt", "check_attempt", "send_notifications")
async def paid_at_once(world: World) -> None:
    """A card and a hosted page pay at once into a keep-what-you-raise campaign."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada, bem = await world.person(), await world.person()
    card = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, _PAGE, "paystack")
    await _pay(world, bem, page)
    await _until(world, ada, card, "captured")
    await _until(world, bem, page, "captured")
    await _counts(world, campaign, captured=_HELD + _PAGE)
    await _kept(world, stripe=[_HELD], paystack=[_PAGE])


@drives("capture_attempt")
async def captured_later(world: World) -> None:
    """The provider is too busy to take a card's money in the step that found it authorized: that takes a step of its own."""
    await world.fault("stripe", "stripe.capture", "429", times=_BUSY_TIMES)
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    card = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    await _until(world, ada, card, "captured")
    await _counts(world, campaign, captured=_HELD)
    await _kept(world, stripe=[_HELD])


@drives("start_attempt", "load_payment", "void_attempt")
async def released(world: World) -> None:
    """A held card whose pledge is canceled: the payment's process has ended and is started anew."""
    campaign = await world.campaign("all_or_nothing", goal=1_000_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    await _until(world, ada, made, "held")
    client = await connect(world.stack.settings)
    await client.get_workflow_handle(workflow_id("payment", world.seeded.scope, made["payment_id"])).result()
    await ada.post(f"/v1/investments/{made['id']}/cancel")
    await _until(world, ada, made, "canceled")
    await _counts(world, campaign)
    await _kept(world)


@drives("drain_inbox", "advance_refund")
async def paid_too_late(world: World) -> None:
    """A page paid after its pledge was canceled: a late event, and the money goes back."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, _PAGE, "paystack")
    page = await _page(world, ada, made)
    await ada.post(f"/v1/investments/{made['id']}/cancel")
    await _until(world, ada, made, "canceled")
    await world.pay_page(page)

    async def refunded() -> bool:
        await let_grace_pass(world)
        # A worker that died over the first page leaves it behind unpaid, and a second attempt.
        return [each["refunded"] for each in await world.book("paystack") if each["captured"]] == [_PAGE]

    await world.until_true(refunded, bool, "the late money has gone back", PATIENCE_SECONDS)
    await _counts(world, campaign)


@drives("apply_ruling")
async def ruled(world: World) -> None:
    """The provider never takes the request in, and an operator says so."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.create", "500_before", times=100_000)
    made = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    path = f"/v1/investments/{made['id']}"
    await world.until_true(
        lambda: ada.get(path),
        lambda seen: any(each["event"] == "outcome_unknown" for each in seen["timeline"]),
        "the outcome is unknown",
        PATIENCE_SECONDS,
    )
    ruling = {"outcome": "not_charged", "reason": "The provider's support told us so."}
    await world.admin.post(f"/v1/admin/payments/{made['payment_id']}/resolve-unknown", ruling)
    await _until(world, ada, made, "failed")
    await _counts(world, campaign)
    await _kept(world)


@drives("advance_clock", "advance_campaign", "settle_range", "settlement_progress")
async def funded(world: World) -> None:
    """An authorization is renewed on the eighth day's way, and at success everything is captured."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=_HELD + _PAGE, days=8)
    ada, bem = await world.person(), await world.person()
    card = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, _PAGE, "paystack")
    await _pay(world, bem, page)
    await _until(world, ada, card, "held")
    await _until(world, bem, page, "captured")
    await _decided(world, campaign, "funded", days=8)
    seen = await _until(world, ada, card, "captured")
    expect(any(each["event"] == "authorization_renewed" for each in seen["timeline"]), "nothing was renewed")
    await _counts(world, campaign, captured=_HELD + _PAGE)
    await _kept(world, stripe=[_HELD], paystack=[_PAGE])


@drives("advance_clock", "settle_range", "settlement_progress")
async def missed(world: World) -> None:
    """The goal is missed: the authorization is voided, the page's money refunded."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=5_000_000, days=2)
    ada, bem = await world.person(), await world.person()
    card = await world.invest(ada, campaign, _HELD, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, _PAGE, "paystack")
    await _pay(world, bem, page)
    await _until(world, ada, card, "held")
    await _until(world, bem, page, "captured")
    await _decided(world, campaign, "closed_failed", days=2)
    await _until(world, ada, card, "canceled")
    await _until(world, bem, page, "refunded")
    await _counts(world, campaign)
    await _kept(world)


@drives(
    "advance_distribution",
    "calculate_distribution",
    "begin_distribution",
    "pay_distribution_range",
    "finish_distribution",
)
async def shared_out(world: World) -> None:
    """A funded campaign's profit goes into its holders' wallets."""
    ada, bem = await world.person(), await world.person()
    await _share_out(world, ada, bem)
    for who, share in ((ada, _PROFIT * _HELD // (_HELD + _PAGE)), (bem, _PROFIT * _PAGE // (_HELD + _PAGE))):
        found = sum(each["available"] for each in await who.get("/v1/wallet"))
        expect(found == share, f"the wallet holds {found}, not {share}")
    await _kept(world, stripe=[_HELD, _PAGE, _PROFIT])


@drives("send_distribution_range", "check_distribution_payouts")
async def shared_out_to_banks(world: World) -> None:
    """A part of the profit goes to an account at a bank, once, whoever dies over it."""
    ada, bem = await world.person(), await world.person()
    await world.top_up(_PROFIT)
    payee = await world.payee(ada)
    await world.until(ada, f"/v1/beneficiaries/{payee['id']}", "verified", seconds=PATIENCE_SECONDS)
    chosen = await ada.call("PUT", f"/v1/users/{ada.user_id}/payout-preference", {"destination": payee["id"]})
    expect(chosen.is_success, f"the preference was refused: {chosen.text}")
    await _share_out(world, ada, bem, pay_to="preference")
    taken = [each["taken"] for each in await world.transfers()]
    expect(taken == [_PROFIT * _HELD // (_HELD + _PAGE)], f"the provider sent {taken}")
    left = sum(each["available"] for each in await ada.get("/v1/wallet"))
    expect(left == 0, f"the wallet holds {left}: it was paid twice")


async def _share_out(world: World, ada: Person, bem: Person, **terms: str) -> None:
    """Both invest, the campaign is funded, and its owner's profit is paid to the last line."""
    await world.start_clock()
    owner = await world.person("business_owner")
    campaign = await world.campaign(
        "keep_what_you_raise", goal=_HELD + _PAGE, days=1, owner=owner, profit_share_bps=10_000
    )
    for who, amount in ((ada, _HELD), (bem, _PAGE)):
        await _until(world, who, await world.invest(who, campaign, amount, "stripe", instrument=CARD), "captured")
    deposit = await owner.post(
        "/v1/deposits", {"amount": _PROFIT, "currency": "NGN", "provider": "stripe", "instrument": CARD}
    )
    await world.until(owner, f"/v1/payments/{deposit['id']}", "succeeded", seconds=PATIENCE_SECONDS)
    await _decided(world, campaign, "funded", days=2)
    day = f"{(await world.business_now()).date() - timedelta(days=1)}"
    body = {"declared_profit": {"amount": _PROFIT, "currency": "NGN"}, "evidence": "The books.", "period_start": day,
            "period_end": day, "record_date": day, **terms}  # fmt: skip
    run = await owner.post(f"/v1/campaigns/{campaign}/distributions", body)
    at = f"/v1/campaigns/{campaign}/distributions/{run['id']}"
    await owner.post(f"{at}/calculate")
    await world.until(owner, at, "calculated", seconds=PATIENCE_SECONDS)
    await owner.post(f"{at}/submit")
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")

    async def seen() -> Json:
        await let_grace_pass(world)
        found: Json = await owner.get(at)
        return found

    await world.until_true(seen, lambda found: found["status"] == "paid", "the profit is paid", PATIENCE_SECONDS)


@drives("advance_milestones", "return_escrow_range")
async def given_back(world: World) -> None:
    """A funded campaign misses its milestone for the third time: what was not released goes back, each unit once."""
    await world.start_clock()
    owner, ada, bem = await world.person("business_owner"), await world.person(), await world.person()
    parts = [{"title": part, "share_bps": 5_000, "due_days": days} for part, days in (("Oven", 1), ("Bread", 40))]
    campaign = await world.campaign("keep_what_you_raise", goal=_HELD + _PAGE, days=1, owner=owner, milestones=parts)
    for who, amount in ((ada, _HELD), (bem, _PAGE)):
        await _until(world, who, await world.invest(who, campaign, amount, "stripe", instrument=CARD), "captured")
    await _decided(world, campaign, "funded", days=2)
    at = f"/v1/campaigns/{campaign}/milestones"
    await owner.post(f"{at}/2/evidence", {"evidence": "Bread.", "destination": "wallet"})
    await world.admin.post(f"/v1/admin{at.removeprefix('/v1')}/2/approve")
    for _ in range(3):
        await world.advance(days=45)

    async def back() -> list[str]:
        return [each["status"] for each in (await owner.get(at))["tranches"]]

    await world.until_true(back, lambda seen: seen == ["returned", "released"], "it goes back", PATIENCE_SECONDS)
    for who, share in ((owner, (_HELD + _PAGE) // 2), (ada, _HELD // 2), (bem, _PAGE // 2)):
        found = sum(each["available"] for each in await who.get("/v1/wallet"))
        expect(found == share, f"the wallet holds {found}, not {share}")
    await _kept(world, stripe=[_HELD, _PAGE])


@drives("verify_beneficiary", "advance_payout")
async def paid_out(world: World) -> None:
    """A wallet's money is sent to its owner's account at a bank, once, whoever dies over it."""
    ada = await world.person()
    await world.top_up(_PAGE)
    await world.deposit(ada, _HELD)
    payee = await world.payee(ada)
    await world.until(ada, f"/v1/beneficiaries/{payee['id']}", "verified", seconds=PATIENCE_SECONDS)
    order = {"beneficiary_id": payee["id"], "amount": _PAGE, "currency": "NGN"}
    made = await ada.post("/v1/payouts", order)
    world.workflow_ids += [made["workflow_id"]]

    async def sent() -> str:
        await let_grace_pass(world)
        status: str = (await ada.get(f"/v1/payouts/{made['id']}"))["status"]
        return status

    await world.until_true(sent, lambda status: status == "succeeded", "the money is sent", PATIENCE_SECONDS)
    taken = [each["taken"] for each in await world.transfers()]
    expect(taken == [_PAGE], f"the provider sent {taken}, not {[_PAGE]}")
    left = [each["available"] for each in await ada.get("/v1/wallet")]
    expect(left == [_HELD - _PAGE], f"the wallet has {left} left, not {[_HELD - _PAGE]}")


async def let_grace_pass(world: World) -> None:
    """Calls that a dead worker made and nobody heard the answer of: as if two more minutes had passed since.

    A provider without keys is asked "do you know it?" only after a minute's grace; the harness does not wait for that.
    """
    site = world.stack.site
    url = site.postgres.url("chama") if site.postgres is not None else site.owner_url
    query = """update effects set claimed_at = claimed_at - interval '2 minutes', sent_at = sent_at - interval '2 minutes'
               where tenant_id = %s and status in ('claimed', 'unknown')
               and sent_at < clock_timestamp() - make_interval(secs => %s)"""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(query, (world.seeded.scope.tenant_id, _LOST_CALL_SECONDS))


async def _page(world: World, person: Person, made: Json) -> Json:
    """The page to pay on, as soon as there is one."""

    async def look() -> Json | None:
        await let_grace_pass(world)
        found: Json | None = (await person.get(f"/v1/investments/{made['id']}"))["next_action"]
        return found

    page: Json = await world.until_true(look, lambda found: found is not None, "a page to pay on", PATIENCE_SECONDS)
    return page


async def _pay(world: World, person: Person, made: Json) -> None:
    await world.pay_page(await _page(world, person, made))


async def _until(world: World, person: Person, made: Json, status: str) -> Json:
    return await world.until(person, f"/v1/investments/{made['id']}", status, seconds=PATIENCE_SECONDS)


async def _decided(world: World, campaign: str, status: str, *, days: int) -> None:
    """Move the clock past the deadline, and on while lines with an unknown outcome wait for their next look-up."""
    await world.advance(days=days, hours=1)
    for _ in range(_BUSINESS_TRIES):
        if (await world.admin.get(f"/v1/campaigns/{campaign}"))["status"] == status:
            return
        await asyncio.sleep(1)
        await let_grace_pass(world)
        await world.advance(hours=6)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", status)


async def _counts(world: World, campaign: str, *, captured: int = 0) -> None:
    seen = await world.admin.get(f"/v1/campaigns/{campaign}")
    got = tuple(seen[each]["amount"] for each in ("pledged", "held", "captured"))
    expect(got == (0, 0, captured), f"the campaign counts {got}, not {(0, 0, captured)}")


async def _kept(world: World, **wanted: list[int]) -> None:
    """What each provider took and did not give back, payment by payment."""
    for provider in ("stripe", "paystack"):
        kept = [each["captured"] - each["refunded"] for each in await world.book(provider)]
        found = [each for each in kept if each]
        expect(found == wanted.get(provider, []), f"{provider} kept {found}, not {wanted.get(provider, [])}")
