"""InvestmentWorkflow (`investment/<tenant>/<mode>/<inv_id>`): one pledge, until its money is held, taken or gone.

    pledged → awaiting_payment → held | captured | failed | canceled | expired

The request has already reserved the amount under the campaign's cap. The payment is a child process; its steps move the
investment's row and the campaign's counters in the same transaction as the money. What is `held` when this process ends
is captured or released by the campaign's settlement.
"""

import contextlib
from typing import Final

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from contracts.ids import workflow_id
    from contracts.investment import InvestmentInput, InvestmentResult
    from contracts.payment import PaymentInput, PaymentResult
    from domain.investment import InvestmentStatus
    from domain.payment import PaymentStatus
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import WAIT_FOR_THE_OTHER
    from workflows.payment import PaymentWorkflow
    from workflows.visibility import found_by, show

# Patches: continuing.CONTINUE_WHEN_FULL. A payment's result is `late` only behind payment.LEAVE_LATE_MONEY.

MAX_WAITS: Final = 500
"""Longer than any payment waits for its payer."""

_ENDS: Final = {
    PaymentStatus.REQUIRES_CAPTURE: InvestmentStatus.HELD,
    PaymentStatus.SUCCEEDED: InvestmentStatus.CAPTURED,
    PaymentStatus.CANCELED: InvestmentStatus.CANCELED,
    PaymentStatus.EXPIRED: InvestmentStatus.EXPIRED,
}


@workflow.defn(name="InvestmentWorkflow")
class InvestmentWorkflow:
    """Every pledge ends held, captured, or released from the campaign's counters; never in between."""

    @workflow.init
    def __init__(self, input: InvestmentInput) -> None:
        self._input = input

    @workflow.run
    async def run(self, input: InvestmentInput) -> InvestmentResult:
        """Collect the payment, unless the wallet has paid already; then tell the investor."""
        status = input.settled_as or await self._collect()
        show(status)
        if input.notices:
            await tell(input.scope, input.investment_id)
        return InvestmentResult(status=status)

    async def _collect(self) -> InvestmentStatus:
        show(InvestmentStatus.AWAITING_PAYMENT)
        scope, payment_id = self._input.scope, self._input.payment_id
        for _ in range(MAX_WAITS):
            try:
                result = await workflow.execute_child_workflow(
                    PaymentWorkflow.run,
                    PaymentInput(scope=scope, payment_id=payment_id, as_of=self._input.as_of),
                    id=workflow_id("payment", scope, payment_id),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    search_attributes=found_by(scope, payment_id),
                    static_summary=f"payment {payment_id}",
                )
            except WorkflowAlreadyStartedError:
                # A cancel overtook this start and runs the payment's process already; ours finds what it left.
                await workflow.sleep(WAIT_FOR_THE_OTHER, summary="the payment's process runs already")
                if is_full():
                    workflow.continue_as_new(self._input)
            else:
                if result.late:
                    await self._look_for_late_money(result)
                return _ENDS.get(result.status, InvestmentStatus.FAILED)
        raise ApplicationError("the payment's process never ended", type="payment_busy", non_retryable=True)

    async def _look_for_late_money(self, result: PaymentResult) -> None:
        """The pledge has ended; its slow money may take weeks, and goes back: the payment's process goes on without us."""
        scope, payment_id = self._input.scope, self._input.payment_id
        with contextlib.suppress(WorkflowAlreadyStartedError):  # somebody has resumed it already
            await workflow.start_child_workflow(
                PaymentWorkflow.run,
                PaymentInput(scope=scope, payment_id=payment_id, as_of=result.as_of, resume=True, late=True),
                id=workflow_id("payment", scope, payment_id),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=found_by(scope, payment_id),
                static_summary=f"late money of payment {payment_id}",
            )
