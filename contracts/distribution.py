"""Messages of the distribution process (`workflows/distribution.py`). No message holds a list of lines."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Message, Scope
from domain.distribution import DistributionStatus


class DistributionStep(StrEnum):
    """What a run wants next."""

    CALCULATE = "calculate"
    BEGIN = "begin"
    PAY = "pay"
    CHECK = "check"
    """Nothing is left to send, and the provider is to be asked about what was sent."""
    WAIT = "wait"
    DONE = "done"


class DistributionInput(Message):
    """Starts a run's process, or continues it as new. `as_of`: business time at the start of this workflow run."""

    scope: Scope
    distribution_id: str
    as_of: datetime


class DistributionTask(Message):
    """One step of one run, at business time `as_of`."""

    scope: Scope
    distribution_id: str
    as_of: datetime


class DistributionRange(Message):
    """Lines `first`…`last` of a run, at business time `as_of`."""

    scope: Scope
    distribution_id: str
    first: int
    last: int
    as_of: datetime


class DistributionProgress(Message):
    """Where a run stands. `lines`: how many it has; `outside`: some may go out through providers; `next_action_at`: when a
    wait looks again by itself, if it does.

    `as_of`: the business time of the step, which is later than was asked for when a test clock stands there.
    """

    status: DistributionStatus
    step: DistributionStep
    lines: int
    outside: bool = False
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    as_of: datetime
