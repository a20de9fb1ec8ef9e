"""A payment's attempts at a provider: their references, what is asked, and what became of a start nobody answered."""

from datetime import datetime

from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentRail,
    RailAnswer,
    RailUnknown,
    Resolution,
)
from contracts.base import Scope
from contracts.ids import attempt_key, provider_key
from domain.payment import AttemptStatus
from infra.database import Tx
from models.base import insert
from models.effect import Claim
from models.payment import Payment, PaymentAttempt, change_payment
from models.user import get_user


async def resolve_start(rail: PaymentRail, order: PaymentOrder, found: Claim) -> RailAnswer | None:
    """What became of a start whose answer was lost; None permits to send it (again).

    While the rail remembers its keys, the identical request is the look-up. Afterwards, and on rails without keys, our
    reference is looked up. Raises RailUnknown while an absence proves nothing: within the rail's grace period after the
    last time it was sent. A hosted page moves no money by itself: where the reference is unique it may be asked for again
    at once, and a payer need not wait.
    """
    able = rail.capabilities
    if able.resolution is Resolution.REPLAY and found.known_seconds < able.replay_lifetime.total_seconds():
        return None
    answer = await rail.look_up(reference=order.reference, provider_id=None)
    if answer.fact is not PaymentFact.ABSENT:
        return answer
    harmless = able.unique_reference and order.instrument is None
    if found.age_seconds < able.not_found_grace.total_seconds() and not harmless:
        raise RailUnknown("absent_within_grace")
    return None


async def add_attempt(tx: Tx, scope: Scope, payment: Payment, as_of: datetime) -> PaymentAttempt:
    """A new attempt under the next ordinal, its reference fixed before any call. The payment's row is locked."""
    ordinal = payment.attempts + 1
    attempt = PaymentAttempt(
        tenant_id=scope.tenant_id,
        mode=scope.mode,
        reference=f"ch-{provider_key(f'{scope}/{payment.id}/{ordinal}', length=32)}",
        payment_id=payment.id,
        ordinal=ordinal,
        provider=payment.provider,
        status=AttemptStatus.STARTED,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        started_at=as_of,
    )
    await insert(tx, attempt)
    await change_payment(tx, payment.id, attempts=ordinal)
    payment.attempts = ordinal
    return attempt


async def order_for(tx: Tx, payment: Payment, attempt: PaymentAttempt, rail: PaymentRail) -> PaymentOrder:
    """What to ask the rail for. The same attempt always gives the same order, or a replay would be refused."""
    payer = await get_user(tx, payment.payer_id)
    assert payer is not None
    renewal = attempt.ordinal > 1
    return PaymentOrder(
        reference=attempt.reference,
        key=provider_key(attempt_key(attempt.reference, "start")),
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        capture_now=not rail.capabilities.authorize,
        payer_email=payer.email,
        return_url=payment.return_url,
        instrument=payment.instrument,
        customer=payment.customer if renewal else None,
        off_session=renewal,
        save_instrument=payment.capture == "deferred" and rail.capabilities.saved_instrument and not renewal,
        description=f"{payment.purpose} {payment.subject_id}",
    )
