"""CampaignWorkflow (`campaign/<tenant>/<mode>/<cmp_id>`): from submission to funded, or to everybody's money back.

    submitted ⇄ changes_requested
    submitted → (scheduled) → live ⇄ paused → (waiting_funds) → successful → settling → funded
            └→ rejected                                 └────→ failed → refunding → closed_failed

Commands (a review, a pause, another deadline, canceling) change the row and wake it.

It holds no list of investors and hears no signal per investor: the row's counters decide (DESIGN §4). Its timers are the
day it goes live, the deadline, the end of the window for slow money, and the day before the first card authorization
lapses. Each step reads the row under lock, asks `domain.campaign` and applies the answer in one transaction.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.campaigns import CampaignActivities
    from contracts.campaign import CampaignInput, CampaignProgress, CampaignTask, SettlementInput
    from contracts.ids import workflow_id
    from domain.campaign import CampaignStatus
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import LEDGER, WAIT_FOR_THE_OTHER
    from workflows.settlement import SettlementWorkflow
    from workflows.visibility import found_by, show

# Patches: continuing.CONTINUE_WHEN_FULL.

MAX_STEPS = 500
"""A further bound on one run; a year of renewing authorizations takes about 200."""


@workflow.defn(name="CampaignWorkflow")
class CampaignWorkflow:
    """The outcome is decided once, and every pledge follows it."""

    @workflow.init
    def __init__(self, input: CampaignInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False

    @workflow.run
    async def run(self, input: CampaignInput) -> CampaignStatus:
        """Step, settle, wait; until the campaign has nothing more to do by itself."""
        for _ in range(MAX_STEPS):
            progress = await self._advance()
            if progress.as_of is not None:
                self._time.catch_up(progress.as_of)
            show(progress.status, next_action_at=progress.next_action_at)
            if progress.finished:
                await tell(input.scope, input.campaign_id)
                return progress.status
            if progress.settlement_id is not None:
                await self._settle(progress)
            else:
                await self._pause(progress)
            if is_full():
                break
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(input.model_copy(update={"as_of": self._time.now()}))
        return None

    async def _advance(self) -> CampaignProgress:
        task = CampaignTask(scope=self._input.scope, campaign_id=self._input.campaign_id, as_of=self._time.now())
        return await workflow.execute_activity_method(
            CampaignActivities.advance_campaign, task, summary="apply what is due", **LEDGER
        )

    async def _settle(self, progress: CampaignProgress) -> None:
        """Carry the settlement out as a child; when it was carried out before (a run continued), its rows say so at once."""
        assert progress.settlement_id is not None
        scope = self._input.scope
        try:
            await workflow.execute_child_workflow(
                SettlementWorkflow.run,
                SettlementInput(
                    scope=scope,
                    settlement_id=progress.settlement_id,
                    lines=progress.settlement_lines,
                    as_of=self._time.now(),
                ),
                id=workflow_id("settlement", scope, progress.settlement_id),
                search_attributes=found_by(scope, progress.settlement_id),
                static_summary=f"settlement of {self._input.campaign_id}",
            )
        except WorkflowAlreadyStartedError:  # an operator put lines back just then, which started it anew
            await workflow.sleep(WAIT_FOR_THE_OTHER, summary="the settlement's process runs already")

    async def _pause(self, progress: CampaignProgress) -> None:
        """Sleep until the next due action, or until somebody has news."""
        timeout = self._time.until(progress.next_action_at) if progress.next_action_at else None
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=timeout, timeout_summary="next due action")
        self._woken = False

    @workflow.signal
    def reviewed(self) -> None:
        """An admin verified or rejected the campaign."""
        self._woken = True

    @workflow.signal
    def changed(self) -> None:
        """Its owner or an admin changed the row: submitted again, paused, resumed, canceled, or another deadline."""
        self._woken = True

    @workflow.signal
    def funding_changed(self) -> None:
        """Something about its money wants an earlier look: an authorization that lapses before the deadline, or the goal."""
        self._woken = True

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
