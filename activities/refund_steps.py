"""One refund, from requested to a definite end: send or look up, then book the answer with all its consequences."""

from datetime import datetime, timedelta

from activities.book import Book, open_book
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import (
    PaymentRail,
    RailUnknown,
    RefundAnswer,
    RefundFact,
    RefundOrder,
    Resolution,
)
from activities.late_money import close_cases, request_refund
from activities.rails import Rails
from contracts.base import Scope
from contracts.ids import provider_key, refund_key, refund_reference
from contracts.payment import RefundProgress
from domain import accounts
from domain.errors import NotFound
from domain.investment import InvestmentStatus, RefundTo
from domain.money import Money
from domain.payment import (
    CAMPAIGN_FAILED,
    REFUND,
    REFUND_FAILED,
    REFUND_PENDING,
    REFUND_PENDING_CHECKS,
    WALLET,
    RefundStatus,
    next_check,
)
from infra.database import Database, Tx
from models import ledger
from models.base import move, update
from models.chargeback import leave_escrow
from models.effect import Claim
from models.payment import (
    PaymentAttempt,
    Refund,
    add_refunded,
    attempts_of,
    get_attempt,
    get_payment,
    get_refund,
    refunds_of,
)

_R = RefundStatus


class RefundSteps:
    """Needs the database, the rails and the effect helper; holds no state of its own."""

    def __init__(self, db: Database, rails: Rails, effects: Effects) -> None:
        self._db, self._rails, self._effects = db, rails, effects

    async def advance(self, scope: Scope, refund_id: str, as_of: datetime, *, notices: str = "") -> RefundProgress:
        """Take the refund one step on. A final one is only reported."""
        async with self._db.transaction(scope) as tx:
            refund = await get_refund(tx, refund_id, lock=True)
            if refund is None:
                raise NotFound("refund")
            if REFUND.is_terminal(refund.status):
                return RefundProgress(status=refund.status)
            attempt = await get_attempt(tx, refund.attempt_reference)
            assert attempt is not None
            rail = await self._rails.of(tx, refund.provider)
        try:
            settled = await self._ask(scope, refund, attempt, rail)
        except RailUnknown:
            return await self.unknown(scope, refund_id, as_of)
        async with self._db.transaction(scope) as tx:
            return await self._book(tx, scope, refund_id, settled, rail, as_of, notices or refund_id)

    async def request_for_pledge(self, scope: Scope, payment_id: str, as_of: datetime) -> str | None:
        """Reserve the refund of a captured pledge and mark the pledge; returns its id. Asking again finds the first, unless
        that one failed for good and its line was put back by an operator, who is then blocked by it no more.

        None for a pledge that was charged back: its payer has the money, and nothing of it is in the escrow any more."""
        async with self._db.transaction(scope) as tx:
            payment = await get_payment(tx, payment_id, lock=True)
            assert payment is not None
            attempt = next(each for each in await attempts_of(tx, payment_id) if each.captured_minor)
            book = await open_book(tx, scope, payment, attempt, lifetime=timedelta(0), as_of=as_of)
            pledge = book.investment
            if pledge is not None and pledge.charged_back_at is not None and pledge.status is InvestmentStatus.CAPTURED:
                await leave_escrow(tx, pledge, as_of)
                return None
            amount = Money(attempt.captured_minor, attempt.currency)
            earlier = [each for each in await refunds_of(tx, payment_id) if each.reason == CAMPAIGN_FAILED]
            refused = next((each for each in earlier if each.blocked_reason == REFUND_FAILED), None)
            if refused is not None:  # and nobody has put the line back: it was not even written down that it failed
                return refused.id
            failed = sum(each.status is RefundStatus.FAILED for each in earlier)
            chosen = pledge is not None and pledge.refund_to is RefundTo.WALLET
            refund = await request_refund(
                book,
                book.destination,
                amount,
                reason=CAMPAIGN_FAILED,
                failed_before=failed,
                through=WALLET if chosen else None,
            )
            await book.move_pledge(InvestmentStatus.REFUNDING)
            return refund.id

    async def _ask(
        self, scope: Scope, refund: Refund, attempt: PaymentAttempt, rail: PaymentRail
    ) -> Settled[RefundAnswer]:
        order = order_of(
            refund.id,
            Money(refund.amount_minor, refund.currency),
            payment_reference=attempt.reference,
            provider_id=attempt.provider_id or "",
        )
        effect = effect_of(scope, refund.id, order, refund.provider, rail)
        if refund.status is _R.PENDING:
            answer = await rail.look_up_refund(order, refund_provider_id=refund.provider_id)
            return Settled(effect, answer=answer)

        async def resolve(found: Claim) -> RefundAnswer | None:
            answer = await rail.look_up_refund(order, refund_provider_id=refund.provider_id)
            if answer.fact is not RefundFact.ABSENT:
                return answer
            if found.age_seconds < rail.capabilities.not_found_grace.total_seconds():
                raise RailUnknown("absent_within_grace")
            return None

        return await self._effects.run(effect, lambda: rail.refund(order), resolve)

    async def _book(
        self, tx: Tx, scope: Scope, refund_id: str, settled: Settled[RefundAnswer], rail: PaymentRail,
        as_of: datetime, notices: str,
    ) -> RefundProgress:  # fmt: skip
        """Record the answer and its consequences."""
        refund = await get_refund(tx, refund_id)
        assert refund is not None
        payment = await get_payment(tx, refund.payment_id, lock=True)
        refund = await get_refund(tx, refund_id, lock=True)
        assert payment is not None and refund is not None
        await settled.record(tx)
        attempt = await get_attempt(tx, refund.attempt_reference)
        assert attempt is not None
        lifetime = rail.capabilities.authorization_lifetime
        book = await open_book(tx, scope, payment, attempt, lifetime=lifetime, as_of=as_of, notices=notices)
        answer = settled.answer
        if REFUND.is_terminal(refund.status):
            return RefundProgress(status=refund.status)
        if answer is None or answer.fact is RefundFact.FAILED:
            code = settled.refusal or (answer.code if answer else None) or "refused"
            return await self._failed(book, refund, code)
        if answer.fact is RefundFact.SUCCEEDED:
            return await self._succeeded(book, refund, answer)
        if answer.provider_id and refund.provider_id is None:
            await update(tx, Refund, {"id": refund.id}, {"provider_id": answer.provider_id})
        return await self._wait_in(tx, refund, as_of, RefundStatus.PENDING, answer.code)

    async def _succeeded(self, book: Book, refund: Refund, answer: RefundAnswer) -> RefundProgress:
        post = accounts.refund_succeeded(f"refund/{refund.id}/post", hold=f"refund/{refund.id}/hold", as_of=book.as_of)
        await ledger.post(book.tx, post)
        await move(
            book.tx, Refund, REFUND, refund.id, _R.SUCCEEDED, provider_id=answer.provider_id, next_action_at=None,
            blocked_reason=None,
        )  # fmt: skip
        credited = refund.provider == WALLET != book.attempt.provider
        await add_refunded(
            book.tx,
            refund,
            counts_for_payment=refund.reason == CAMPAIGN_FAILED,
            back_through_provider=not credited,
        )
        await close_cases(book, "refunded")
        await book.story("refund_succeeded", refund_id=refund.id, amount_minor=refund.amount_minor)
        await book.move_pledge(InvestmentStatus.CREDITED_TO_WALLET if credited else InvestmentStatus.REFUNDED)
        await book.notify("refund_credited" if credited else "refund_sent", once=refund.id)
        return RefundProgress(status=_R.SUCCEEDED)

    async def _failed(self, book: Book, refund: Refund, code: str) -> RefundProgress:
        void = accounts.refund_failed(f"refund/{refund.id}/void", hold=f"refund/{refund.id}/hold", as_of=book.as_of)
        await ledger.post(book.tx, void)
        changes = {"error_code": code, "blocked_reason": REFUND_FAILED, "next_action_at": None}
        await move(book.tx, Refund, REFUND, refund.id, _R.FAILED, **changes)
        await book.open_case("failed_refund", refund.id, again=True, code=code, amount_minor=refund.amount_minor)
        await book.story("refund_failed", refund_id=refund.id, code=code)
        await book.move_pledge(InvestmentStatus.CAPTURED)
        return RefundProgress(status=_R.FAILED)

    async def unknown(self, scope: Scope, refund_id: str, as_of: datetime) -> RefundProgress:
        """Nobody knows what became of the call: it is looked up later."""
        async with self._db.transaction(scope) as tx:
            refund = await get_refund(tx, refund_id, lock=True)
            assert refund is not None
            return await self._wait_in(tx, refund, as_of, RefundStatus.UNKNOWN)

    async def _wait_in(
        self, tx: Tx, refund: Refund, as_of: datetime, status: RefundStatus, code: str | None = None
    ) -> RefundProgress:
        """`code`: what the provider wants before it decides."""
        at, checks = as_of + next_check(refund.checks, unknown=True), refund.checks + 1
        stands = status is _R.PENDING and (code is not None or checks > REFUND_PENDING_CHECKS)
        changes = {
            "next_action_at": at, "checks": checks, "error_code": code, "blocked_reason": REFUND_PENDING if stands else None,
        }  # fmt: skip
        if not await move(tx, Refund, REFUND, refund.id, status, **changes):
            await update(tx, Refund, {"id": refund.id}, changes)
        return RefundProgress(status=status, next_action_at=at)


def order_of(refund_id: str, amount: Money, *, payment_reference: str, provider_id: str) -> RefundOrder:
    """What a rail is asked for. The same refund always gives the same order, or a replay would be refused."""
    return RefundOrder(
        reference=refund_reference(refund_id),
        key=provider_key(refund_key(refund_id)),
        payment_reference=payment_reference,
        provider_id=provider_id,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
    )


def effect_of(
    scope: Scope, refund_id: str, order: RefundOrder, provider: str, rail: PaymentRail
) -> Effect[RefundAnswer]:
    """The call as an effect. Where a repeat is not recognised, two callers must never overlap."""
    return Effect(
        scope=scope,
        key=refund_key(refund_id),
        provider=provider,
        operation="refund",
        request=order,
        answer=RefundAnswer,
        exclusive=rail.capabilities.resolution is not Resolution.REPLAY,
    )
