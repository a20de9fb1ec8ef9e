"""An investment (pledge): one investor's money in one campaign, from pledge to captured or back.

`held` and `captured` are where its own workflow ends; the campaign's settlement moves the held ones on.
"""

from enum import StrEnum

from domain.errors import Conflict, InvalidRequest
from domain.states import Machine


class InvestmentStatus(StrEnum):
    """The pledge's state (FEATURES (c))."""

    PLEDGED = "pledged"
    AWAITING_PAYMENT = "awaiting_payment"
    HELD = "held"
    CAPTURED = "captured"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    CREDITED_TO_WALLET = "credited_to_wallet"
    """Given back, by the investor's choice into the wallet here and not to where it was paid from."""


_I = InvestmentStatus
_DEAD = frozenset({_I.FAILED, _I.CANCELED, _I.EXPIRED})
INVESTMENT = Machine(
    "investment",
    {
        _I.PLEDGED: frozenset({_I.AWAITING_PAYMENT, _I.HELD, _I.CAPTURED}) | _DEAD,
        _I.AWAITING_PAYMENT: frozenset({_I.HELD, _I.CAPTURED}) | _DEAD,
        _I.HELD: frozenset({_I.CAPTURED, _I.AWAITING_PAYMENT}) | _DEAD,
        _I.CAPTURED: frozenset({_I.REFUNDING}),
        _I.REFUNDING: frozenset({_I.REFUNDED, _I.CREDITED_TO_WALLET, _I.CAPTURED}),
    },
)
RETURNED_PLEDGE = Machine("returned pledge", {_I.REFUNDED: frozenset({_I.CAPTURED})})
"""Only for a pledge whose refund the bank gave back (`domain.payment.RETURNED_REFUND`)."""
CANCELABLE = frozenset({_I.PLEDGED, _I.AWAITING_PAYMENT, _I.HELD})
COMMITTED = frozenset({_I.PLEDGED, _I.AWAITING_PAYMENT, _I.HELD, _I.CAPTURED})
"""States that count against the campaign's cap and the investor's own limit."""


class RefundTo(StrEnum):
    """Where a pledge's money goes, should it be given back: to where it was paid from, or into the investor's wallet."""

    SOURCE = "source"
    WALLET = "wallet"


REFUND_UNDECIDED = frozenset({_I.PLEDGED, _I.AWAITING_PAYMENT, _I.HELD, _I.CAPTURED})
"""States in which the investor may still choose where a refund goes: none has begun, and one may come."""


class Bucket(StrEnum):
    """Which of the campaign's three counters an investment stands in (DESIGN §9: raised money is counted once)."""

    PLEDGED = "pledged"
    HELD = "held"
    CAPTURED = "captured"


def bucket(status: InvestmentStatus) -> Bucket | None:
    """The counter for a status; None where the money no longer counts."""
    if status in (_I.PLEDGED, _I.AWAITING_PAYMENT):
        return Bucket.PLEDGED
    if status is _I.HELD:
        return Bucket.HELD
    return Bucket.CAPTURED if status is _I.CAPTURED else None


def check_ticket(
    *, amount_minor: int, currency: str, campaign_currency: str, min_ticket_minor: int, max_per_investor_minor: int | None,
    already_committed_minor: int, cap_minor: int, committed_minor: int,
) -> None:  # fmt: skip
    """Refuse a pledge that breaks the campaign's money terms. All amounts in minor units of the campaign's currency.

    Raises InvalidRequest `currency_mismatch`, `below_minimum`, and Conflict `investor_limit`, `campaign_full`, `over_cap`.
    """
    if currency != campaign_currency:
        raise InvalidRequest("currency_mismatch", f"This campaign raises {campaign_currency}.", field="currency")
    if amount_minor < min_ticket_minor:
        raise InvalidRequest(
            "below_minimum", f"The smallest investment is {min_ticket_minor} minor units.", field="amount"
        )
    if max_per_investor_minor is not None and already_committed_minor + amount_minor > max_per_investor_minor:
        raise Conflict("investor_limit", "This would exceed the limit per investor.", field="amount")
    left = cap_minor - committed_minor
    if left <= 0:
        raise Conflict("campaign_full", "The campaign is fully subscribed.")
    if amount_minor > left:
        raise Conflict("over_cap", f"Only {left} minor units are left.", field="amount")
