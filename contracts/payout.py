"""Messages of the payout and beneficiary processes (`workflows/payout.py`, `workflows/beneficiary.py`)."""

from datetime import datetime

from contracts.base import Message, Scope
from domain.beneficiary import BeneficiaryStatus
from domain.payout import PayoutStatus


class PayoutInput(Message):
    """Starts a payout's process, and is each of its steps. `as_of`: business time."""

    scope: Scope
    payout_id: str
    as_of: datetime


class PayoutProgress(Message):
    """Where a payout stands after a step.

    `next_action_at` (business time): when to send or look up again; None with `ended` False means only a message can help.
    """

    status: PayoutStatus
    ended: bool
    next_action_at: datetime | None = None
    blocked_reason: str | None = None


class BeneficiaryInput(Message):
    """Starts the check of a beneficiary, and is its one step."""

    scope: Scope
    beneficiary_id: str
    as_of: datetime


class BeneficiaryProgress(Message):
    """What the check found."""

    status: BeneficiaryStatus
