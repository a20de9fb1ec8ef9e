"""A campaign's life before its outcome, in virtual time: through review and schedule, pauses and moved deadlines."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from cli.demo.world import CARD, Json, Person
from contracts.ids import workflow_id
from tests.fixtures.stage import Stage, events, forward
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
WHY = {"reason": "It rained."}


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def _draft(world: Stage, owner: Person, *, days: float, **terms: Any) -> str:
    body = {
        "title": "Mama Kemi Bakery",
        "description": "A second oven.",
        "kind": "all_or_nothing",
        "goal": {"amount": 300_000, "currency": "NGN"},
        "deadline_at": (await world.business_now() + timedelta(days=days)).isoformat(),
        "draft": True,
        **terms,
    }
    made = await owner.post("/v1/campaigns", body)
    return str(made["id"])


async def _handed_in(world: Stage, owner: Person, *, days: float) -> str:
    campaign = await _draft(world, owner, days=days)
    world.workflow_ids.append((await owner.post(f"/v1/campaigns/{campaign}/submit"))["workflow_id"])
    return campaign


async def _patch(owner: Person, campaign: str, **changes: Any) -> Json:
    answer = await owner.call("PATCH", f"/v1/campaigns/{campaign}", changes)
    assert answer.is_success, answer.text
    found: Json = answer.json()["data"]
    return found


async def _review(world: Stage, campaign: str, decision: str, **more: Any) -> None:
    await world.admin.post(f"/v1/admin/campaigns/{campaign}/verify", {"decision": decision, **more})


async def _status(world: Stage, campaign: str) -> str:
    return str((await world.admin.get(f"/v1/campaigns/{campaign}"))["status"])


async def _refused(person: Person, path: str, body: Json, code: str) -> None:
    answer = await person.call("POST", path, body)
    assert answer.status_code == 409 and answer.json()["code"] == code, answer.text


@STORIES.tell
async def from_draft_to_funded(world: Stage) -> None:
    """Sent back once, approved for later, paused and resumed, extended over a card's renewal, and funded at the new date."""
    await world.start_clock()
    owner, ada, bem = await world.person("business_owner"), await world.person(), await world.person()
    campaign = await _handed_in(world, owner, days=5)
    path = f"/v1/campaigns/{campaign}"
    await _review(world, campaign, "request_changes", note="How long?")
    await world.mailed(owner, "Please change your campaign")
    later = await world.business_now() + timedelta(days=9)
    await _patch(owner, campaign, deadline_at=later.isoformat())
    await world.advance(days=2)
    await owner.post(f"{path}/submit")
    opens = await world.business_now() + timedelta(days=1)
    await _review(world, campaign, "approve", go_live_at=opens.isoformat())
    await _refused(ada, f"{path}/invest", {"amount": 1, "currency": "NGN", "provider": "wallet"}, "campaign_not_live")
    await world.advance(days=1, hours=1)
    assert await _status(world, campaign) == "live"

    first = await world.held(ada, campaign, 100_000)
    await owner.post(f"{path}/pause", WHY)
    card = {"amount": 200_000, "currency": "NGN", "provider": "stripe", "instrument": CARD}
    await _refused(bem, f"{path}/invest", card, "campaign_paused")
    await world.advance(days=1)
    await owner.post(f"{path}/resume", WHY)
    moved = await owner.post(f"{path}/deadline", {"deadline_at": (later + timedelta(days=5)).isoformat(), **WHY})
    assert datetime.fromisoformat(moved["deadline_at"]) == later + timedelta(days=5)
    for person in (owner, ada):
        await world.mailed(person, "Another deadline for")
    await world.advance(days=6)
    assert await _status(world, campaign) == "live", "the first deadline no longer counts"
    second = await world.held(bem, campaign, 200_000)
    await world.advance(days=6)
    await world.until(world.admin, path, "funded")
    for made in (first, second):
        await world.until(world.admin, f"/v1/investments/{made['id']}", "captured")
    seen = await world.admin.get(path)
    assert [event for event in events(seen) if not event.startswith("settlement_")] == [
        "campaign_drafted", "campaign_submitted", "campaign_changes_requested", "campaign_edited", "campaign_submitted",
        "campaign_approved", "campaign_scheduled", "campaign_live", "campaign_paused", "campaign_resumed",
        "deadline_moved", "campaign_successful", "campaign_settling", "campaign_funded",
    ]  # fmt: skip
    assert "authorization_renewed" in events(await world.investment(ada, first))
    decided = next(each for each in seen["timeline"] if each["event"] == "campaign_successful")
    assert abs(datetime.fromisoformat(decided["at"]) - later - timedelta(days=5)) < timedelta(minutes=1)
    assert await world.taken("stripe") == [(100_000, 0), (200_000, 0)]
    await owner.post(f"{path}/updates", {"title": "It bakes", "body": "Thank you."})
    for person in (ada, bem):
        await world.mailed(person, "News from")


