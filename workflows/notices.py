"""Telling people: what the money steps queued is sent once the money is settled, and an announcement at once.

`NoticesWorkflow` (`notices/<tenant>/<mode>/<subject id>`) is for what no money process ends with: an update to a
campaign's investors, another deadline. The command has queued the messages as rows.
"""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.notifications import NotificationActivities
    from contracts.base import Scope
    from contracts.inbox import NotificationTask
    from workflows.options import BATCH, NOTIFY


async def tell(scope: Scope, subject_id: str) -> None:
    """Send every queued message about `subject_id`.

    A mail server that stays down for an hour leaves the messages visible in their table as `failed` or `sending`; it
    never fails the process the money is in. Cancellation still passes through.
    """
    try:
        await workflow.execute_activity_method(
            NotificationActivities.send_notifications,
            NotificationTask(scope=scope, subject_id=subject_id),
            summary="tell the people concerned",
            **NOTIFY,
        )
    except ActivityError as error:
        if workflow.cancellation_reason() is not None:
            raise
        workflow.logger.warning("notices of %s were not sent: %s", subject_id, error.cause)


@workflow.defn(name="NoticesWorkflow")
class NoticesWorkflow:
    """One announcement to however many people."""

    @workflow.run
    async def run(self, input: NotificationTask) -> int:
        """Send every queued message about the subject; how many the last pass sent."""
        return await workflow.execute_activity_method(
            NotificationActivities.send_notifications, input, summary="tell everybody concerned", **BATCH
        )
