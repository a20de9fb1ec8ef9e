"""Applies what a provider says of a payment to everything that depends on it, in one transaction.

The only place where a provider's fact becomes money in the ledger, a status, a counter, a message. Whoever learned the
fact (the payment's own process, a webhook, a settlement line) calls `apply_fact` with the payment row locked, any number
of times: a fact already applied changes nothing, and a fact that comes too late opens a case instead of moving anything.
"""

from typing import Any, Final

from activities.book import Book
from activities.gateways.protocols import PaymentFact, RailAnswer
from activities.late_money import close_cases, integrity_failure, late_authorization, late_capture
from domain import accounts
from domain.investment import InvestmentStatus
from domain.payment import (
    PAY_WITHIN,
    RENEWAL_MARGIN,
    AttemptStatus,
    PaymentStatus,
    matches_request,
    must_renew,
)
from models import ledger
from models.base import update
from models.campaign import Campaign
from models.payment import change_payment, other_hold

_P, _A, _I = PaymentStatus, AttemptStatus, InvestmentStatus
_PLEDGE_ENDS: Final = {_P.FAILED: _I.FAILED, _P.CANCELED: _I.CANCELED, _P.EXPIRED: _I.EXPIRED}
_AWAITING: Final = (_P.CREATED, _P.REQUIRES_ACTION, _P.PROCESSING)


async def apply_fact(book: Book, answer: RailAnswer, *, dead_as: PaymentStatus = _P.CANCELED) -> None:
    """Apply one definite answer. `dead_as`: what the intent becomes if the provider says it was voided."""
    if answer.provider_id and book.attempt.provider_id is None:
        await book.change_attempt(provider_id=answer.provider_id)
    match answer.fact:
        case PaymentFact.REQUIRES_ACTION:
            await _requires_action(book, answer)
        case PaymentFact.PENDING:
            await _pending(book)
        case PaymentFact.AUTHORIZED:
            await _authorized(book, answer)
        case PaymentFact.CAPTURED:
            await _captured(book, answer)
        case PaymentFact.DECLINED:
            await _declined(book, answer.code or "declined")
        case PaymentFact.VOIDED:
            await _over(book, _A.VOIDED, dead_as, book.payment.cancel_reason or "voided")
        case PaymentFact.EXPIRED:
            await _over(book, _A.EXPIRED, _P.EXPIRED, "expired")
        case PaymentFact.ABSENT:
            pass


async def _requires_action(book: Book, answer: RailAnswer) -> None:
    """The payer has to act. The first next action is kept for good: a repeated request gets the same answer."""
    if book.payment.status not in _AWAITING:
        return
    await book.change_attempt(status=_A.REQUIRES_ACTION)
    changes: dict[str, Any] = {}
    if book.payment.next_action is None and answer.next_action is not None:
        changes["next_action"] = answer.next_action.model_dump(mode="json")
    if book.payment.expires_at is None:
        changes["expires_at"] = book.as_of + PAY_WITHIN
    if book.payment.status is not _P.REQUIRES_ACTION:
        await book.move_payment(_P.REQUIRES_ACTION, **changes)
    elif changes:
        await change_payment(book.tx, book.payment.id, **changes)
    await book.move_pledge(_I.AWAITING_PAYMENT)


async def _pending(book: Book) -> None:
    """The payer did his part; the rail takes its time."""
    if book.payment.status in _AWAITING:
        await book.change_attempt(status=_A.PENDING)
        await book.move_payment(_P.PROCESSING)
        await book.move_pledge(_I.AWAITING_PAYMENT)


def _as_asked(book: Book, answer: RailAnswer) -> bool:
    return matches_request(
        asked_minor=book.attempt.amount_minor,
        asked_currency=book.attempt.currency,
        got_minor=answer.amount_minor,
        got_currency=answer.currency,
    )


async def _authorized(book: Book, answer: RailAnswer) -> None:
    """The provider holds the money for us: a pending posting, resolved later by capture, void or expiry."""
    if book.attempt.held:
        if book.attempt.status is _A.UNKNOWN:  # a capture or void whose answer was lost did not happen
            await book.change_attempt(status=_A.AUTHORIZED)
        return
    if book.attempt.status in (_A.CAPTURED, _A.VOIDED, _A.INTEGRITY_FAILURE):
        return
    if not _as_asked(book, answer):
        await integrity_failure(book, answer)
    elif book.over_for_money:
        await late_authorization(book)
    else:
        await hold_authorization(book, answer)
        await book.move_payment(_P.REQUIRES_CAPTURE)
        await book.move_pledge(_I.HELD)
        if book.payment.capture == "deferred":
            await book.notify("pledge_held")
        await _wake_campaign_to_renew(book)


