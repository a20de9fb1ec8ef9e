"""The payment process's activities: each is one step of `PaymentSteps`, or an operator's ruling."""

from temporalio import activity

from activities.errors import translated
from activities.notifications import NotificationActivities
from activities.payment_steps import PaymentSteps
from contracts.payment import PaymentProgress, PaymentTask, RulingTask
from domain.payment import PaymentStep


class PaymentActivities:
    """Steps of one payment. Every one may be repeated at any time.

    The last step also tells the people concerned, where that takes no time: it spares most processes a step of their own.
    """

    def __init__(self, steps: PaymentSteps, notifications: NotificationActivities) -> None:
        self._steps, self._notifications = steps, notifications

    @activity.defn
    async def start_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Ask the provider for the payment."""
        async with translated():
            return await self._told(task, await self._steps.start(task.scope, task.payment_id, task.as_of))

    @activity.defn
    async def check_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Fetch the truth from the provider and apply it."""
        async with translated():
            return await self._told(task, await self._steps.check(task.scope, task.payment_id, task.as_of))

    @activity.defn
    async def capture_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Take the authorized money."""
        async with translated():
            return await self._told(task, await self._steps.capture(task.scope, task.payment_id, task.as_of))

    @activity.defn
    async def void_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Release what the provider holds."""
        async with translated():
            return await self._told(task, await self._steps.void(task.scope, task.payment_id, task.as_of))

    @activity.defn
    async def load_payment(self, task: PaymentTask) -> PaymentProgress:
        """Read where the payment stands."""
        async with translated():
            return await self._steps.load(task.scope, task.payment_id, task.as_of)

    @activity.defn
    async def apply_ruling(self, task: RulingTask) -> PaymentProgress:
        """Apply an operator's answer about an unknown outcome."""
        async with translated():
            return await self._steps.rule(task.scope, task.payment_id, task.as_of, task.ruling)

    async def _told(self, task: PaymentTask, progress: PaymentProgress) -> PaymentProgress:
        if progress.step is not PaymentStep.DONE:
            return progress
        return progress.model_copy(
            update={"notices": not await self._notifications.send_at_once(task.scope, task.payment_id)}
        )
