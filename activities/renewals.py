"""Renewing a card authorization that lapses before its campaign's deadline (FEATURES row 5).

A new authorization with the saved card first, then the old one is released: the pledge is never without its money. If the
card refuses, the investor is told and the old authorization stands until it lapses, which ends the pledge and frees its
place under the cap.
"""

from datetime import datetime, timedelta
from typing import Final

from activities.attempts import add_attempt, order_for, resolve_start
from activities.book import open_book, unknown_attempt
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import PaymentFact, PaymentOrder, RailAnswer, RailUnknown
from activities.late_money import late_authorization
from activities.payment_facts import hold_authorization
from activities.payment_steps import PaymentSteps, Subject
from activities.rails import Rails
from contracts.base import Scope
from contracts.ids import attempt_key
from contracts.payment import PaymentProgress
from domain.payment import PAYMENT, RENEWAL_MARGIN, AttemptStatus, PaymentStatus, PaymentStep, next_check
from infra.database import Database, Tx
from models.effect import Claim
from models.payment import Payment, PaymentAttempt, attempts_of, change_payment, get_attempt, get_payment

_A, _P = AttemptStatus, PaymentStatus
STILL_STANDS: Final = timedelta(hours=1)
"""How much longer an authorization is believed that has outlived its date (clocks differ, some banks hold longer)."""


class Renewals:
    """Carries one pledge's renewal as far as it goes now; called again, it goes on from there."""

    def __init__(self, db: Database, rails: Rails, effects: Effects, steps: PaymentSteps) -> None:
        self._db, self._rails, self._effects, self._steps = db, rails, effects, steps

    async def renew(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str) -> PaymentProgress:
        """`step` DONE: nothing (more) to do now. WAIT: the new authorization's outcome is unknown, come again."""
        async with self._db.transaction(scope) as tx:
            payment = await get_payment(tx, payment_id, lock=True)
            assert payment is not None
            attempts = await attempts_of(tx, payment_id)
            held = [each for each in attempts if each.held]
            rail = await self._rails.of(tx, payment.provider)
            fresh: PaymentAttempt | None = None
            order: PaymentOrder | None = None
            if payment.status is _P.REQUIRES_CAPTURE and len(held) == 1 and self._wants_renewal(payment, as_of):
                newest = attempts[-1]
                fresh = newest if unknown_attempt(newest) and not newest.held else None
                fresh = fresh or await add_attempt(tx, scope, payment, as_of)
                order = await order_for(tx, payment, fresh, rail)
        if len(held) > 1:
            await self._release(Subject(scope, payment, held[0], rail, as_of, notices))
            return self._done(payment)
        if fresh is not None and order is not None:
            return await self._reauthorize(Subject(scope, payment, fresh, rail, as_of, notices), order)
        if payment.status is _P.REQUIRES_CAPTURE and payment.authorized_until and payment.authorized_until <= as_of:
            return await self._look_whether_it_stands(scope, payment_id, as_of, notices)
        return self._done(payment)

    async def _look_whether_it_stands(
        self, scope: Scope, payment_id: str, as_of: datetime, notices: str
    ) -> PaymentProgress:
        """Our date says that the authorization lapsed; the provider decides. If it still stands there, ask again later."""
        progress = await self._steps.check(scope, payment_id, as_of, notices=notices)
        if progress.status is _P.REQUIRES_CAPTURE and progress.step is not PaymentStep.WAIT:
            async with self._db.transaction(scope) as tx:
                await change_payment(tx, payment_id, authorized_until=as_of + STILL_STANDS)
        return progress

    def _wants_renewal(self, payment: Payment, as_of: datetime) -> bool:
        until = payment.authorized_until
        return payment.instrument is not None and until is not None and until - RENEWAL_MARGIN <= as_of

    def _done(self, payment: Payment) -> PaymentProgress:
        return PaymentProgress(status=payment.status, step=PaymentStep.DONE)

    async def _reauthorize(self, subject: Subject, order: PaymentOrder) -> PaymentProgress:
        rail, attempt = subject.rail, subject.attempt
        effect = Effect(
            scope=subject.scope,
            key=attempt_key(attempt.reference, "start"),
            provider=attempt.provider,
            operation="renew",
            request=order,
            answer=RailAnswer,
        )

        async def resolve(found: Claim) -> RailAnswer | None:
            return await resolve_start(rail, order, found)

        try:
            settled = await self._effects.run(effect, lambda: rail.start(order), resolve)
        except RailUnknown:
            at = subject.as_of + next_check(0, unknown=True)
            return PaymentProgress(status=subject.payment.status, step=PaymentStep.WAIT, next_action_at=at)
        async with self._db.transaction(subject.scope) as tx:
            renewed = await self._book(tx, subject, settled)
        if renewed:
            return await self.renew(
                subject.scope, subject.payment.id, subject.as_of, notices=subject.notices
            )  # releases the old one
        return self._done(subject.payment)

    async def _book(self, tx: Tx, subject: Subject, settled: Settled[RailAnswer]) -> bool:
        """Record the answer; True when the new authorization holds."""
        payment = await get_payment(tx, subject.payment.id, lock=True)
        attempt = await get_attempt(tx, subject.attempt.reference)
        assert payment is not None and attempt is not None
        lifetime = subject.rail.capabilities.authorization_lifetime
        book = await open_book(
            tx, subject.scope, payment, attempt, lifetime=lifetime, as_of=subject.as_of, notices=subject.notices
        )
        await settled.record(tx)
        answer = settled.answer
        good = answer is not None and answer.fact is PaymentFact.AUTHORIZED
        if good and PAYMENT.is_terminal(payment.status):  # canceled meanwhile: nobody else would release it
            if attempt.status is not _A.AUTHORIZED:
                await late_authorization(book)
            return False
        if answer is not None and good and answer.amount_minor == attempt.amount_minor:
            if not attempt.held:
                await hold_authorization(book, answer)
                await book.story("authorization_renewed", until=book.payment.authorized_until)
            return True
        code = (answer.code if answer else settled.refusal) or "refused"
        await book.change_attempt(status=_A.DECLINED, decline_code=code)
        await change_payment(tx, payment.id, instrument=None)
        await book.story("renewal_failed", code=code)
        await book.notify("renewal_failed", once=attempt.reference)
        return False

    async def _release(self, old: Subject) -> None:
        """Void the older of two authorizations; its hold in the ledger goes with it, the payment stays as it is."""
        await self._steps.void_attempt(old)
