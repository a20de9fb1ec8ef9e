"""Webhooks that tell nothing new. Most events come after the answer to our own call, and say what it said.

An event stays a hint: nothing is ever applied from it. What it announces is only compared with what a look-up or an answer
has already proven, and where they agree, nobody needs to be asked again.
"""

from collections.abc import Mapping
from typing import Final

from activities.gateways import paystack_wire, stripe_wire
from activities.gateways.protocols import PaymentFact, PayoutFact
from domain.payment import AttemptStatus
from domain.payout import PayoutStatus
from models.payment import PaymentAttempt
from models.payout import Payout
from models.webhook import InboxEvent

_ANNOUNCED: Final[Mapping[str, Mapping[str, PaymentFact]]] = {
    "stripe": stripe_wire.ANNOUNCED,
    "paystack": paystack_wire.ANNOUNCED,
}
_ANNOUNCED_REFUNDS: Final[Mapping[str, frozenset[str]]] = {
    "stripe": stripe_wire.ANNOUNCED_REFUNDS,
    "paystack": paystack_wire.ANNOUNCED_REFUNDS,
}
_ANNOUNCED_PAYOUTS: Final[Mapping[str, Mapping[str, PayoutFact]]] = {"paystack": paystack_wire.ANNOUNCED_TRANSFERS}
_ENDED_BY: Final[Mapping[PayoutStatus, frozenset[PayoutFact]]] = {
    PayoutStatus.SUCCEEDED: frozenset({PayoutFact.SUCCEEDED}),
    PayoutStatus.FAILED: frozenset({PayoutFact.FAILED}),
    PayoutStatus.RETURNED: frozenset({PayoutFact.SUCCEEDED, PayoutFact.RETURNED}),
}
_COVERED: Final[Mapping[AttemptStatus, frozenset[PaymentFact]]] = {
    AttemptStatus.AUTHORIZED: frozenset({PaymentFact.AUTHORIZED}),
    AttemptStatus.CAPTURED: frozenset({PaymentFact.AUTHORIZED, PaymentFact.CAPTURED}),
    AttemptStatus.VOIDED: frozenset({PaymentFact.VOIDED}),
}
"""What an attempt in this state has been through."""


def tells_nothing_new(event: InboxEvent, attempt: PaymentAttempt) -> bool:
    """Whether the event announces what is known of this very attempt.

    False for every kind that could mean more (disputes, failures, a refund of money that is not all given back already), and
    for a payment the provider knows by another id: that would be a second one under our reference.
    """
    if event.provider_id is None or event.provider_id != attempt.provider_id:
        return False
    if event.kind in _ANNOUNCED_REFUNDS.get(event.provider, ()):
        return 0 < attempt.captured_minor == attempt.refunded_minor
    fact = _ANNOUNCED.get(event.provider, {}).get(event.kind)
    return fact is not None and fact in _COVERED.get(attempt.status, ())


def tells_nothing_new_of(event: InboxEvent, payout: Payout) -> bool:
    """The same for a payout. What is announced of one that has not ended, or that ended otherwise, is news."""
    fact = _ANNOUNCED_PAYOUTS.get(event.provider, {}).get(event.kind)
    same = event.provider_id is not None and event.provider_id == payout.provider_id
    return fact is not None and same and fact in _ENDED_BY.get(payout.status, ())


def is_about_refunds(event: InboxEvent) -> bool:
    """Whether the event is about a payment's refunds. Every provider says so in the event's name."""
    return "refund" in event.kind


def is_about_another(event: InboxEvent, attempt: PaymentAttempt) -> bool:
    """Whether the event, which names our reference, is about a payment that is not the attempt's: a second one under it."""
    return None not in (event.provider_id, attempt.provider_id) and event.provider_id != attempt.provider_id
