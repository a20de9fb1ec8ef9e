"""RefundWorkflow (`refund/<tenant>/<mode>/<ref_id>`): money back to where it came from.

    requested → pending ⇄ unknown → succeeded | failed

Started for money that arrived when nothing was owed any more (late success, wrong amount). A campaign's own refunds are
lines of its settlement, by the same activity.
"""

import asyncio
import contextlib
from datetime import timedelta
from typing import NoReturn

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.refunds import RefundActivities
    from contracts.payment import RefundInput, RefundProgress
    from domain.payment import RefundStatus
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import GATEWAY
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL.

MAX_STEPS = 400


@workflow.defn(name="RefundWorkflow")
class RefundWorkflow:
    """A refund is sent at most once; what the provider has not decided is looked up until it has."""

    @workflow.init
    def __init__(self, input: RefundInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False

    @workflow.run
    async def run(self, input: RefundInput) -> RefundStatus:
        """Send, then look up until it is final."""
        progress = await self._advance()
        for _ in range(MAX_STEPS):
            show(progress.status, next_action_at=progress.next_action_at)
            if progress.next_action_at is None:
                break
            if is_full():
                self._continue()
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._woken,
                    timeout=self._time.until(progress.next_action_at),
                    timeout_summary="look up the refund again",
                )
            self._woken = False
            progress = await self._advance()
        else:
            self._continue()
        await tell(input.scope, input.refund_id)
        return progress.status

    def _continue(self) -> NoReturn:
        """Go on in a new run, which begins by looking: a wake-up not yet answered is not lost."""
        workflow.continue_as_new(self._input.model_copy(update={"as_of": self._time.now()}))

    async def _advance(self) -> RefundProgress:
        return await workflow.execute_activity_method(
            RefundActivities.advance_refund,
            self._input.model_copy(update={"as_of": self._time.now()}),
            summary="send or look up the refund",
            **GATEWAY,
        )

    @workflow.signal
    def provider_reported(self) -> None:
        """A webhook about this refund came in."""
        self._woken = True

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
