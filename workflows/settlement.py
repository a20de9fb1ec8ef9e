"""SettlementWorkflow (`settlement/<tenant>/<mode>/<set_id>`): a campaign's outcome applied to every one of its lines.

Lines are rows (DESIGN §2.16): each pass runs range activities over them, a few at a time; a line that the provider has
not decided is taken up again in a later pass. It ends when every line is done or has failed for good; failed lines are
an operator's to retry: the command puts them back in the queue and starts this workflow again, which passes over whatever
is open.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.settlements import SettlementActivities
    from contracts.campaign import SettlementInput, SettlementProgress, SettlementRange, SettlementTask
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import BATCH, LEDGER
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL, RETRIED_AT_THE_END.
RETRIED_AT_THE_END = "retried-at-the-end"
"""The patch's name: what was heard before it while the last messages were sent is not passed over again."""

LINES_PER_RANGE = 500
RANGES_AT_ONCE = 2
MAX_PASSES = 300
"""A further bound on one run, which only those begun before they continued as new can reach."""


@workflow.defn(name="SettlementWorkflow")
class SettlementWorkflow:
    """Every line is carried out at most once, whatever dies on the way."""

    @workflow.init
    def __init__(self, input: SettlementInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False
        self._heard = 0

    @workflow.run
    async def run(self, input: SettlementInput) -> SettlementProgress:
        """Pass over the lines until none is open."""
        progress = SettlementProgress(open=input.lines, done=0, failed=0)
        for _ in range(MAX_PASSES):
            await self._one_pass()
            heard = self._heard
            progress = await self._count()
            show(
                "running" if progress.open else "completed",
                next_action_at=progress.next_action_at,
                line=f"{progress.done} done, {progress.failed} failed, {progress.open} open",
            )
            if progress.open == 0:
                await tell(input.scope, input.settlement_id)
                if self._heard == heard or not workflow.patched(RETRIED_AT_THE_END):
                    return progress
                continue  # lines may have been put back since they were counted
            await self._pause(progress)
            if is_full():
                workflow.continue_as_new(input.model_copy(update={"as_of": self._time.now()}))
        await tell(input.scope, input.settlement_id)
        return progress

    async def _one_pass(self) -> None:
        starts = range(1, self._input.lines + 1, LINES_PER_RANGE)
        for at in range(0, len(starts), RANGES_AT_ONCE):
            await asyncio.gather(*(self._settle(first) for first in starts[at : at + RANGES_AT_ONCE]))

    async def _settle(self, first: int) -> None:
        last = min(first + LINES_PER_RANGE - 1, self._input.lines)
        lines = SettlementRange(
            scope=self._input.scope,
            settlement_id=self._input.settlement_id,
            first=first,
            last=last,
            as_of=self._time.now(),
        )
        await workflow.execute_activity_method(
            SettlementActivities.settle_range, lines, summary=f"settle lines {first}–{last}", **BATCH
        )

    async def _count(self) -> SettlementProgress:
        task = SettlementTask(scope=self._input.scope, settlement_id=self._input.settlement_id, as_of=self._time.now())
        return await workflow.execute_activity_method(
            SettlementActivities.settlement_progress, task, summary="count what is left", **LEDGER
        )

    async def _pause(self, progress: SettlementProgress) -> None:
        if progress.next_action_at is None:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._woken,
                timeout=self._time.until(progress.next_action_at),
                timeout_summary="look up the open lines again",
            )
        self._woken = False

    @workflow.signal
    def line_reported(self) -> None:
        """A webhook about one of the lines came in, or an operator put failed lines back: pass again."""
        self._woken, self._heard = True, self._heard + 1

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
