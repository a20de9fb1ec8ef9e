"""Money that takes days, at a campaign's deadline: waited for within a bounded window, and sent back after it."""

import pytest

from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
SLOW = "pm_bank_slow"
HOUR = 3_600


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def it_arrives_within_the_window(world: Stage) -> None:
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=200_000, days=1, waiting_seconds=72 * HOUR)
    ada, bem = await world.person(), await world.person()
    card = await world.held(ada, campaign, 120_000)
    slow = await world.invest(bem, campaign, 80_000, "stripe", instrument=SLOW)
    await world.until(bem, f"/v1/investments/{slow['id']}", "awaiting_payment")
    assert (await world.payment(bem, slow))["status"] == "processing"
    assert await world.counters(campaign) == (80_000, 120_000, 0)

    await world.advance(days=1, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "waiting_funds")
    assert (await world.investment(ada, card))["status"] == "held", "nothing is captured before the decision"
    await world.advance(days=4)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
    for person, made in ((ada, card), (bem, slow)):
        await world.until(person, f"/v1/investments/{made['id']}", "captured")
    assert await world.counters(campaign) == (0, 0, 200_000)
    assert await world.taken("stripe") == [(80_000, 0), (120_000, 0)]
    assert "payment_processing" in events(await world.investment(bem, slow))


@STORIES.tell
async def it_comes_after_the_window_and_goes_back(world: Stage) -> None:
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=200_000, days=1, waiting_seconds=2 * HOUR)
    ada, bem, chi = [await world.person() for _ in range(3)]
    card = await world.held(ada, campaign, 120_000)
    transfer = await world.invest(bem, campaign, 50_000, "paystack")
    await world.pay_page(transfer["next_action"], "bank")
    debit = await world.invest(chi, campaign, 30_000, "stripe", instrument=SLOW)
    await world.until(chi, f"/v1/investments/{debit['id']}", "awaiting_payment")

    await world.advance(days=1, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "waiting_funds")
    await world.advance(hours=2)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    await world.until(ada, f"/v1/investments/{card['id']}", "canceled")
    await world.advance(days=2)
    await world.event(bem, transfer, "refund_succeeded")
    await world.event(chi, debit, "case_late_success")
    await world.until_true(
        lambda: world.book("stripe"), lambda book: {p["status"] for p in book} == {"canceled"}, "both are released"
    )
    for person, made in ((bem, transfer), (chi, debit)):
        assert (await world.investment(person, made))["status"] in ("expired", "failed")
    assert await world.taken("paystack") == [(50_000, 50_000)]
    assert await world.taken("stripe") == []
    assert await world.counters(campaign) == (0, 0, 0)
    await world.mailed(bem, "Refund of")


@STORIES.tell
async def it_never_arrives(world: Stage) -> None:
    """The transfer fails two days on: its place is free again, and the deadline decides without it."""
    await world.start_clock()
    campaign = await world.campaign("keep_what_you_raise", goal=200_000, days=4)
    ada = await world.person()
    made = await world.invest(ada, campaign, 200_000, "stripe", instrument="pm_bank_slow_fail")
    await world.until(ada, f"/v1/investments/{made['id']}", "awaiting_payment")
    await world.advance(days=2, hours=4)
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert await world.counters(campaign) == (0, 0, 0)
    await world.mailed(ada, "did not go through")
    await world.advance(days=2)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    assert await world.taken("stripe") == []


@STORIES.tell
async def the_deadline_does_not_wait_for_what_cannot_help(world: Stage) -> None:
    """Even with the slow money the goal is out of reach: decided at the deadline itself."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=900_000, days=1, waiting_seconds=72 * HOUR)
    ada = await world.person()
    made = await world.invest(ada, campaign, 80_000, "stripe", instrument=SLOW)
    await world.until(ada, f"/v1/investments/{made['id']}", "awaiting_payment")
    await world.advance(days=1, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    seen = await world.admin.get(f"/v1/campaigns/{campaign}")
    assert "campaign_waiting_funds" not in events(seen)
    await world.advance(days=2)
    await world.until(ada, f"/v1/investments/{made['id']}", "expired", "failed")
    assert await world.taken("stripe") == []
