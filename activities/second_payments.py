"""A second payment under a reference of ours. We never ask for one: whatever made it, its money is not for us to keep.

It has no row and is not booked, so the auditor names it until it has gone back; a case does so at once.
"""

from datetime import datetime
from typing import Any

from activities.gateways.protocols import PaymentFact, RailAnswer
from contracts.base import Scope
from infra.database import Tx
from models.case import open_case, resolve_case
from models.payment import PaymentAttempt

KIND = "amount_mismatch"
_HAS_MONEY = (PaymentFact.AUTHORIZED, PaymentFact.CAPTURED)


def is_second(attempt: PaymentAttempt, answer: RailAnswer) -> bool:
    """Whether the provider tells of a payment that is not the attempt's, and carries its reference."""
    if None in (attempt.provider_id, answer.provider_id):
        return False
    return answer.provider_id != attempt.provider_id and answer.reference == attempt.reference


async def tell_of_second(tx: Tx, scope: Scope, attempt: PaymentAttempt, answer: RailAnswer, as_of: datetime) -> None:
    """Put a second payment that has money before a person, once; close the case when it has none any more.

    `answer`: what the provider says of that payment.
    """
    assert answer.provider_id is not None
    left = (answer.captured_minor or answer.amount_minor or 0) - answer.refunded_minor
    if answer.fact not in _HAS_MONEY or left <= 0:
        how = "refunded" if answer.fact in _HAS_MONEY else "released"
        await resolve_case(tx, scope, kind=KIND, subject_id=answer.provider_id, resolution=how, as_of=as_of)
        return
    detail: dict[str, Any] = {
        "fact": answer.fact,
        "reference": attempt.reference,
        "payment_id": attempt.payment_id,
        "asked_minor": 0,
        "reported_minor": left,
        "reported_currency": answer.currency,
    }
    await open_case(tx, scope, kind=KIND, subject_id=answer.provider_id, detail=detail, as_of=as_of)
