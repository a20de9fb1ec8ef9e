"""Messages of the payment and refund processes (`workflows/payment.py`, `workflows/refund.py`)."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from contracts.base import Message, Scope
from domain.payment import PaymentStatus, PaymentStep, RefundStatus


class NextAction(Message):
    """What the payer must do next: open `redirect_url`, or finish with the provider's client library and `client_token`."""

    kind: Literal["redirect", "client_token"]
    redirect_url: str | None = None
    client_token: str | None = Field(default=None, repr=False)


class RulingOutcome(StrEnum):
    """An operator's answer about an unknown outcome."""

    CHARGED = "charged"
    NOT_CHARGED = "not_charged"


class Ruling(Message):
    """A named operator says what happened where no look-up could."""

    outcome: RulingOutcome
    operator_id: str
    reason: str


class PaymentInput(Message):
    """Starts a payment's process. `as_of`: business time at the start.

    `resume`: the payment already has a history (it ended held, or dead) and something new must be done about it; the
    process reads where it stands instead of starting an attempt.

    `woken` and `ruling`: messages the run before this one had heard, but not yet acted upon when it continued as new.

    `late`: the payment has ended, and nobody waits for this process, which looks for its slow money.
    """

    scope: Scope
    payment_id: str
    as_of: datetime
    resume: bool = False
    woken: bool = False
    ruling: Ruling | None = None
    late: bool = False


class PaymentTask(Message):
    """One step of one payment, at business time `as_of`."""

    scope: Scope
    payment_id: str
    as_of: datetime


class PaymentProgress(Message):
    """Where a payment stands after a step, and what its process does next.

    `next_action_at` (business time) is when to do `step`; None with `step` WAIT means only a message can help.
    `notices`: whether messages to people may wait to be sent; after the last step, False when they went out with it.
    `late`: the payment has ended; it waits only for slow money that could not be stopped, and goes back if it comes.
    """

    status: PaymentStatus
    step: PaymentStep
    next_action_at: datetime | None = None
    blocked_reason: str | None = None
    notices: bool = True
    late: bool = False


class PaymentResult(Message):
    """How the process ended. `as_of`: its business time then. `late`: its slow money is still to be looked for."""

    status: PaymentStatus
    as_of: datetime
    late: bool = False


class RulingTask(Message):
    """Apply a ruling to a payment."""

    scope: Scope
    payment_id: str
    as_of: datetime
    ruling: Ruling


class RefundInput(Message):
    """Starts a refund's process, and is each of its steps."""

    scope: Scope
    refund_id: str
    as_of: datetime


class RefundProgress(Message):
    """Where a refund stands. Open ones are looked up again at `next_action_at`."""

    status: RefundStatus
    next_action_at: datetime | None = None
