"""A walk through virtual time: taken up again after any number of deaths, given up soon when work holds it up."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment, TimeSkipper

from activities.clock import STUCK_ATTEMPTS, ClockActivities
from contracts.base import Scope
from contracts.clock import AdvanceInput, AdvanceProgress
from infra.database import Database
from models.clock import DueAction, TestClock, create_clock, get_clock, is_busy, next_due, set_target
from tests.fixtures.api import set_scope
from tests.fixtures.postgres import as_owner
from tests.models.test_stuck_rows import Planter
from workflows.options import CLOCK

HELD_UP = "work that is due does not come to rest"
_START = datetime(2030, 1, 1, tzinfo=UTC)


async def _advancing(db: Database, scope: Scope, days: int) -> AdvanceInput:
    """The scope's clock on its way to so many days after its start."""
    target = _START + timedelta(days=days)
    async with db.transaction(scope) as tx:
        await create_clock(tx, scope, _START)
        await set_target(tx, target)
    return AdvanceInput(scope=scope, target=target)


async def _clock(db: Database, scope: Scope) -> TestClock:
    async with db.transaction(scope) as tx:
        found = await get_clock(tx)
    assert found is not None
    return found


class _NothingDue(ClockActivities):
    """The real walk through a tenant in which nothing is due, without any provider."""

    def __init__(self, db: Database) -> None:
        self._db, self._clock_url = db, ""


class _HeldUp(ClockActivities):
    """Work that never comes to rest, without the minute until that is known."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def _walk(self, task: AdvanceInput) -> AdvanceProgress:
        raise ApplicationError(HELD_UP, type="clock_stuck")


@pytest.mark.parametrize("attempt", [1, STUCK_ATTEMPTS - 1, STUCK_ATTEMPTS, STUCK_ATTEMPTS + 1])
async def test_a_walk_that_work_holds_up_is_given_up(database: Database, scope: Scope, attempt: int) -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, attempt=attempt)
    task = await _advancing(database, scope, 1)
    with pytest.raises(ApplicationError) as stuck:
        await environment.run(_HeldUp(database).advance_clock, task)
    given_up = attempt >= STUCK_ATTEMPTS
    assert (stuck.value.type, stuck.value.non_retryable) == ("clock_stuck", given_up)
    clock = await _clock(database, scope)
    assert (clock.status, clock.error) == ("failed" if given_up else "advancing", f"clock_stuck: {HELD_UP}")


async def test_a_walk_ends_its_own_advance(database: Database, scope: Scope) -> None:
    task = await _advancing(database, scope, 1)
    done = await ActivityEnvironment().run(_NothingDue(database).advance_clock, task)
    clock = await _clock(database, scope)
    assert (done.now, clock.now_at, clock.status) == (task.target, task.target, "ready")


async def test_a_walk_walked_again_leaves_the_next_advance_alone(database: Database, scope: Scope) -> None:
    """Its worker died after the clock was ready and before that was reported; meanwhile somebody asked for more."""
    first = await _advancing(database, scope, 1)
    await ActivityEnvironment().run(_NothingDue(database).advance_clock, first)
    second = await _advancing(database, scope, 50)
    await ActivityEnvironment().run(_NothingDue(database).advance_clock, first)
    clock = await _clock(database, scope)
    assert (clock.now_at, clock.target_at, clock.status) == (first.target, second.target, "advancing")


def test_deaths_do_not_use_up_the_attempts() -> None:
    """A walk dies with its worker, which is struck fifteen times in one round of the fault matrix."""
    assert CLOCK["retry_policy"].maximum_attempts > 15 + STUCK_ATTEMPTS


class _Walking(ClockActivities):
    """The real walk to one process, whose row hears something while the process is waited for; it keeps what it moved."""

    def __init__(self, db: Database, plan: Callable[[datetime | None], None], next_action_at: datetime) -> None:
        self._db, self._plan, self._next, self.moved = db, plan, next_action_at, list[datetime]()
        self.away = 0
        self._client = self._skipper = cast("Any", self)

    def get_workflow_handle(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(id=name)

    async def _time_of(self, handle: Any) -> datetime | None:
        self._plan(self._next)
        self.away -= 1
        return None if self.away >= 0 else _START

    async def _move_clock(self, scope: Scope, at: datetime) -> None:
        self.moved.append(at)

    async def fast_forward(self, handle: Any, delta: timedelta) -> None:
        self._plan(None)  # it has acted

    async def act(self, scope: Scope, due: DueAction) -> bool:
        return await self._act(scope, due)


Walk = Callable[[datetime], _Walking]
_AT: Final = _START + timedelta(days=9)


@pytest.fixture
def due(owner_url: str, scope: Scope) -> DueAction:
    """A payment that waits for `_AT`."""
    return DueAction("payment", Planter(owner_url, scope).payment(next_action_at=_AT), _AT)


@pytest.fixture
def walk(database: Database, owner_url: str, scope: Scope, due: DueAction) -> Walk:
    """A walk to it, until whose rest it waits for another date."""

    def plan(next_action_at: datetime | None) -> None:
        with as_owner(owner_url) as owner:
            set_scope(owner, scope)
            owner.execute("update payments set next_action_at = %s where id = %s", (next_action_at, due.entity_id))

    return partial(_Walking, database, plan)


@pytest.mark.parametrize("heard", [False, True])
async def test_nothing_moves_to_a_date_that_is_no_longer_waited_for(
    walk: Walk, scope: Scope, due: DueAction, heard: bool
) -> None:
    """A command brought an earlier date: to act at the later one, and the clock with it, would be out of order."""
    walking = walk(_AT - timedelta(days=4) if heard else _AT)
    assert await walking.act(scope, due), "it is running"
    assert walking.moved == ([] if heard else [_AT])


@pytest.mark.parametrize(("away", "acts"), [(2, True), (1_000, False)])
async def test_a_process_between_two_runs_is_waited_for(
    walk: Walk, scope: Scope, due: DueAction, away: int, acts: bool
) -> None:
    """A payment's process ends, and begins anew for its late money: passed over, that would be looked for at no later step."""
    walking = walk(_AT)
    walking.away = away
    assert await walking.act(scope, due) is acts
    assert walking.moved == ([_AT] if acts else [])


