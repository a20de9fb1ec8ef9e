"""PaymentWorkflow (`payment/<tenant>/<mode>/<pay_id>`): one payer's money, from intent to a definite end.

    created → requires_action ⇄ processing → requires_capture → succeeded
                     └──────────┴───────────────┴──→ failed | canceled | expired

Who speaks to it: the webhook endpoint (`provider_reported`), the payer or the campaign (`cancel_requested`), an operator
(`outcome_ruled`). Messages carry no facts: facts are in the payment's row, and every step reads it under lock. An outcome
the provider did not tell us is UNKNOWN and only looked up until it is known (DESIGN §2.4).

A deferred payment ends here at `requires_capture`; the campaign's settlement captures or voids it later. Whatever must be
done about a payment afterwards (cancel a held pledge, void a late authorization) starts this workflow again with `resume`.
Slow money that could not be stopped is looked for after the payment's end, by a run nobody waits for (`late`).
"""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.payments import PaymentActivities
    from contracts.payment import PaymentInput, PaymentProgress, PaymentResult, PaymentTask, Ruling, RulingTask
    from domain.payment import PaymentStep
    from workflows.business_time import BusinessTime
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import GATEWAY, LEDGER
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL, LEAVE_LATE_MONEY.

LEAVE_LATE_MONEY: Final = "leave-late-money"
"""The patch's name: a run begun before it keeps its parent waiting until slow money nobody wants any more is decided."""
MAX_STEPS = 400
"""A further bound on one run: a payment polled for its whole day takes some twenty steps."""


@workflow.defn(name="PaymentWorkflow")
class PaymentWorkflow:
    """Money is taken at most once, and released at most once; an unknown outcome is never acted upon."""

    @workflow.init
    def __init__(self, input: PaymentInput) -> None:
        self._input = input
        self._time = BusinessTime(input.as_of)
        self._woken = input.woken
        self._ruling = input.ruling

    @workflow.run
    async def run(self, input: PaymentInput) -> PaymentResult:
        """Step until the payment wants nothing more."""
        progress = await (self._load() if input.resume else self._start())
        for _ in range(MAX_STEPS):
            show(progress.status, next_action_at=progress.next_action_at, blocked=progress.blocked_reason)
            if is_full():
                break
            if progress.step is not PaymentStep.DONE and not self._is_for_a_late_run(progress):
                progress = await self._next(progress)
                continue
            await workflow.wait_condition(workflow.all_handlers_finished)
            if progress.notices:
                await tell(self._input.scope, self._input.payment_id)
            if not self._woken:
                return PaymentResult(status=progress.status, as_of=self._time.now(), late=progress.late)
            progress = await self._check()  # somebody spoke while this was ending: neither a cancel nor money is lost
        await workflow.wait_condition(workflow.all_handlers_finished)
        unheard = {"woken": self._woken, "ruling": self._ruling}
        workflow.continue_as_new(input.model_copy(update={"as_of": self._time.now(), "resume": True, **unheard}))
        return None

    def _is_for_a_late_run(self, progress: PaymentProgress) -> bool:
        """Whether only late money is waited for, while somebody waits for this run: that one begins another for it."""
        waited_for = workflow.info().parent is not None and not self._input.late
        return progress.late and waited_for and workflow.patched(LEAVE_LATE_MONEY)

    async def _next(self, progress: PaymentProgress) -> PaymentProgress:
        """Wait if the step says so, then take it."""
        if progress.next_action_at is not None:
            await self._pause(progress.next_action_at)
        if self._ruling is not None:
            return await self._rule(self._ruling)
        match progress.step:
            case PaymentStep.START:
                return await self._start()
            case PaymentStep.CAPTURE:
                return await self._capture()
            case PaymentStep.VOID:
                return await self._void()
            case _:
                return await self._check()

    async def _pause(self, until: datetime) -> None:
        """Sleep until `until`, or until somebody has news."""
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(
                lambda: self._woken or self._ruling is not None,
                timeout=self._time.until(until),
                timeout_summary="look up the payment again",
            )
        self._woken = False

    async def _start(self) -> PaymentProgress:
        return await workflow.execute_activity_method(
            PaymentActivities.start_attempt, self._task(), summary="ask the provider for the payment", **GATEWAY
        )

    async def _check(self) -> PaymentProgress:
        self._woken = False
        return await workflow.execute_activity_method(
            PaymentActivities.check_attempt, self._task(), summary="look up the truth at the provider", **GATEWAY
        )

    async def _capture(self) -> PaymentProgress:
        return await workflow.execute_activity_method(
            PaymentActivities.capture_attempt, self._task(), summary="take the authorized money", **GATEWAY
        )

    async def _void(self) -> PaymentProgress:
        return await workflow.execute_activity_method(
            PaymentActivities.void_attempt, self._task(), summary="release what is held", **GATEWAY
        )

    async def _load(self) -> PaymentProgress:
        return await workflow.execute_activity_method(
            PaymentActivities.load_payment, self._task(), summary="read where the payment stands", **LEDGER
        )

    async def _rule(self, ruling: Ruling) -> PaymentProgress:
        self._ruling = None
        task = RulingTask(
            scope=self._input.scope, payment_id=self._input.payment_id, as_of=self._time.now(), ruling=ruling
        )
        return await workflow.execute_activity_method(
            PaymentActivities.apply_ruling, task, summary="apply the operator's ruling", **LEDGER
        )

    def _task(self) -> PaymentTask:
        return PaymentTask(scope=self._input.scope, payment_id=self._input.payment_id, as_of=self._time.now())

    @workflow.signal
    def provider_reported(self) -> None:
        """A webhook about this payment came in: look the truth up."""
        self._woken = True

    @workflow.signal
    def cancel_requested(self) -> None:
        """The payment's row now carries a reason to cancel."""
        self._woken = True

    @workflow.signal
    def outcome_ruled(self, ruling: Ruling) -> None:
        """An operator answers what no look-up could."""
        self._ruling = ruling

    @workflow.query
    def ahead(self) -> timedelta:
        """How far its business time is ahead of its own, for the test clock."""
        return self._time.ahead()
