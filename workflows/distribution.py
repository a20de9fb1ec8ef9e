"""DistributionWorkflow (`distribution/<tenant>/<mode>/<dst_id>`): a declared profit on its way to its holders.

It calculates when it is told to, waits while people review and approve, waits while the money is not there, and then pays:
lines are rows (DESIGN §2.16), taken in ranges, a few at a time. It ends when nothing is left to do by itself; whoever puts
lines back in the queue, or calculates again, starts it once more. Commands change the row and wake it: signals carry no facts.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.distribution_payouts import DistributionPayoutActivities
    from activities.distributions import DistributionActivities
    from contracts.distribution import (
        DistributionInput,
        DistributionProgress,
        DistributionRange,
        DistributionStep,
        DistributionTask,
    )
    from domain.distribution import DistributionStatus
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.options import BATCH, LEDGER
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL, HEARD_AT_THE_END.
HEARD_AT_THE_END = "heard-at-the-end"

LINES_PER_RANGE = 5_000
"""A few seconds of work: a hundred thousand lines are twenty ranges, and a killed worker's range is taken up where it was."""
RANGES_AT_ONCE = 2


@workflow.defn(name="DistributionWorkflow")
class DistributionWorkflow:
    """Every line is paid at most once, whatever dies on the way."""

    @workflow.init
    def __init__(self, input: DistributionInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False

    @workflow.run
    async def run(self, input: DistributionInput) -> DistributionStatus:
        """Step after step, until the run wants nothing more."""
        while True:
            self._woken = False
            progress = await self._advance()
            self._time.catch_up(progress.as_of)
            show(progress.status, next_action_at=progress.next_action_at, blocked=progress.blocked_reason)
            if progress.step is DistributionStep.DONE:
                await workflow.wait_condition(workflow.all_handlers_finished)
                if self._woken and workflow.patched(HEARD_AT_THE_END):
                    continue  # lines may have been put back, or the run calculated again, since it was looked at
                return progress.status
            if progress.step is DistributionStep.CALCULATE:
                await self._calculate()
            elif progress.step is DistributionStep.BEGIN:
                await self._begin()
            elif progress.step is DistributionStep.PAY:
                await self._pay(progress)
            elif progress.step is DistributionStep.CHECK:
                await self._check()
            else:
                await self._pause(progress)
            if is_full():
                break
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(input.model_copy(update={"as_of": self._time.now()}))
        return progress.status

    def _task(self) -> DistributionTask:
        return DistributionTask(
            scope=self._input.scope, distribution_id=self._input.distribution_id, as_of=self._time.now()
        )

    async def _advance(self) -> DistributionProgress:
        return await workflow.execute_activity_method(
            DistributionActivities.advance_distribution, self._task(), summary="see what is due", **LEDGER
        )

    async def _calculate(self) -> None:
        await workflow.execute_activity_method(
            DistributionActivities.calculate_distribution, self._task(), summary="calculate the lines", **BATCH
        )

    async def _begin(self) -> None:
        await workflow.execute_activity_method(
            DistributionActivities.begin_distribution, self._task(), summary="release the money to the lines", **BATCH
        )

    async def _pay(self, progress: DistributionProgress) -> None:
        """All ranges, a few at a time, into wallets and then out; then the reconciliation: is anything left?"""
        await self._each_range(progress.lines, outside=False)
        if progress.outside:
            await self._each_range(progress.lines, outside=True)
        await self._finish()

    async def _each_range(self, lines: int, *, outside: bool) -> None:
        starts = range(1, lines + 1, LINES_PER_RANGE)
        for at in range(0, len(starts), RANGES_AT_ONCE):
            await asyncio.gather(
                *(self._pay_range(first, lines, outside=outside) for first in starts[at : at + RANGES_AT_ONCE])
            )

    async def _pay_range(self, first: int, lines: int, *, outside: bool) -> None:
        last = min(first + LINES_PER_RANGE - 1, lines)
        task = DistributionRange(
            scope=self._input.scope,
            distribution_id=self._input.distribution_id,
            first=first,
            last=last,
            as_of=self._time.now(),
        )
        if outside:
            await workflow.execute_activity_method(
                DistributionPayoutActivities.send_distribution_range,
                task,
                summary=f"send lines {first}–{last}",
                **BATCH,
            )
        else:
            await workflow.execute_activity_method(
                DistributionActivities.pay_distribution_range, task, summary=f"pay lines {first}–{last}", **BATCH
            )

    async def _check(self) -> None:
        """Ask the provider about what is due; then see whether that was the last of it."""
        await workflow.execute_activity_method(
            DistributionPayoutActivities.check_distribution_payouts,
            self._task(),
            summary="ask what became of the payouts",
            **BATCH,
        )
        await self._finish()

    async def _finish(self) -> None:
        await workflow.execute_activity_method(
            DistributionActivities.finish_distribution, self._task(), summary="compare lines and ledger", **BATCH
        )

    async def _pause(self, progress: DistributionProgress) -> None:
        """Sleep until somebody has news, or until it is time to look again (for the money, or at what was sent)."""
        timeout = self._time.until(progress.next_action_at) if progress.next_action_at else None
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._woken, timeout=timeout, timeout_summary="look for the money again"
            )

    @workflow.signal
    def changed(self) -> None:
        """Somebody changed the row: calculate, submitted, approved, rejected, canceled, funded, lines put back, or news of a
        payout."""
        self._woken = True

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