@pytest.mark.parametrize(
    ("status", "next_action_at", "busy"),
    [
        ("created", None, True),
        ("processing", None, True),
        ("requires_action", None, True),
        ("processing", _AT, False),
        ("requires_capture", None, False),
        ("canceled", None, False),
    ],
)
async def test_a_payment_between_two_steps_holds_the_clock(
    database: Database, owner_url: str, scope: Scope, status: str, next_action_at: datetime | None, busy: bool
) -> None:
    """What waits names its time; what names none is about to do something, but for what is done or is held."""
    Planter(owner_url, scope).payment(status=status, next_action_at=next_action_at)
    async with database.transaction(scope) as tx:
        await create_clock(tx, scope, _START)
    assert await is_busy(database, scope) is busy


async def test_a_refund_without_a_process_is_not_walked_to(database: Database, owner_url: str, scope: Scope) -> None:
    """A settlement looks after its refunds: their dates are the settlement's too."""
    plant = Planter(owner_url, scope)
    of_settlement, late = (
        plant.refund(plant.payment(), "pending", reason, next_action_at=_AT)
        for reason in ("campaign_failed", "late_success")
    )
    async with database.transaction(scope) as tx:
        first = await next_due(tx, _AT, [])
        assert first == DueAction("refund", late, _AT) and of_settlement != late
        assert await next_due(tx, _AT, [late]) is None


class _Asked:
    """A server that is asked for one process: it has pending work for a while, and then an answer, or none."""

    def __init__(self, *, working: int, refusal: RPCStatusCode | None = None) -> None:
        self.id, self._working, self._refusal, self.heard = "distribution:a:test:1", working, refusal, list[str]()

    async def describe(self) -> SimpleNamespace:
        self.heard.append("describe")
        self._working -= 1
        seen = DescribeWorkflowExecutionResponse()
        if self._working >= 0:
            seen.pending_activities.add()
        return SimpleNamespace(raw_description=seen, status=WorkflowExecutionStatus.RUNNING)

    async def query(self, *_: Any, **__: Any) -> timedelta:
        self.heard.append("query")
        if self._refusal is not None:
            raise RPCError("no", self._refusal, b"")
        return timedelta(days=3)

    async def get_current_time(self, handle: Any) -> datetime:
        assert handle is self
        return _START


class _Asking(ClockActivities):
    def __init__(self, server: _Asked) -> None:
        self._server, self._skipper = server, cast("TimeSkipper", server)

    async def ask(self) -> datetime | None:
        return await self._time_of(cast("WorkflowHandle[Any, Any]", self._server))


async def test_a_process_is_asked_for_its_time_when_it_is_done_with_its_work() -> None:
    server = _Asked(working=3)
    assert await _Asking(server).ask() == _START + timedelta(days=3), "its own time, and how far it is ahead"
    assert server.heard == ["describe"] * 4 + ["query"]


async def test_a_process_that_never_rests_holds_the_walk_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it will believe the time to be is not known: a jump by the difference to an old belief goes too far."""
    monkeypatch.setattr("activities.clock._REST_POLLS", 2)
    with pytest.raises(ApplicationError) as stuck:
        await _Asking(_Asked(working=3)).ask()
    assert (stuck.value.type, stuck.value.message) == ("clock_stuck", "distribution:a:test:1 is still at work")


async def test_a_process_that_is_gone_is_passed_over() -> None:
    assert await _Asking(_Asked(working=0, refusal=RPCStatusCode.NOT_FOUND)).ask() is None


async def test_a_process_that_does_not_answer_holds_the_walk_up() -> None:
    """It is written down, and after some attempts given up: a raw error would leave the clock on its way for ever."""
    with pytest.raises(ApplicationError) as stuck:
        await _Asking(_Asked(working=0, refusal=RPCStatusCode.DEADLINE_EXCEEDED)).ask()
    assert (stuck.value.type, stuck.value.message) == (
        "clock_stuck",
        "distribution:a:test:1 does not answer: DEADLINE_EXCEEDED",
    )