async def hold_authorization(book: Book, answer: RailAnswer) -> None:
    """Book the authorization as a hold, and remember how long it lasts and what can renew it."""
    hold = accounts.payment_authorized(
        book.hold_key, provider=book.attempt.provider, into=book.destination, amount=book.amount, as_of=book.as_of
    )
    await ledger.post(book.tx, hold)
    await book.change_attempt(status=_A.AUTHORIZED, held=True, reported_minor=answer.amount_minor)
    changes = {
        "authorized_until": book.as_of + book.lifetime,
        "instrument": answer.instrument or book.payment.instrument,
        "customer": answer.customer or book.payment.customer,
    }
    for name, value in changes.items():
        setattr(book.payment, name, value)
    await change_payment(book.tx, book.payment.id, **changes)


async def _wake_campaign_to_renew(book: Book) -> None:
    """The campaign must look earlier than it planned when this authorization lapses before it decides: until the window for
    slow money is over."""
    campaign, until = book.campaign, book.payment.authorized_until
    if campaign is None or until is None or campaign.goal_reached_at is not None:
        return
    if not must_renew(authorized_until=until, deadline_at=campaign.deadline_at + campaign.waiting):
        return
    if campaign.next_action_at is None or until - RENEWAL_MARGIN < campaign.next_action_at:
        await update(book.tx, Campaign, {"id": campaign.id}, {"next_action_at": until - RENEWAL_MARGIN})
        await book.signal("campaign", campaign.id, "funding_changed")


async def _captured(book: Book, answer: RailAnswer) -> None:
    """The money is with the provider, for us. Where it belongs depends on what the payment still is.

    What counts is what was really taken, which may be less than what was authorized.
    """
    if book.attempt.captured_minor:
        return
    if answer.captured_minor:
        answer = answer.model_copy(update={"amount_minor": answer.captured_minor})
    if not _as_asked(book, answer):
        await integrity_failure(book, answer)
    elif book.payment.cancel_reason is not None:
        await late_capture(book, answer)
    elif book.attempt.held:
        await ledger.post(book.tx, accounts.payment_captured(book.key("capture"), hold=book.hold_key, as_of=book.as_of))
        await _money_is_in(book, answer)
    elif book.over_for_money:
        await late_capture(book, answer)
    else:
        charge = accounts.payment_charged(
            book.key("capture"),
            provider=book.attempt.provider,
            into=book.destination,
            amount=book.amount,
            as_of=book.as_of,
        )
        await ledger.post(book.tx, charge)
        await _money_is_in(book, answer)


async def _money_is_in(book: Book, answer: RailAnswer) -> None:
    amount = book.attempt.amount_minor
    await book.change_attempt(status=_A.CAPTURED, held=False, captured_minor=amount, reported_minor=answer.amount_minor)
    await book.move_payment(_P.SUCCEEDED, captured_minor=amount)
    await book.move_pledge(_I.CAPTURED)
    await book.notify("receipt")


async def _declined(book: Book, code: str) -> None:
    """A refused card ends the payment, unless the payer is still at the form and may try another one there."""
    action = book.payment.next_action or {}
    if book.payment.status is _P.REQUIRES_ACTION and action.get("kind") == "client_token":
        await book.change_attempt(decline_code=code)
        return
    await book.change_attempt(decline_code=code)
    await _over(book, _A.DECLINED, _P.FAILED, code)


async def _over(book: Book, attempt: AttemptStatus, payment: PaymentStatus, code: str) -> None:
    """This attempt will bring no money: release its hold, and end the payment unless another attempt holds it."""
    if book.attempt.captured_minor:
        return
    if book.attempt.held:
        void = accounts.authorization_voided(book.key("void"), hold=book.hold_key, as_of=book.as_of)
        await ledger.post(book.tx, void)
    else:  # whatever its status is by now: the answer to its release may have been lost
        await close_cases(book, "released")
    await book.change_attempt(status=attempt, held=False)
    if await other_hold(book.tx, book.attempt):
        return
    if book.payment.status is _P.IN_REVIEW:
        payment, code = _P.FAILED, book.payment.error_code or code
    if await book.move_payment(payment, error_code=code):
        await book.move_pledge(_PLEDGE_ENDS[payment])
        await book.notify(f"payment_{payment}")


async def give_up(book: Book, status: PaymentStatus) -> None:
    """The payment ends although its rail cannot stop the attempt: that one stays open, and what it brings is late."""
    if await book.move_payment(status, error_code=book.payment.cancel_reason or "voided"):
        await book.move_pledge(_PLEDGE_ENDS[status])
        await book.notify(f"payment_{status}")


async def end_unsent(book: Book, status: PaymentStatus, code: str) -> None:
    """The payment ends although no provider ever heard of it (refused before it was sent, canceled at once)."""
    await book.change_attempt(status=_A.NOT_SENT)
    if await book.move_payment(status, error_code=code):
        await book.move_pledge(_PLEDGE_ENDS[status])
        await book.notify(f"payment_{status}")
