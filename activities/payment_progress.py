"""Where a payment stands after a step: what its process does next, and when; written down with the step."""

from datetime import datetime

from activities.book import Book, unknown_attempt
from contracts.payment import PaymentProgress
from domain.campaign import TAKES_MONEY
from domain.payment import (
    AWAITS_PROVIDER,
    GIVE_UP_CHECKS,
    PAYMENT,
    AttemptStatus,
    PaymentStatus,
    PaymentStep,
    next_check,
    next_late_look,
    next_step,
)
from models.case import resolve_case
from models.payment import change_payment


async def progress_of(book: Book) -> PaymentProgress:
    """Decide the next step and when, and write it down for operators and the test clock."""
    tx, payment, attempt, as_of = book.tx, book.payment, book.attempt, book.as_of
    unknown = unknown_attempt(attempt)
    action = payment.status is PaymentStatus.REQUIRES_ACTION
    step = next_step(
        status=payment.status,
        attempt=attempt.status,
        capture_now=payment.capture == "immediate",
        cancel=payment.cancel_reason is not None or _unwanted(book),
        lapsed=action and payment.expires_at is not None and payment.expires_at <= as_of,
    )
    late = step is PaymentStep.WAIT and not unknown and PAYMENT.is_terminal(payment.status)
    if late and next_late_look(payment.checks) is None:
        await _stop_looking(book)
        step, late = PaymentStep.DONE, False
    blocked, at, checks = None, None, 0
    if step is PaymentStep.WAIT:
        checks = payment.checks + 1
        at = as_of + ((late and next_late_look(payment.checks)) or next_check(payment.checks, unknown=unknown))
        if action and not unknown and payment.expires_at is not None:
            at = min(at, payment.expires_at)
        if unknown and checks > GIVE_UP_CHECKS:
            blocked = "unknown_outcome"
            await book.open_case("unknown_outcome", payment_id=payment.id, checks=checks)
    if payment.blocked_reason is not None and blocked is None:
        await resolve_case(
            tx,
            book.scope,
            kind="unknown_outcome",
            subject_id=attempt.reference,
            resolution=f"looked up: {attempt.status}",
            as_of=as_of,
        )
    await _write_down(book, at, blocked, checks)
    return PaymentProgress(status=payment.status, step=step, next_action_at=at, blocked_reason=blocked, late=late)


async def _write_down(book: Book, at: datetime | None, blocked: str | None, checks: int) -> None:
    payment = book.payment
    if (payment.next_action_at, payment.blocked_reason, payment.checks) != (at, blocked, checks):
        await change_payment(book.tx, payment.id, next_action_at=at, blocked_reason=blocked, checks=checks)


async def _stop_looking(book: Book) -> None:
    """An attempt that ended without money is no longer taken for one on its way: if it brings some after all, an event
    tells, or the auditor does."""
    await book.change_attempt(status=AttemptStatus.EXPIRED)
    await book.story("late_money_given_up")


def _unwanted(book: Book) -> bool:
    """The campaign was decided, and this payment has not brought its money, or would be captured only now."""
    closed = book.campaign is not None and book.campaign.status not in TAKES_MONEY
    return closed and (book.payment.status in AWAITS_PROVIDER or book.payment.capture == "immediate")
