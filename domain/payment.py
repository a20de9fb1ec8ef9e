"""A payment (money in): the intent is what the payer wanted, each provider call about it is an attempt.

States after FEATURES (c). `succeeded`, `failed`, `canceled` and `expired` are terminal: a provider's later success opens
a case beside the payment and is refunded, it never moves the status.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from domain.states import Machine

WALLET = "wallet"
"""The provider name of money already held in the payer's own wallet."""


class PaymentStatus(StrEnum):
    """The intent's state, as it is on the wire."""

    CREATED = "created"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    REQUIRES_CAPTURE = "requires_capture"
    IN_REVIEW = "in_review"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


_P = PaymentStatus
_DEAD = frozenset({_P.FAILED, _P.CANCELED, _P.EXPIRED})

PAYMENT = Machine(
    "payment",
    {
        _P.CREATED: frozenset({_P.REQUIRES_ACTION, _P.PROCESSING, _P.REQUIRES_CAPTURE, _P.IN_REVIEW, _P.SUCCEEDED})
        | _DEAD,
        _P.REQUIRES_ACTION: frozenset({_P.PROCESSING, _P.REQUIRES_CAPTURE, _P.IN_REVIEW, _P.SUCCEEDED}) | _DEAD,
        _P.PROCESSING: frozenset({_P.REQUIRES_ACTION, _P.REQUIRES_CAPTURE, _P.IN_REVIEW, _P.SUCCEEDED}) | _DEAD,
        _P.REQUIRES_CAPTURE: frozenset({_P.SUCCEEDED, _P.IN_REVIEW}) | _DEAD,
        _P.IN_REVIEW: frozenset({_P.SUCCEEDED, _P.FAILED}),
    },
)
AWAITS_PROVIDER = frozenset({_P.CREATED, _P.REQUIRES_ACTION, _P.PROCESSING})
"""States in which a payment workflow is running and waits for the provider or the payer."""


class AttemptStatus(StrEnum):
    """One provider call's state. UNKNOWN blocks everything until a look-up or an operator answers."""

    STARTED = "started"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    UNKNOWN = "unknown"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    NOT_SENT = "not_sent"
    VOIDED = "voided"
    EXPIRED = "expired"
    INTEGRITY_FAILURE = "integrity_failure"


MAY_YET_BRING_MONEY = frozenset({AttemptStatus.PENDING, AttemptStatus.REQUIRES_ACTION})
"""An attempt in one of these whose payment has ended could not be stopped at its rail: it is looked for, see `next_late_look`."""


class RefundStatus(StrEnum):
    """A refund's state."""

    REQUESTED = "requested"
    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


REFUND_FAILED = "refund_failed"
"""Why a refund that the provider refused stands still, until its line is put back or somebody has paid it."""
REFUND_PENDING = "refund_pending"
"""Why a refund stands still that the provider does not decide: it says that it wants something, or two weeks are over."""
REFUND_PENDING_CHECKS = 41
"""So many look-ups (`next_check`) are two weeks; up to ten working days are usual."""
CAMPAIGN_FAILED = "campaign_failed"
"""The reason of refunds that a failed campaign owes its investors."""

_R = RefundStatus
_OPEN = frozenset({_R.PENDING, _R.UNKNOWN, _R.SUCCEEDED, _R.FAILED})
REFUND = Machine("refund", {_R.REQUESTED: _OPEN, _R.PENDING: _OPEN - {_R.PENDING}, _R.UNKNOWN: _OPEN - {_R.UNKNOWN}})
RETURNED_REFUND = Machine("returned refund", {_R.SUCCEEDED: frozenset({_R.FAILED})})
"""What the payer's bank may do to a refund that has ended well: give it back, days later. Nothing else moves one."""


class PaymentStep(StrEnum):
    """What a payment's process does next."""

    START = "start"
    """Make the first call to the provider."""
    WAIT = "wait"
    """Let the payer or the provider act; look up at the given time."""
    CAPTURE = "capture"
    VOID = "void"
    """Release what is held at the provider."""
    DONE = "done"


