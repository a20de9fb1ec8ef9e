"""Refunds that had succeeded and failed after all: the payer's bank gave the money back, days later.

The provider has the money again, so the books have it again: what was posted is reversed. From then on the refund, its
pledge and its settlement's line stand as after any refund that a provider refused (`refund_steps`).
"""

from typing import Any

from activities.book import Book
from activities.gateways.protocols import PaymentRail, RefundFact
from activities.refund_steps import order_of
from domain import accounts
from domain.investment import RETURNED_PLEDGE, InvestmentStatus
from domain.money import Money
from domain.payment import CAMPAIGN_FAILED, REFUND_FAILED, RETURNED_REFUND, RefundStatus
from infra.database import Tx
from models import ledger
from models.base import move
from models.investment import move_investment
from models.payment import PaymentAttempt, Refund, refunds_of, take_refunded_back
from models.refund_returns import RefundLine, fail_line


async def sent_refunds(tx: Tx, attempt: PaymentAttempt) -> list[Refund]:
    """The refunds of an attempt that have gone back the way it came."""
    return [
        each
        for each in await refunds_of(tx, attempt.payment_id)
        if each.status is RefundStatus.SUCCEEDED
        and (each.attempt_reference, each.provider) == (attempt.reference, attempt.provider)
    ]


async def look_up_returned(rail: PaymentRail, attempt: PaymentAttempt, sent: list[Refund]) -> list[tuple[Refund, str]]:
    """Those of `sent` that the provider has no more, each with its reason. Raises RailError."""
    returned = []
    for refund in sent:
        amount = Money(refund.amount_minor, refund.currency)
        order = order_of(refund.id, amount, payment_reference=attempt.reference, provider_id=attempt.provider_id or "")
        answer = await rail.look_up_refund(order, refund_provider_id=refund.provider_id)
        if answer.fact is RefundFact.FAILED:
            returned.append((refund, answer.code or "returned"))
    return returned


async def take_back(book: Book, refund: Refund, code: str, line: RefundLine | None) -> None:
    """Book that a refund of this attempt came back, once. `line`: the settlement line of the payment, which is held."""
    changes = {"error_code": code, "blocked_reason": REFUND_FAILED, "next_action_at": None}
    if not await move(book.tx, Refund, RETURNED_REFUND, refund.id, RefundStatus.FAILED, **changes):
        return
    key = f"refund/{refund.id}"
    back = accounts.refund_returned(f"{key}/return", target=f"{key}/post", as_of=book.as_of)
    await ledger.post(book.tx, back)
    owed = refund.reason == CAMPAIGN_FAILED
    await take_refunded_back(book.tx, refund, counted_for_payment=owed)
    told: dict[str, Any] = {"code": code, "amount_minor": refund.amount_minor}
    await book.open_case("failed_refund", refund.id, again=True, returned=True, **told)
    await book.story("refund_returned", refund_id=refund.id, **told)
    if not owed:
        return
    pledge = book.investment
    if pledge is not None and await move_investment(
        book.tx, pledge, InvestmentStatus.CAPTURED, machine=RETURNED_PLEDGE
    ):
        await book.story("investment_captured", only_pledge=True)
    if line is not None:
        await fail_line(book.tx, line)
        await book.open_case(
            "failed_line", line.investment_id, again=True,
            settlement_id=line.settlement_id, action=line.action, code=REFUND_FAILED,
        )  # fmt: skip
