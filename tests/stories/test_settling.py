"""The end of a campaign: captures that fail, refunds through every fault, authorizations that cannot be renewed."""

from typing import Any

import pytest

from cli.demo.world import Person
from tests.fixtures.stage import Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
FAULTS: dict[str, dict[str, Any]] = {
    "500_before": {},
    "500_after": {},
    "hang_after": {"seconds": 3},
    "reset_after": {},
    "429": {"retry_after": 1},
    "malformed": {},
}


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_failed_capture_above_the_floor(world: Stage) -> None:
    """95 % of the goal is really captured: the campaign stays funded, the one whose card refused is told."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=1_000_000, days=2)
    ada, bem = await world.person(), await world.person()
    good, bad = await world.held(ada, campaign, 950_000), await world.held(bem, campaign, 50_000)
    await world.fault("stripe", "stripe.capture", "decline", match={"amount": 50_000})
    await world.advance(days=2, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
    await world.until(ada, f"/v1/investments/{good['id']}", "captured")
    await world.until(bem, f"/v1/investments/{bad['id']}", "failed")
    assert await world.counters(campaign) == (0, 0, 950_000)
    assert await world.taken("stripe") == [(950_000, 0)]
    await world.mailed(bem, "did not go through")
    settlement = (await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements"))[0]
    assert (settlement["done"], settlement["failed"], settlement["open"]) == (1, 1, 0)
    [case] = await world.admin.get("/v1/admin/cases")
    assert (case["kind"], settlement["blocked_reason"]) == ("failed_line", "failed_lines")
    await world.admin.post(f"/v1/admin/cases/{case['id']}/resolve", {"resolution": "Told to pledge anew."})
    [settlement] = await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements")
    assert (settlement["failed"], settlement["blocked_reason"]) == (1, None)


@STORIES.tell
async def failed_captures_below_the_floor(world: Stage) -> None:
    """60 % is captured, the floor is 90 %: the campaign fails after all, and every refund survives its fault, once."""
    await world.start_clock()
    campaign = await world.campaign(
        "all_or_nothing", goal=1_000_000, cap={"amount": 1_100_000, "currency": "NGN"}, days=2
    )
    ada, bem = await world.person(), await world.person()
    amounts = {kind: 100_000 + number for number, kind in enumerate(FAULTS)}
    good = await together(*(world.held(ada, campaign, amount) for amount in amounts.values()))
    bad = await world.held(bem, campaign, 400_000)
    await world.fault("stripe", "stripe.capture", "decline", match={"amount": 400_000})
    for kind, amount in amounts.items():
        await world.fault("stripe", "stripe.refund", kind, match={"amount": amount}, **FAULTS[kind])
    await world.advance(days=2, hours=1)
    await world.let_grace_pass()
    await _finish(world, campaign)
    for made in good:
        seen = await world.until(ada, f"/v1/investments/{made['id']}", "refunded")
        assert events(seen).count("refund_succeeded") == 1
    await world.until(bem, f"/v1/investments/{bad['id']}", "failed")
    assert await world.faults_fired("stripe") == len(FAULTS) + 1
    assert await world.taken("stripe") == sorted((amount, amount) for amount in amounts.values())
    assert await world.counters(campaign) == (0, 0, 0)
    await world.until_true(
        lambda: world.mails(ada),
        lambda got: sum("Refund of" in mail for mail in got) == len(FAULTS),
        "each refund is told once",
    )


@STORIES.tell
async def page_payments_are_refunded_through_every_fault(world: Stage) -> None:
    """Paystack has no keys: an unknown refund is looked for before another one is sent."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=9_000_000, days=2)
    ada = await world.person()
    amounts = {kind: 20_000 + number for number, kind in enumerate(FAULTS)}
    pledges = await together(*(_paid_page(world, ada, campaign, amount) for amount in amounts.values()))
    for kind, amount in amounts.items():
        await world.fault("paystack", "paystack.refund", kind, match={"amount": amount}, **FAULTS[kind])
    await world.advance(days=2, hours=1)
    await world.let_grace_pass()
    await _finish(world, campaign)
    for made in pledges:
        await world.until(ada, f"/v1/investments/{made}", "refunded")
    assert await world.faults_fired("paystack") == len(FAULTS)
    assert await world.taken("paystack") == sorted((amount, amount) for amount in amounts.values())
    assert await world.counters(campaign) == (0, 0, 0)


async def _paid_page(world: Stage, person: Person, campaign: str, amount: int) -> str:
    made = await world.invest(person, campaign, amount, "paystack")
    await world.pay_page(made["next_action"])
    await world.until(person, f"/v1/investments/{made['id']}", "captured")
    return str(made["id"])


async def _finish(world: Stage, campaign: str) -> None:
    """Unknown lines are looked up again after business hours: let a few pass, until the campaign is closed."""
    for _ in range(4):
        seen = await world.admin.get(f"/v1/campaigns/{campaign}")
        if seen["status"] == "closed_failed":
            return
        await world.advance(hours=16)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")


@STORIES.tell
async def a_card_that_cannot_be_renewed(world: Stage) -> None:
    """The bank refuses the renewal: the investor is told, the old authorization lapses, the place is free again."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=300_000, days=20)
    ada, bem = await world.person(), await world.person()
    made = await world.held(ada, campaign, 300_000)
    saved = await world.sql("select instrument from payments where tenant_id = %(tenant)s")
    await world.refuse_instrument(saved[0]["instrument"])
    await world.advance(days=6, hours=18)
    await world.event(ada, made, "renewal_failed")
    assert (await world.investment(ada, made))["status"] == "held", "the old authorization still stands"
    await world.mailed(ada, "Please renew your pledge")
    await world.advance(hours=12)
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "expired")
    assert "authorization_renewed" not in events(seen)
    assert await world.counters(campaign) == (0, 0, 0)
    second = await world.held(bem, campaign, 300_000)
    await world.cancel(bem, second)
    await world.until(bem, f"/v1/investments/{second['id']}", "canceled")
    await world.advance(days=15)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    assert await world.taken("stripe") == []
