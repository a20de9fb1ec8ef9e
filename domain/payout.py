"""A payout: money of ours on its way to a beneficiary's own account, from whatever ledger account it leaves.

    awaiting_approval → approved → sending → succeeded → (returned)
            │              │  ⇅        └→ pending ⇄ unknown → succeeded | failed | returned
            └→ rejected    └→ canceled

States after FEATURES (c), which calls `approved` scheduled; `rejected` is an approver's no. Going back from `sending` to
`approved` is allowed only when it is certain that nothing was sent (the provider account held too little).
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from domain.errors import Conflict, Forbidden
from domain.payment import next_check
from domain.states import Machine

APPROVAL_WINDOW: Final = timedelta(hours=24)
"""What left the same account within it counts for the approval, so that an amount cut in pieces is still that amount."""


PENDING_CHECKS: Final = 19
"""So many look-ups (`domain.payment.next_check`) are three days: a transfer that is pending for longer is for a person to see."""


WAITS_AT_MOST: Final = timedelta(minutes=15)
"""Between two tries to send what the provider did not take: a top-up, or a key that was mended, is noticed by then."""


def try_again_after(checks: int, *, asked: timedelta) -> timedelta:
    """How long a provider that took nothing is left alone: ever longer up to `WAITS_AT_MOST`, and as long as it asked."""
    return max(min(next_check(checks, unknown=True), WAITS_AT_MOST), asked)


class PayoutStatus(StrEnum):
    """A payout's state, as it is on the wire."""

    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    RETURNED = "returned"


_P = PayoutStatus
_DECIDED = frozenset({_P.SUCCEEDED, _P.FAILED, _P.RETURNED})

PAYOUT: Final = Machine(
    "payout",
    {
        _P.AWAITING_APPROVAL: frozenset({_P.APPROVED, _P.REJECTED, _P.CANCELED}),
        _P.APPROVED: frozenset({_P.SENDING, _P.FAILED, _P.CANCELED}),
        _P.SENDING: frozenset({_P.APPROVED, _P.UNKNOWN, _P.PENDING}) | _DECIDED,
        _P.UNKNOWN: frozenset({_P.APPROVED, _P.PENDING}) | _DECIDED,
        _P.PENDING: _DECIDED,
        _P.SUCCEEDED: frozenset({_P.RETURNED}),
    },
)
ENDED: Final = frozenset({_P.SUCCEEDED, _P.FAILED, _P.CANCELED, _P.REJECTED, _P.RETURNED})
"""States in which nothing more is to be done by itself. A payout that succeeded may still be returned by the bank."""
CANCELABLE: Final = frozenset({_P.AWAITING_APPROVAL, _P.APPROVED})
"""States in which surely nothing was sent."""
NOT_SENT: Final = ENDED - {_P.SUCCEEDED}
"""It is over, and its money is on the account that it was to leave."""
LOOKED_UP: Final = frozenset({_P.PENDING, _P.SUCCEEDED, _P.FAILED})
"""States in which the provider has given its word: only looked up, never sent. One that it took back is news."""


def first_status(*, amount_minor: int, left_lately_minor: int, approval_minor: int) -> PayoutStatus:
    """Whether somebody else must approve: from `approval_minor` on, counted together with what left the same account lately."""
    over = amount_minor + left_lately_minor >= approval_minor
    return _P.AWAITING_APPROVAL if over else _P.APPROVED


def check_decision(status: PayoutStatus, *, requested_by: str, owner_id: str, decided_by: str) -> None:
    """An approval or rejection is by a second person, of a payout that waits for one.

    Raises Conflict `not_awaiting_approval` and Forbidden `cannot_approve_own`.
    """
    if decided_by in (requested_by, owner_id):
        raise Forbidden("cannot_approve_own", "A payout is approved or rejected by somebody else.")
    if status is not _P.AWAITING_APPROVAL:
        raise Conflict("not_awaiting_approval", "The payout does not wait for an approval.")


def check_cancelable(status: PayoutStatus) -> None:
    """Raises Conflict `payout_sent` once the provider may know of it, or it is over."""
    if status not in CANCELABLE:
        raise Conflict("payout_sent", "The payout is on its way, or over.")
