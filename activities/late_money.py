"""Money nobody waits for any more, and money in the wrong amount: booked to suspense, put before a person, sent back.

A payment's status does not move for it (DESIGN §8): the case stands beside the terminal intent.
"""

from typing import Any

from activities.book import Book
from activities.gateways.protocols import PaymentFact, RailAnswer
from contracts.ids import refund_id
from contracts.payment import PaymentInput, RefundInput
from domain import accounts
from domain.investment import InvestmentStatus
from domain.money import Money
from domain.payment import PAYMENT, WALLET, AttemptStatus, PaymentStatus, RefundStatus
from models import ledger
from models.base import insert
from models.case import UNBOOKED, UNEXPECTED_MONEY, resolve_about
from models.payment import Refund

_A, _P = AttemptStatus, PaymentStatus


async def late_authorization(book: Book) -> None:
    """Authorized after the end: nothing is booked, the authorization is released by the payment's process."""
    await book.change_attempt(status=_A.AUTHORIZED)
    await _end_late(book)
    await _open(book, "late_success", {"fact": "authorized", "amount_minor": book.attempt.amount_minor})
    resume = PaymentInput(scope=book.scope, payment_id=book.payment.id, as_of=book.as_of, resume=True)
    await book.start("payment", "PaymentWorkflow", book.payment.id, resume, wake="provider_reported")


async def late_capture(book: Book, answer: RailAnswer) -> None:
    """Captured after the end, or although the payer had canceled: into suspense, and back to the payer."""
    await _end_late(book)
    await _open(book, "late_success", {"fact": "captured", "amount_minor": book.attempt.amount_minor})
    await _take_and_return(book, book.attempt.amount_minor, reason="late_success", status=_A.CAPTURED)


async def integrity_failure(book: Book, answer: RailAnswer) -> None:
    """The provider took or holds something else than was asked: never booked as the payment, always given back.

    Taken in another currency, or in an amount nobody tells, it cannot be booked at all: the payment fails, and a person
    gives it back at the provider and closes the case.
    """
    taken = answer.fact is PaymentFact.CAPTURED
    bookable = bool(answer.amount_minor) and (answer.currency or "").upper() == book.attempt.currency
    reported = (answer.amount_minor, answer.currency)
    over = book.attempt.status is _A.INTEGRITY_FAILURE and book.payment.status is not _P.IN_REVIEW
    told = (book.attempt.reported_minor, book.attempt.reported_currency) == reported
    if over and told and not (taken and bookable):  # what can be booked, and was only held when it was told, is
        return
    detail: dict[str, Any] = {
        "asked_minor": book.attempt.amount_minor,
        "asked_currency": book.attempt.currency,
        "reported_minor": answer.amount_minor,
        "reported_currency": answer.currency,
    }
    if taken and not bookable:
        await close_cases(book, "captured")  # where it was held before: this one is closed by hand
        detail[UNBOOKED] = True
    await _open(book, "amount_mismatch", detail)
    await book.change_attempt(
        status=_A.INTEGRITY_FAILURE, reported_minor=answer.amount_minor, reported_currency=answer.currency
    )
    await book.move_payment(_P.IN_REVIEW, error_code="amount_mismatch")
    if taken and answer.amount_minor and bookable:
        await _take_and_return(book, answer.amount_minor, reason="amount_mismatch", status=_A.INTEGRITY_FAILURE)
    elif taken:
        await _release_hold(book)
        await book.change_attempt(held=False)
    if taken:
        await _fail(book, "amount_mismatch")


async def _end_late(book: Book) -> None:
    """A payment that was canceled, or whose campaign closed, before its money came ends here; one that had ended stays as
    it was."""
    if PAYMENT.is_terminal(book.payment.status):
        return
    if book.payment.cancel_reason is None:
        await _fail(book, "campaign_closed")
    elif await book.move_payment(_P.CANCELED, error_code=book.payment.cancel_reason):
        await book.move_pledge(InvestmentStatus.CANCELED)


async def _fail(book: Book, code: str) -> None:
    if await book.move_payment(_P.FAILED, error_code=code):
        await book.move_pledge(InvestmentStatus.FAILED)
        await book.notify("payment_failed")


async def close_cases(book: Book, resolution: str) -> None:
    """What was opened about money in this attempt is settled: it has been released or refunded."""
    await resolve_about(book.tx, book.scope, [book.attempt.reference], UNEXPECTED_MONEY, resolution, book.as_of)


async def _open(book: Book, kind: str, detail: dict[str, Any]) -> None:
    await book.open_case(kind, again=UNBOOKED in detail, **detail)
    await book.story(f"case_{kind}", **detail)


async def _take_and_return(book: Book, amount_minor: int, *, reason: str, status: AttemptStatus) -> None:
    amount = Money(amount_minor, book.attempt.currency)
    taken = accounts.unexpected_money(
        book.key("capture"), provider=book.attempt.provider, amount=amount, as_of=book.as_of
    )
    await _release_hold(book)
    await ledger.post(book.tx, taken)
    await book.change_attempt(status=status, held=False, captured_minor=amount_minor)
    refund = await request_refund(book, accounts.suspense(amount.currency), amount, reason=reason)
    task = RefundInput(scope=book.scope, refund_id=refund.id, as_of=book.as_of)
    await book.start("refund", "RefundWorkflow", refund.id, task)


async def _release_hold(book: Book) -> None:
    """What was promised to the destination is not what was taken."""
    if book.attempt.held:
        void = accounts.authorization_voided(book.key("void"), hold=book.hold_key, as_of=book.as_of)
        await ledger.post(book.tx, void)


async def request_refund(
    book: Book,
    source: accounts.AccountSpec,
    amount: Money,
    *,
    reason: str,
    failed_before: int = 0,
    through: str | None = None,
) -> Refund:
    """Write a refund and reserve its money in the ledger before any provider is asked (DESIGN §2.5).

    One refund per attempt and reason: asking again finds it. `failed_before`: so many of them failed for good, and this
    is the next. `through`: the provider it goes back through, by default the one it came from; the wallet for a credit.
    """
    refund = Refund(
        tenant_id=book.scope.tenant_id,
        mode=book.scope.mode,
        id=refund_id(book.scope, book.attempt.reference, reason, failed_before),
        payment_id=book.payment.id,
        attempt_reference=book.attempt.reference,
        provider=through or book.attempt.provider,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        reason=reason,
        source_account=source.code,
        status=RefundStatus.REQUESTED,
        created_at=book.as_of,
    )
    if await insert(book.tx, refund, or_nothing=True):
        key = f"refund/{refund.id}/hold"
        if refund.provider == WALLET:
            hold = accounts.pledge_returned(
                key, user_id=book.payment.payer_id, source=source, amount=amount, as_of=book.as_of
            )
        else:
            hold = accounts.refund_requested(
                key, source=source, provider=refund.provider, amount=amount, as_of=book.as_of
            )
        await ledger.post(book.tx, hold)
        await book.story("refund_requested", refund_id=refund.id, reason=reason, amount_minor=amount.amount_minor)
    return refund
