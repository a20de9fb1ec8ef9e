"""The refund process's activity."""

from temporalio import activity

from activities.errors import translated
from activities.refund_steps import RefundSteps
from contracts.payment import RefundInput, RefundProgress


class RefundActivities:
    """One step of one refund."""

    def __init__(self, steps: RefundSteps) -> None:
        self._steps = steps

    @activity.defn
    async def advance_refund(self, task: RefundInput) -> RefundProgress:
        """Send the refund, or look up what became of it."""
        async with translated():
            return await self._steps.advance(task.scope, task.refund_id, task.as_of)
