"""Telling people: what the money steps queued is sent once the money is settled, and an announcement at once.

`NoticesWorkflow` (`notices/<tenant>/<mode>/<occasion>`) is for what no money process ends with (an update to a campaign's
investors, another deadline: the command has queued the messages as rows), and for what a money process could not send in a
moment: money does not wait for mail.
"""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.notifications import NotificationActivities
    from contracts.base import Scope
    from contracts.inbox import NotificationTask
    from workflows.options import BATCH, NOTIFY


async def tell(scope: Scope, subject_id: str) -> None:
    """Send what is queued about `subject_id` if that takes a moment; what does not is handed to a `NoticesWorkflow`.

    It never fails the process the money is in. Cancellation still passes through.
    """
    try:
        await workflow.execute_activity_method(
            NotificationActivities.send_notifications,
            NotificationTask(scope=scope, subject_id=subject_id, hand_over=True),
            summary="tell the people concerned",
            **NOTIFY,
        )
    except ActivityError as error:
        if workflow.cancellation_reason() is not None:
            raise
        workflow.logger.warning("notices of %s were not sent: %s", subject_id, error.cause)


@workflow.defn(name="NoticesWorkflow")
class NoticesWorkflow:
    """However many messages, for as long as it takes."""

    @workflow.run
    async def run(self, input: NotificationTask) -> int:
        """Send every queued message about the subject; how many the last try sent."""
        return await workflow.execute_activity_method(
            NotificationActivities.send_notifications, input, summary="tell everybody concerned", **BATCH
        )
