"""A distribution's lines paid out through a provider, where their holders want it, through the public API."""

import asyncio

import pytest

from benchmarks.distribution import profit_a_line, seed
from cli.demo.world import Json, Person
from tests.fixtures.stage import NGN, Stage, together
from tests.fixtures.stories import Stories, Told
from tests.stories.test_distributions import Fund, verified

STORIES = Stories()
KILLED_LINES = 600
WALLET, PAID = "credited_to_wallet", "paid"
GOOD, FAILS, PENDING, RETURNED = "0123456789", "9001000011", "9003000011", "9002000011"


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def prefers(world: Stage, who: Person, number: str = GOOD) -> Json:
    """A verified account of the person's own, to which its profit is to go."""
    payee = await world.payee(who, number)
    await world.until(who, f"/v1/beneficiaries/{payee['id']}", "verified")
    answer = await who.call("PUT", f"/v1/users/{who.user_id}/payout-preference", {"destination": payee["id"]})
    assert answer.json()["data"]["destination"] == payee["id"], answer.text
    return payee


async def raised(world: Stage, *numbers: str | None, **terms: object) -> Fund:
    """A funded campaign of equal holders, each with an account of that number, or a wallet; its owner can pay them."""
    fund = await Fund.raised(world, *(200_000 for _ in numbers), owner_has=200_000 * len(numbers), **terms)
    await world.top_up(10_000_000)
    await together(*(prefers(world, who, to) for who, to in zip(fund.holders, numbers, strict=True) if to))
    return fund


async def declared(fund: Fund, **terms: object) -> Json:
    """NGN 1,000.00 a holder, before tax and fees."""
    profit = 200_000 * len(fund.holders)
    return await fund.declare(profit, pay_to="preference", tax_bps=1_000, **terms)


async def payout_of(fund: Fund, run: Json, who: Person) -> Json:
    line = (await fund.lines(run))[who.user_id]
    found: Json = await who.get(f"/v1/payouts/{line['payout_id']}")
    return found


@STORIES.tell
async def some_to_wallets_and_some_to_banks(world: Stage) -> None:
    """Each where its holder wants it; the provider's webhooks end the run."""
    fund = await raised(world, GOOD, None, "0223456789")
    ada, bem = fund.holders[:2]
    run = await fund.paid(await declared(fund))
    lines = await fund.lines(run)
    assert [lines[who.user_id]["status"] for who in fund.holders] == [PAID, WALLET, PAID]
    assert await fund.wallets() == [0, 90_000, 0]
    assert [(each["status"], each["taken"]) for each in await world.transfers()] == [("success", 90_000)] * 2
    sent = await payout_of(fund, run, ada)
    assert (sent["reason"], sent["subject_id"], sent["status"]) == ("distribution", run["id"], "succeeded")
    assert sent["decided_by"] == world.admin.user_id and sent["amount"]["amount"] == 90_000
    await world.mailed(ada, "is on its way to your account")
    await world.mailed(bem, "from “Mama Kemi Bakery”")


@STORIES.tell
async def an_outcome_nobody_knows_is_looked_up(world: Stage) -> None:
    """No answer, and no webhook: the line is unknown until the provider is asked, and is sent once."""
    fund = await raised(world, GOOD, "0223456789")
    await world.fault("paystack", "paystack.transfer", "reset_after", times=1)
    await world.fault("paystack", "webhook", "drop", times=10)
    run = await fund.paid(await declared(fund))
    assert {each["status"] for each in (await fund.lines(run)).values()} == {PAID}
    told = await world.sql("select event from timeline where tenant_id = %(tenant)s and event = 'payout_unknown'")
    assert len(told) == 1, "one of the two had no answer"
    assert [(each["status"], each["taken"]) for each in await world.transfers()] == [("success", 90_000)] * 2


@STORIES.tell
async def refused_and_then_paid_into_the_wallet(world: Stage) -> None:
    """One of two transfers fails: only its line is tried again, under its number, and this time into the wallet."""
    fund = await raised(world, GOOD, FAILS)
    ada, bem = fund.holders
    run = await fund.paid(await declared(fund), "partially_paid")
    before = await fund.lines(run)
    assert (before[bem.user_id]["status"], before[bem.user_id]["error_code"]) == (
        "failed",
        "transfer_could_not_be_processed",
    )
    await world.mailed(bem, "could not pay you")
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/retry", {"to": "wallet"})
    await fund.until(run, "paid")
    after = await fund.lines(run)
    assert (after[bem.user_id]["status"], after[bem.user_id]["line_no"]) == (WALLET, before[bem.user_id]["line_no"])
    assert after[ada.user_id] == before[ada.user_id]
    assert await fund.wallets() == [0, 90_000]
    assert sorted(each["status"] for each in await world.transfers()) == ["failed", "success"]
    answer = await world.admin.call("POST", f"/v1/admin/distributions/{run['id']}/retry")
    assert answer.json()["code"] == "nothing_to_retry"


