"""The payout process's activity."""

from temporalio import activity

from activities.errors import translated
from activities.payout_steps import PayoutSteps
from contracts.payout import PayoutInput, PayoutProgress


class PayoutActivities:
    """One step of one payout."""

    def __init__(self, steps: PayoutSteps) -> None:
        self._steps = steps

    @activity.defn
    async def advance_payout(self, task: PayoutInput) -> PayoutProgress:
        """Send the payout, look up what became of it, or report where it stands."""
        async with translated():
            return await self._steps.advance(task.scope, task.payout_id, task.as_of)
