"""Messages of the test clock (`workflows/clock.py`)."""

from datetime import datetime

from contracts.base import Message, Scope


class AdvanceInput(Message):
    """Move the scope's test clock to `target` (business time, UTC)."""

    scope: Scope
    target: datetime


class AdvanceProgress(Message):
    """Where the clock stands; `steps` actions were carried out on the way."""

    now: datetime
    steps: int
    arrived: bool
