"""MilestoneWorkflow (`milestones/<tenant>/<mode>/<cmp_id>`): a funded campaign's money, until it is released or back.

Its timers are the day a milestone without evidence is missed, the end of its investors' vote, and the end of the profit
period, when the campaign is completed. Each step reads the rows under lock and applies what is due. Money that goes back does
so in ranges of lines, which are rows (DESIGN §2.16). It ends when nothing will happen by itself any more; commands (evidence,
approvals, votes) change the rows and wake it, or start it once more.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.milestones import MilestoneActivities
    from contracts.milestone import MilestoneInput, MilestoneProgress, MilestoneStep, ReturnRange
    from domain.campaign import CampaignStatus
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.options import BATCH
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL.

LINES_PER_RANGE = 5_000


@workflow.defn(name="MilestoneWorkflow")
class MilestoneWorkflow:
    """What is not released is never lost: it waits, or goes back."""

    @workflow.init
    def __init__(self, input: MilestoneInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False

    @workflow.run
    async def run(self, input: MilestoneInput) -> CampaignStatus:
        """Step after step, until nothing will happen by itself."""
        while True:
            self._woken = False
            progress = await self._advance()
            self._time.catch_up(progress.as_of)
            show(progress.status, next_action_at=progress.next_action_at)
            if progress.step is MilestoneStep.DONE and not self._woken:
                await workflow.wait_condition(workflow.all_handlers_finished)
                return progress.status
            if progress.step is MilestoneStep.RETURN:
                await self._return(progress)
            elif progress.step is MilestoneStep.WAIT:
                await self._pause(progress)
            if is_full():
                break
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(input.model_copy(update={"as_of": self._time.now()}))
        return progress.status

    async def _advance(self) -> MilestoneProgress:
        task = self._input.model_copy(update={"as_of": self._time.now()})
        return await workflow.execute_activity_method(
            MilestoneActivities.advance_milestones, task, summary="apply what is due to the tranches", **BATCH
        )

    async def _return(self, progress: MilestoneProgress) -> None:
        """All ranges, one after the other: each takes from the same escrow."""
        assert progress.vote_id is not None
        for first in range(1, progress.lines + 1, LINES_PER_RANGE):
            last = min(first + LINES_PER_RANGE - 1, progress.lines)
            task = ReturnRange(
                scope=self._input.scope,
                campaign_id=self._input.campaign_id,
                vote_id=progress.vote_id,
                first=first,
                last=last,
                as_of=self._time.now(),
            )
            await workflow.execute_activity_method(
                MilestoneActivities.return_escrow_range, task, summary=f"return lines {first}–{last}", **BATCH
            )

    async def _pause(self, progress: MilestoneProgress) -> None:
        """Sleep until the next due date, or until somebody has news."""
        timeout = self._time.until(progress.next_action_at) if progress.next_action_at else None
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=timeout, timeout_summary="next due date")

    @workflow.signal
    def changed(self) -> None:
        """Somebody changed the rows: evidence, a review, a vote that decides, a release, or the campaign is completed."""
        self._woken = True

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
