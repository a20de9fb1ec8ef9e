"""PayoutWorkflow (`payout/<tenant>/<mode>/<pyo_id>`): money to a beneficiary, from its request to a definite end.

    awaiting_approval → approved → sending → pending ⇄ unknown → succeeded → (returned) | failed | canceled | rejected

Who speaks to it: the API when somebody decided or canceled (`payout_changed`), the webhook endpoint (`provider_reported`).
Messages carry no facts: the row does, and every step reads it under lock. It ends with the payout; what comes later (a bank
that returns the money) starts it again.
"""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import NoReturn

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.payouts import PayoutActivities
    from contracts.payout import PayoutInput, PayoutProgress
    from domain.payout import PayoutStatus
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import GATEWAY
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL.

MAX_STEPS = 400


@workflow.defn(name="PayoutWorkflow")
class PayoutWorkflow:
    """Sent at most once; what the provider has not decided is looked up until it has."""

    @workflow.init
    def __init__(self, input: PayoutInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = False

    @workflow.run
    async def run(self, input: PayoutInput) -> PayoutStatus:
        """Step until the payout has ended and nobody has anything to say about it."""
        progress = await self._advance()
        for _ in range(MAX_STEPS):
            show(progress.status, next_action_at=progress.next_action_at, blocked=progress.blocked_reason)
            if is_full():
                self._continue()
            if not progress.ended:
                await self._pause(progress.next_action_at)
                progress = await self._advance()
                continue
            await tell(self._input.scope, self._input.payout_id)
            if not self._woken:
                return progress.status
            progress = await self._advance()
        self._continue()
        return None

    def _continue(self) -> NoReturn:
        """Go on in a new run, which begins by looking: a wake-up not yet answered is not lost."""
        workflow.continue_as_new(self._input.model_copy(update={"as_of": self._time.now()}))

    async def _pause(self, until: datetime | None) -> None:
        """Sleep until `until` (None: for as long as it takes), or until somebody has news."""
        timeout: timedelta | None = self._time.until(until) if until is not None else None
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._woken, timeout=timeout, timeout_summary="send or look up the payout again"
            )

    async def _advance(self) -> PayoutProgress:
        self._woken = False
        return await workflow.execute_activity_method(
            PayoutActivities.advance_payout,
            self._input.model_copy(update={"as_of": self._time.now()}),
            summary="send or look up the payout",
            **GATEWAY,
        )

    @workflow.signal
    def provider_reported(self) -> None:
        """A webhook about this payout came in."""
        self._woken = True

    @workflow.signal
    def payout_changed(self) -> None:
        """The payout's row says something new: it was approved, rejected or canceled, or somebody wants it looked at."""
        self._woken = True

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