def next_step(
    *, status: PaymentStatus, attempt: AttemptStatus | None, capture_now: bool, cancel: bool, lapsed: bool
) -> PaymentStep:
    """What to do about a payment, from its own status and its newest attempt's.

    `cancel`: the payer or the campaign gave it up. `lapsed`: the payer's time to finish is over. An UNKNOWN attempt
    blocks everything but looking up (DESIGN §2.4). A dead payment whose attempt is still authorized (late success) is voided,
    and one whose attempt may yet bring money is looked up.
    """
    if attempt in (AttemptStatus.UNKNOWN, AttemptStatus.STARTED):
        return PaymentStep.WAIT
    if status is _P.CREATED:
        return PaymentStep.VOID if cancel else PaymentStep.START
    if status in AWAITS_PROVIDER:
        return PaymentStep.VOID if cancel or lapsed else PaymentStep.WAIT
    if status is _P.REQUIRES_CAPTURE:
        if cancel:
            return PaymentStep.VOID
        return PaymentStep.CAPTURE if capture_now else PaymentStep.DONE
    if attempt is AttemptStatus.AUTHORIZED or status is _P.IN_REVIEW:
        return PaymentStep.VOID
    return PaymentStep.WAIT if status in _DEAD and attempt in MAY_YET_BRING_MONEY else PaymentStep.DONE


PAY_WITHIN = timedelta(hours=24)
"""How long a payer has to finish on a hosted page before the intent expires."""
RENEWAL_MARGIN = timedelta(hours=12)
"""An authorization is renewed this long before it lapses."""

GIVE_UP_CHECKS = 14
"""After this many look-ups an UNKNOWN outcome is also put before a person (about 17 hours on)."""
# Slow to slow down in the first minutes: a payer waits, and an outage that is over should be over for them as well.
_UNKNOWN_CHECKS = tuple(
    timedelta(seconds=s) for s in (1, 2, 4, 8, 15, 15, 15, 30, 60, 300, 900, 3600, 14400, 43200)
)  # fmt: skip
_ACTION_CHECKS = tuple(timedelta(seconds=s) for s in (30, 120, 300, 900, 3600, 10800))


def next_check(checks: int, *, unknown: bool) -> timedelta:
    """How long to wait before look-up number `checks` (0-based).

    UNKNOWN outcomes are looked up soon and then ever more rarely, never given up: from `GIVE_UP_CHECKS` on a person is
    asked as well. A payment that waits for the payer or for slow money is polled too, because webhooks get lost.
    """
    schedule = _UNKNOWN_CHECKS if unknown else _ACTION_CHECKS
    return schedule[min(checks, len(schedule) - 1)]


_LATE_LOOKS = tuple(timedelta(hours=h) for h in (1, 3, 12))
LATE_LOOKS = 61
"""So many look-ups (`next_late_look`) are thirty days: longer than any transfer is on its way."""


def next_late_look(looks: int) -> timedelta | None:
    """How long to wait before look-up number `looks` (0-based) for slow money whose payment has ended.

    Nobody waits for it, and a webhook usually tells; None when it is not looked for any more.
    """
    return _LATE_LOOKS[min(looks, len(_LATE_LOOKS) - 1)] if looks < LATE_LOOKS else None


def matches_request(*, asked_minor: int, asked_currency: str, got_minor: int | None, got_currency: str | None) -> bool:
    """Amount integrity: what the provider reports is what was asked. A silent provider (None) is no match."""
    return got_minor == asked_minor and got_currency is not None and got_currency.upper() == asked_currency


def must_renew(*, authorized_until: datetime, deadline_at: datetime) -> bool:
    """Whether an authorization lapses before the campaign decides, and so must be renewed on the way."""
    return authorized_until - RENEWAL_MARGIN < deadline_at