@STORIES.tell
async def returned_after_it_was_paid(world: Stage) -> None:
    """A day later the bank gives it back: the run is open again, the line is owed, and goes to another account."""
    fund = await raised(world, GOOD, RETURNED)
    bem = fund.holders[1]
    run = await fund.paid(await declared(fund))
    first = await payout_of(fund, run, bem)
    await world.advance(days=1, hours=1)
    await world.until(bem, f"/v1/payouts/{first['id']}", "returned")
    seen = await fund.owner.get(fund.at(run))
    assert (seen["status"], seen["blocked_reason"]) == ("partially_paid", "unpaid_lines"), "for an admin to see to"
    assert [(each["status"], each["lines"]) for each in seen["counts"]] == [(PAID, 1), ("returned", 1)]
    await world.mailed(bem, "came back from your bank")
    await prefers(world, bem, "0223456789")
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/retry")
    await world.until_true(
        lambda: fund.lines(run), lambda lines: lines[bem.user_id]["status"] == PAID, "the line is paid again"
    )
    await fund.until(run, "paid")
    second = await payout_of(fund, run, bem)
    assert second["id"] != first["id"] and second["beneficiary_id"] != first["beneficiary_id"]
    assert sorted(each["status"] for each in await world.transfers()) == ["reversed", "success", "success"]


@STORIES.tell
async def held_until_the_person_is_known(world: Stage) -> None:
    """Whoever is verified less than the campaign asks for waits; once known, the line is paid out."""
    fund = await raised(world, GOOD, "0223456789", min_kyc_level=1)
    bem = fund.holders[1]
    await verified(world, bem, 0)
    run = await fund.paid(await declared(fund), "partially_paid")
    line = (await fund.lines(run))[bem.user_id]
    assert (line["status"], line["error_code"]) == ("held", "kyc")
    retry = f"/v1/admin/distributions/{run['id']}/retry"
    assert (await world.admin.call("POST", retry)).json()["code"] == "nothing_to_retry", "nobody knows more yet"
    await verified(world, bem, 1)
    await world.admin.post(retry)
    await fund.until(run, "paid")
    assert [each["taken"] for each in await world.transfers()] == [90_000, 90_000]


@STORIES.tell
async def below_what_the_provider_sends_it_is_carried(world: Stage) -> None:
    """NGN 99.00 cannot be sent: the line is carried into the next run, and nothing is lost."""
    fund = await raised(world, GOOD, None)
    ada = fund.holders[0]
    run = await fund.paid(await fund.declare(39_600, pay_to="preference"))
    lines = await fund.lines(run)
    assert (lines[ada.user_id]["status"], lines[ada.user_id]["error_code"]) == (
        "carried_forward",
        "below_payout_minimum",
    )
    assert await fund.wallets() == [0, 9_900]
    await world.advance(days=40)
    run = await fund.paid(await fund.declare(40_000, days=30, pay_to="preference"))
    figures = (await fund.lines(run))[ada.user_id]["figures"]
    assert (figures["carried_in"], figures["net"]) == (9_900, 19_900)
    assert [(each["status"], each["taken"]) for each in await world.transfers()] == [("success", 19_900)]


@STORIES.tell
async def too_little_at_the_provider_waits(world: Stage) -> None:
    """The tenant's balance is short: nothing is sent, one case says so, and a top-up is found by itself."""
    fund = await Fund.raised(world, 200_000, 200_000, owner_has=400_000)
    await together(*(prefers(world, who) for who in fund.holders))
    run = await declared(fund)
    await fund.approved(run)
    await world.until_true(
        lambda: fund.owner.get(fund.at(run)), lambda seen: seen["blocked_reason"] == "provider_balance", "it waits"
    )
    assert [case[:2] for case in await world.cases()] == [("provider_balance", "open")]
    assert await world.transfers() == []
    await world.top_up(10_000_000)
    await fund.until(run, "paid")
    assert [case[:2] for case in await world.cases()] == [("provider_balance", "resolved")]


async def test_a_worker_killed_in_the_middle_of_sending(told: Told, world: Stage) -> None:
    """`kill -9` when some lines are sent and some are not: what is in doubt is looked up, and everybody is paid once."""
    await told.everything()
    owner = await world.person("business_owner")
    campaign = await world.campaign(
        "keep_what_you_raise", goal=1, cap={"amount": 10**14, "currency": NGN}, owner=owner, profit_share_bps=10_000
    )
    await seed(world.stack, world, campaign, owner.user_id, KILLED_LINES, outside=True)
    fund = Fund(world, campaign, owner, [], [])
    run = await fund.declare(KILLED_LINES * profit_a_line(outside=True), tax_bps=1_000, pay_to="preference")

    async def sent() -> int:
        return len(await world.transfers())

    # The first chunk waits to be recorded.
    async with world.before("payouts", "new.status in ('pending', 'succeeded')"):
        await fund.approved(run)
        await world.until_true(sent, bool, "some are sent")
        await asyncio.to_thread(world.stack.kill, "worker")
        there = await sent()
    await asyncio.to_thread(world.stack.start, "worker")
    assert 0 < there < KILLED_LINES, "some were sent, and some were not"

    async def seen() -> Json:
        await world.let_grace_pass()
        found: Json = await owner.get(fund.at(run))
        return found

    found = await world.until_true(seen, lambda found: found["status"] == "paid", "everybody is paid", 60)
    assert found["counts"] == [{"status": PAID, "lines": KILLED_LINES, "net": found["totals"]["net"]}]
    taken = [each["taken"] for each in await world.transfers()]
    assert (len(taken), sum(taken)) == (KILLED_LINES, found["totals"]["net"])
    assert await world.wallet(owner) == 0
