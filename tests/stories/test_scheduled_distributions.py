"""Profit that is declared in advance: its run calculates and submits itself, through the public API, in the tenant's own time."""

from datetime import timedelta
from typing import Any

import pytest

from cli.demo.world import Json
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told
from tests.stories.test_distributions import LAGOS, PAID, Fund
from tests.stories.test_milestones import Raised, parts

STORIES = Stories()
BY_DATE = {"at": "record_date"}


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def declare(fund: Fund, profit: int, *, in_days: int, schedule: Json, **terms: Any) -> Json:
    """The owner declares a profit whose record date, the last of its thirty days, is so many days ahead."""
    day = (await fund.world.business_now()).astimezone(LAGOS).date() + timedelta(days=in_days)
    body = {"period_start": f"{day - timedelta(days=29)}", "period_end": f"{day}", "record_date": f"{day}",
            "schedule": schedule}  # fmt: skip
    run = await fund.declare(profit, **body, **terms)
    fund.world.workflow_ids.append(run["workflow_id"])
    return run


async def of_milestones(world: Stage, *amounts: int) -> tuple[Raised, Fund]:
    """A funded campaign whose money is released in two parts."""
    raised = await Raised.make(world, *amounts, milestones=parts((5_000, 5), (5_000, 30)), profit_share_bps=10_000)
    await world.deposit(raised.owner, 300_000)
    return raised, Fund(world, raised.campaign, raised.owner, raised.holders, [])


@STORIES.tell
async def by_its_record_date(world: Stage) -> None:
    """Declared ten days ahead: nothing is calculated before the day is over, and then it waits for a second person only."""
    fund = await Fund.raised(world, 300_000, 100_000, owner_has=400_000)
    run = await declare(fund, 400_000, in_days=10, schedule=BY_DATE)
    assert (run["status"], run["schedule"]) == ("draft", {"at": "record_date", "milestone": None})
    early = await fund.owner.call("POST", fund.at(run, "/calculate"))
    assert (early.status_code, early.json()["code"]) == (422, "invalid_terms")
    assert [each["field"] for each in early.json()["errors"]] == ["record_date"]
    await world.advance(days=9)
    assert (await fund.owner.get(fund.at(run)))["status"] == "draft"
    await world.advance(days=2)
    seen = await fund.until(run, "pending_approval")
    assert (seen["submitted_by"], seen["totals"]["net"]) == (fund.owner.user_id, 200_000)
    await world.mailed(fund.owner, "waits for its approval")
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")
    paid = await fund.until(run, "paid")
    assert paid["counts"] == [{"status": PAID, "lines": 2, "net": 200_000}]
    assert await fund.wallets() == [150_000, 50_000]


@STORIES.tell
async def by_a_milestone(world: Stage) -> None:
    """It waits for the end of its record date, then for the money of the second milestone, and is told of that at once."""
    raised, fund = await of_milestones(world, 200_000, 100_000)
    run = await declare(fund, 300_000, in_days=1, schedule={"at": "milestone", "milestone": 2})
    await raised.reach(1)
    await world.advance(days=3)
    seen = await fund.until(run, "draft")
    assert seen["blocked_reason"] == "milestone", seen
    await raised.reach(2)
    seen = await fund.until(run, "pending_approval")
    assert seen["blocked_reason"] is None
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")
    await fund.until(run, "paid")
    assert await fund.wallets() == [200_000, 100_000]


@STORIES.tell
async def canceled_with_its_milestone(world: Stage) -> None:
    """The milestone is missed and the investors want their money back: the run that waited for it is canceled."""
    raised, fund = await of_milestones(world, 200_000, 100_000)
    run = await declare(fund, 300_000, in_days=1, schedule={"at": "milestone", "milestone": 1})
    await world.advance(days=9)
    assert (await fund.owner.get(fund.at(run)))["blocked_reason"] == "milestone"
    await raised.vote(raised.holders[0], "refund")
    seen = await fund.until(run, "canceled")
    assert events(seen)[-1] == "distribution_canceled" and seen["timeline"][-1]["detail"] == {
        "reason": "milestone_returned"
    }
    await raised.until(1, "returned")
    await world.mailed(fund.owner, "is canceled")
    assert await fund.wallets() == [200_000, 100_000], "what they had invested"


@STORIES.tell
async def with_nothing_to_pay(world: Stage) -> None:
    """Half of one kobo: it is not handed in, and the owner is told."""
    fund = await Fund.raised(world, 300_000, 100_000)
    run = await declare(fund, 1, in_days=1, schedule=BY_DATE)
    await world.advance(days=3)
    seen = await fund.until(run, "calculated")
    assert (seen["error_code"], seen["submitted_by"]) == ("nothing_to_distribute", None)
    await world.mailed(fund.owner, "has nothing to pay")