@STORIES.tell
async def canceled_with_money_of_every_kind(world: Stage) -> None:
    """The owner gives up days after the last date the process acted on: holds are released, the page's money goes back."""
    await world.start_clock()
    campaign, ada, bem = (
        await world.campaign("all_or_nothing", goal=900_000),
        await world.person(),
        await world.person(),
    )
    path = f"/v1/campaigns/{campaign}"
    await world.deposit(bem, 50_000)
    await world.advance(days=3)
    card = await world.held(ada, campaign, 100_000)
    wallet = await world.invest(bem, campaign, 50_000, "wallet")
    page = await world.invest(ada, campaign, 20_000, "paystack")
    await world.pay_page(page["next_action"])
    await world.until(ada, f"/v1/investments/{page['id']}", "captured")
    unpaid = await world.invest(bem, campaign, 30_000, "paystack")
    await world.admin.post(f"{path}/cancel", WHY)
    await _refused(world.admin, f"{path}/cancel", WHY, "campaign_decided")
    await world.until(world.admin, path, "closed_failed")
    for made, status in ((card, "canceled"), (wallet, "canceled"), (page, "refunded")):
        await world.until(world.admin, f"/v1/investments/{made['id']}", status)
    await world.pay_page(unpaid["next_action"])
    await world.event(bem, unpaid, "refund_succeeded")
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.taken("paystack") == [(20_000, 20_000), (30_000, 30_000)]
    assert await world.wallet(bem) == 50_000
    canceled = await world.admin.get(path)
    at = {each["event"]: datetime.fromisoformat(each["at"]) for each in canceled["timeline"]}
    assert at["campaign_closed_failed"] >= at["campaign_canceled"] > at["campaign_live"] + timedelta(days=2)


@STORIES.tell
async def closed_when_the_goal_is_reached(world: Stage) -> None:
    """The last pledge decides, weeks before the deadline; what a second payer was about to pay is not wanted any more."""
    await world.start_clock()
    cap = {"amount": 900_000, "currency": "NGN"}
    campaign = await world.campaign("all_or_nothing", goal=300_000, cap=cap, close_when_funded=True)
    ada, bem = await world.person(), await world.person()
    first = await world.held(ada, campaign, 100_000)
    await world.advance(days=2)
    assert await _status(world, campaign) == "live"
    slow = await world.invest(bem, campaign, 50_000, "paystack")
    last = await world.invest(ada, campaign, 200_000, "stripe", instrument=CARD)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
    for made in (first, last):
        await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    await world.pay_page(slow["next_action"])
    await world.event(bem, slow, "refund_succeeded")
    assert await world.taken("stripe") == [(100_000, 0), (200_000, 0)]
    assert await world.counters(campaign) == (0, 0, 300_000)


@STORIES.tell
async def paused_over_its_deadline(world: Stage) -> None:
    """A pause does not stop the clock: the campaign is decided as ever. Another is shortened, and fails earlier."""
    await world.start_clock()
    paused = await world.campaign("all_or_nothing", goal=100_000, days=4)
    short = await world.campaign("all_or_nothing", goal=100_000, days=20)
    ada = await world.person()
    made = await world.held(ada, paused, 100_000)
    lost = await world.held(ada, short, 60_000)
    await world.admin.post(f"/v1/campaigns/{paused}/pause", WHY)
    sooner = await world.business_now() + timedelta(days=3)
    await world.admin.post(f"/v1/campaigns/{short}/deadline", {"deadline_at": sooner.isoformat(), **WHY})
    await world.advance(days=3, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{short}", "closed_failed")
    await world.until(ada, f"/v1/investments/{lost['id']}", "canceled")
    await world.advance(days=1)
    await world.until(world.admin, f"/v1/campaigns/{paused}", "funded")
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")


@STORIES.tell
async def never_corrected(world: Stage) -> None:
    """What the owner does not hand in again before its deadline is rejected."""
    await world.start_clock()
    owner = await world.person("business_owner")
    campaign = await _handed_in(world, owner, days=3)
    await _review(world, campaign, "request_changes", note="How long?")
    await world.advance(days=4)
    await world.until(owner, f"/v1/campaigns/{campaign}", "rejected")


@STORIES.tell
async def its_process_was_ahead_of_the_clock(world: Stage) -> None:
    """A jump that woke nobody does not count twice: its process, four days ahead, goes live a day later, and has a deadline."""
    await world.start_clock()
    owner = await world.person("business_owner")
    campaign = await _handed_in(world, owner, days=8)
    opens = await world.business_now() + timedelta(days=5)
    await _review(world, campaign, "approve", go_live_at=opens.isoformat())
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "scheduled")
    await forward(await world.temporal(), workflow_id("campaign", world.seeded.scope, campaign), timedelta(days=4))
    await world.advance(days=6)
    assert await _status(world, campaign) == "live", "its process jumped over the deadline"
    await world.advance(days=2)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
