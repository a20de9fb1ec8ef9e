"""Business time inside a workflow: the instant it was started for, plus workflow time elapsed since (DESIGN §2.18).

So a workflow started after a tenant's test clock moved is right at once, and one that is fast-forwarded stays right.
"""

from datetime import datetime, timedelta

from temporalio import workflow


class BusinessTime:
    """One workflow's clock. Make it in `__init__`, with the input's `as_of`."""

    def __init__(self, as_of: datetime) -> None:
        self._as_of, self._began = as_of, workflow.now()

    def now(self) -> datetime:
        """Business time now, UTC."""
        return self._as_of + (workflow.now() - self._began)

    def ahead(self) -> timedelta:
        """How far business time is ahead of the workflow's own time; the same until it catches up.

        What a query asks for: a query's `now()` is that of the workflow's last task, however long ago that was.
        """
        return self._as_of - self._began

    def catch_up(self, as_of: datetime) -> None:
        """A child or message has lived to `as_of`: never think it is earlier than that."""
        if as_of > self.now():
            self._as_of, self._began = as_of, workflow.now()

    def until(self, at: datetime) -> timedelta:
        """How long to sleep to reach `at`; at least a millisecond, so that a wait is always a real timer."""
        return max(at - self.now(), timedelta(milliseconds=1))
