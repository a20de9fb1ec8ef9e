"""The payment process's activities: each is one step of `PaymentSteps`, or an operator's ruling."""

import structlog
from temporalio import activity

from activities.errors import translated
from activities.gateways.protocols import RailNotSent
from activities.notifications import NotificationActivities
from activities.payment_steps import PaymentSteps
from contracts.payment import PaymentProgress, PaymentTask, RulingTask
from domain.payment import PaymentStep

log = structlog.get_logger(__name__)


class PaymentActivities:
    """Steps of one payment. Every one may be repeated at any time.

    What can follow at once does: money authorized for a campaign that keeps what it raises is taken by the step that found
    it authorized, and the last step tells the people concerned. Both spare the process a step of its own; where they do
    not succeed at once, the process takes that step, with its retries.
    """

    def __init__(self, steps: PaymentSteps, notifications: NotificationActivities) -> None:
        self._steps, self._notifications = steps, notifications

    @activity.defn
    async def start_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Ask the provider for the payment."""
        async with translated():
            return await self._onward(task, await self._steps.start(task.scope, task.payment_id, task.as_of))

    @activity.defn
    async def check_attempt(self, task: PaymentTask) -> PaymentProgress:
        """Fetch the truth from the provider and apply it."""
        async with translated():
            return await self._onward(task, await self._steps.check(task.scope, task.payment_id, task.as_of))

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

    async def _onward(self, task: PaymentTask, progress: PaymentProgress) -> PaymentProgress:
        """Take authorized money that is to be taken now."""
        if progress.step is PaymentStep.CAPTURE:
            try:
                progress = await self._steps.capture(task.scope, task.payment_id, task.as_of)
            except RailNotSent as error:
                log.info("payment.capture_deferred", payment_id=task.payment_id, code=error.code)
        return await self._told(task, progress)

    async def _told(self, task: PaymentTask, progress: PaymentProgress) -> PaymentProgress:
        """Nothing more is to be done, or nothing but looking for slow money: then people need not wait for that."""
        if progress.step is not PaymentStep.DONE and not progress.late:
            return progress
        return progress.model_copy(
            update={"notices": not await self._notifications.send_at_once(task.scope, task.payment_id)}
        )
