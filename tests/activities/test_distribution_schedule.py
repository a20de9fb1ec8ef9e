"""What a run that calculates itself waits for, step by step on real rows: its record date, and then a milestone's money."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from psycopg.errors import CheckViolation

from activities import distribution_schedule
from contracts.base import Scope
from contracts.distribution import DistributionStep
from domain.distribution import DistributionStatus
from domain.distribution_run import CalculateOn
from infra.database import Database
from models import milestone
from tests.activities.test_milestones import Raised
from tests.fixtures.distributions import NOW, Run

_D, _S = DistributionStatus, DistributionStep
BY_MILESTONE = {"status": _D.DRAFT, "calculate_on": CalculateOn.MILESTONE, "milestone": 1}


@pytest.fixture
async def raised(database: Database, scope: Scope, owner_url: str) -> Raised:
    return await Raised.make(database, scope, owner_url, 300_000, 100_000)


async def told(raised: Raised) -> int:
    """How many runs hear of what the campaign's milestones have come to."""
    holders, signals = raised.holders, "select count(*) from outbox where kind = 'signal'"
    earlier = raised.rows(signals)[0][0]
    async with holders.db.transaction(holders.scope) as tx:
        tranches = await milestone.tranches_of(tx, holders.campaign.id)
        await distribution_schedule.tell_waiting(tx, holders.scope, holders.campaign.id, tranches)
    return int(raised.rows(signals)[0][0] - earlier)


async def state(run: Run) -> tuple[Any, ...]:
    row = await run.row()
    return row.status, row.next_action_at, row.blocked_reason


async def test_it_waits_until_its_record_date_is_over(raised: Raised) -> None:
    today = NOW.date()
    run = await raised.holders.run(
        100_000, start=date(2027, 3, 1), end=today, status=_D.DRAFT, calculate_on=CalculateOn.RECORD_DATE
    )
    assert await run.advance() is _S.WAIT
    assert await state(run) == (_D.DRAFT, datetime(2027, 4, 2, 23, tzinfo=UTC), None), "midnight in Lagos"
    early = await raised.holders.run(100_000, status=_D.DRAFT, calculate_on=CalculateOn.RECORD_DATE)
    assert await early.advance() is _S.CALCULATE
    assert await state(early) == (_D.CALCULATING, None, None)


async def test_a_milestone_that_is_not_planned_yet_is_waited_for(raised: Raised) -> None:
    """A campaign is funded a moment before its money is put in tranches."""
    run = await raised.holders.run(100_000, **BY_MILESTONE)
    assert raised.statuses() == []
    assert await run.advance() is _S.WAIT
    assert await state(run) == (_D.DRAFT, None, "milestone")
    await raised.advance(NOW)
    assert raised.statuses() == ["open", "open"]
    assert (await run.advance(), await told(raised)) == (_S.WAIT, 0), "nothing is known of it"


@pytest.mark.parametrize(
    ("status", "step", "left"),
    [
        ("released", _S.CALCULATE, _D.CALCULATING),
        ("returning", _S.DONE, _D.CANCELED),
        ("returned", _S.DONE, _D.CANCELED),
    ],
)
async def test_a_milestone_decides(
    raised: Raised, status: str, step: DistributionStep, left: DistributionStatus
) -> None:
    """The run is told once, and then calculated, or canceled with the money that goes back."""
    await raised.advance(NOW)
    run = await raised.holders.run(100_000, **BY_MILESTONE)
    other = await raised.holders.run(100_000, start=date(2027, 2, 1), **{**BY_MILESTONE, "milestone": 2})
    assert (await run.advance(), await other.advance()) == (_S.WAIT, _S.WAIT)
    raised.rows("alter table tranches disable trigger user")
    raised.rows(
        "update tranches set status = %s, released_at = case when %s then now() end where number = 1",
        status,
        status == "released",
    )
    assert (await told(raised), await told(raised)) == (1, 0)
    assert (await run.row()).woken and not (await other.row()).woken
    assert await run.advance() is step
    assert await state(run) == (left, None, None)
    assert await state(other) == (_D.DRAFT, None, "milestone")


SCHEDULES = {
    "set": "update distributions set calculate_on = 'record_date'",
    "another milestone": "update distributions set milestone = 2 where milestone = 1",
    "taken away": "update distributions set calculate_on = null, milestone = null where milestone = 1",
}


@pytest.mark.parametrize("change", SCHEDULES)
async def test_a_schedule_is_as_fixed_as_the_other_terms(raised: Raised, change: str) -> None:
    await raised.holders.run(100_000, **BY_MILESTONE)
    await raised.holders.run(100_000, start=date(2027, 2, 1), status=_D.DRAFT)
    with pytest.raises(CheckViolation, match="fixed"):
        raised.rows(SCHEDULES[change])
