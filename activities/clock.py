"""The driver of a tenant's test clock (DESIGN §2.18): the workflow that acts next is brought to exactly that instant.

Virtual clocks are per workflow, so the tenant's clock is data. Each step: find the earliest `next_action_at` in the rows,
move the test providers' clock and the tenant's clock there, fast-forward that one workflow, and wait until it acted. Order
between workflows is then the order of business time.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from activities.effects import heartbeating
from activities.rails import Rails
from contracts.base import Scope
from contracts.clock import AdvanceInput, AdvanceProgress
from contracts.ids import workflow_id
from infra.database import Database
from models.clock import DueAction, action_time, finish_advance, get_clock, is_busy, next_due, note_trouble, set_now
from models.provider import accounts

log = structlog.get_logger(__name__)
MAX_ACTIONS: Final = 20_000
STUCK_ATTEMPTS: Final = 5
"""A walk that work holds up is given up after so many; one whose worker died goes on for as long as its preset lets it."""
_REST_POLLS: Final = 1200
_GONE_POLLS: Final = 20
_POLL_SECONDS: Final = 0.05
_MARGIN: Final = timedelta(seconds=1)
"""A jump goes this far past the timer, so that it surely fires."""


class ClockActivities:
    """Needs a server that allows time skipping, and (optionally) the address of the test providers' own clock."""

    def __init__(self, db: Database, client: Client, rails: Rails, http: httpx.AsyncClient, clock_url: str) -> None:
        self._db, self._client, self._rails, self._http, self._clock_url = db, client, rails, http, clock_url
        config = TimeSkippingConfig(enabled=False, disable_propagation=True, max_session_skip_count=1_000_000)
        self._skipper = TimeSkipper(client, config=config)

    @activity.defn
    async def advance_clock(self, task: AdvanceInput) -> AdvanceProgress:
        """Walk to the target. Interrupted anywhere, it goes on from the rows; an advance that has ended stays as it is."""
        async with heartbeating():
            try:
                return await self._walk(task)
            except ApplicationError as error:
                given_up = activity.info().attempt >= STUCK_ATTEMPTS
                async with self._db.transaction(task.scope) as tx:
                    await note_trouble(tx, task.target, str(error), given_up=given_up)
                if not given_up:
                    raise
                raise ApplicationError(str(error), type=error.type, non_retryable=True) from None

    async def _walk(self, task: AdvanceInput) -> AdvanceProgress:
        scope, steps, passed_over = task.scope, 0, list[str]()
        while steps < MAX_ACTIONS:
            await self._rest(scope)
            async with self._db.transaction(scope) as tx:
                clock = await get_clock(tx)
                assert clock is not None
                if (clock.status, clock.target_at) != ("advancing", task.target):
                    return AdvanceProgress(now=clock.now_at, steps=steps, arrived=True)
                due = await next_due(tx, task.target, passed_over)
            if due is None:
                break
            if not await self._act(scope, due):
                log.warning("clock.unreachable", noun=due.workflow_noun, entity_id=due.entity_id)
                passed_over.append(due.entity_id)
            steps += 1
        await self._move_clock(scope, task.target)
        await self._rest(scope)
        async with self._db.transaction(scope) as tx:
            await finish_advance(tx, task.target)
        return AdvanceProgress(now=task.target, steps=steps, arrived=True)

    async def _move_clock(self, scope: Scope, at: datetime) -> None:
        """The tenant's clock and the test providers' clock, together."""
        async with self._db.transaction(scope) as tx:
            await set_now(tx, at)
            clock = await get_clock(tx)
            tenants_accounts = await accounts(tx) if self._clock_url else []
        assert clock is not None
        for account in tenants_accounts:
            body = {"secret_key": self._rails.secret_key(account), "now": clock.now_at.isoformat()}
            answer = await self._http.post(self._clock_url, json=body)
            answer.raise_for_status()

    async def _act(self, scope: Scope, due: DueAction) -> bool:
        """Bring one workflow to its next action; False when it is not running.

        What it waits for may be another date by the time it has no work under way: then nothing moves, and the next action is
        looked for anew. Between two runs it is not running for a moment.
        """
        handle = self._client.get_workflow_handle(workflow_id(due.workflow_noun, scope, due.entity_id))
        for _ in range(_GONE_POLLS):
            now = await self._time_of(handle)
            if await action_time(self._db, scope, due) != due.at:
                return True
            if now is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return False
        await self._move_clock(scope, due.at)
        await self._skipper.fast_forward(handle, max(due.at - now, timedelta(milliseconds=1)) + _MARGIN)
        for _ in range(_REST_POLLS):
            if await action_time(self._db, scope, due) != due.at:
                return True
            await asyncio.sleep(_POLL_SECONDS)
        raise ApplicationError(f"{handle.id} did not act at {due.at.isoformat()}", type="clock_stuck")

    async def _time_of(self, handle: WorkflowHandle[Any, Any]) -> datetime | None:
        """A process's business time; None when it is not running.

        Its own time is the server's to say: a jump that woke nobody is in no task of the process. A command it has just heard
        may have brought a later business time, which is its own only when it is done with that. Raises ApplicationError
        `clock_stuck` when it is not done, or cannot be asked: the walk is taken up again.
        """
        try:
            if not await self._is_idle(handle):
                return None
            ahead: timedelta = await handle.query("ahead", result_type=timedelta)
            return await self._skipper.get_current_time(handle) + ahead
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise ApplicationError(f"{handle.id} does not answer: {error.status.name}", type="clock_stuck") from error

    async def _is_idle(self, handle: WorkflowHandle[Any, Any]) -> bool:
        """Wait until a process has no work under way; False when it is not running."""
        for _ in range(_REST_POLLS):
            seen = await handle.describe()
            if seen.status is not WorkflowExecutionStatus.RUNNING:
                return False
            if not (seen.raw_description.pending_activities or seen.raw_description.HasField("pending_workflow_task")):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        raise ApplicationError(f"{handle.id} is still at work", type="clock_stuck")

    async def _rest(self, scope: Scope) -> None:
        """Wait until everything that is due has come to rest."""
        for _ in range(_REST_POLLS):
            if not await is_busy(self._db, scope):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise ApplicationError("work that is due does not come to rest", type="clock_stuck")
