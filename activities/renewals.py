"""Renewing a card authorization that lapses before its campaign's deadline (FEATURES row 5).

A new authorization with the saved card first, then the old one is released: the pledge is never without its money. If the
card refuses, the investor is told and the old authorization stands until it lapses, which ends the pledge and frees its
place under the cap.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from activities.attempts import add_attempt, order_for, resolve_start
from activities.book import Book, open_book, unknown_attempt
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import PaymentFact, PaymentOrder, RailAnswer, RailUnknown
from activities.payment_facts import apply_fact, hold_authorization
from activities.payment_steps import PaymentSteps, Subject, start_of
from activities.rails import Rails
from contracts.base import Scope
from contracts.ids import attempt_key
from contracts.payment import PaymentProgress
from domain.payment import PAYMENT, RENEWAL_MARGIN, AttemptStatus, PaymentStatus, PaymentStep, next_check
from infra.database import Database, Tx
from models.effect import Claim, was_sent
from models.payment import (
    Payment,
    PaymentAttempt,
    attempts_of,
    change_attempt,
    change_payment,
    get_attempt,
    get_payment,
)

_A, _P = AttemptStatus, PaymentStatus
STILL_STANDS: Final = timedelta(hours=1)
"""How much longer an authorization is believed that has outlived its date (clocks differ, some banks hold longer)."""


class Renewals:
    """Carries one pledge's renewal as far as it goes now; called again, it goes on from there."""

    def __init__(self, db: Database, rails: Rails, effects: Effects, steps: PaymentSteps) -> None:
        self._db, self._rails, self._effects, self._steps = db, rails, effects, steps

    async def renew(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str) -> PaymentProgress:
        """`step` DONE: nothing (more) to do now. WAIT: the outcome of the new authorization, or of the old one's release, is
        unknown, come again.

        A renewal that was sent and not answered is resolved whatever became of the payment meanwhile.
        """
        async with self._db.transaction(scope) as tx:
            payment = await get_payment(tx, payment_id, lock=True)
            assert payment is not None
            attempts = await attempts_of(tx, payment_id)
            held = [each for each in attempts if each.held]
            rail = await self._rails.of(tx, payment.provider)
            fresh = await self._fresh(tx, scope, payment, attempts, as_of)
            if fresh is not None:
                order = await order_for(tx, payment, fresh, rail)
                effect = replace(start_of(scope, fresh, order), operation="renew")
                found = await self._effects.claim(tx, effect)
        if len(held) > 1:
            progress = await self._release(Subject(scope, payment, held[0], rail, as_of, notices))
            return progress if progress.step is PaymentStep.WAIT else self._done(payment)
        if fresh is not None:
            return await self._reauthorize(Subject(scope, payment, fresh, rail, as_of, notices), order, effect, found)
        if payment.status is _P.REQUIRES_CAPTURE and payment.authorized_until and payment.authorized_until <= as_of:
            return await self._look_whether_it_stands(scope, payment_id, as_of, notices)
        return self._done(payment)

    async def _fresh(
        self, tx: Tx, scope: Scope, payment: Payment, attempts: Sequence[PaymentAttempt], as_of: datetime
    ) -> PaymentAttempt | None:
        """The attempt to authorize: one that was begun and not answered, else a new one where the pledge wants renewal. It is
        claimed under the same lock."""
        newest, holding = attempts[-1], len([each for each in attempts if each.held])
        wanted = payment.status is _P.REQUIRES_CAPTURE and holding == 1 and self._wants_renewal(payment, as_of)
        if len(attempts) == 1 or newest.held or not unknown_attempt(newest):
            return await add_attempt(tx, scope, payment, as_of) if wanted else None
        if wanted or await was_sent(tx, attempt_key(newest.reference, "start")):
            return newest
        await change_attempt(tx, newest.reference, status=_A.NOT_SENT)
        return None

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
        until, canceled = payment.authorized_until, payment.cancel_reason is not None
        return payment.instrument is not None and not canceled and until is not None and until - RENEWAL_MARGIN <= as_of

    def _done(self, payment: Payment) -> PaymentProgress:
        return PaymentProgress(status=payment.status, step=PaymentStep.DONE)

    async def _reauthorize(
        self, subject: Subject, order: PaymentOrder, effect: Effect[RailAnswer], found: Claim
    ) -> PaymentProgress:
        rail = subject.rail

        async def resolve(claim: Claim) -> RailAnswer | None:
            return await resolve_start(rail, order, claim)

        try:
            settled = await self._effects.run(effect, lambda: rail.start(order), resolve, found)
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
        if PAYMENT.is_terminal(payment.status):  # canceled meanwhile: nobody else would release it
            if unknown_attempt(attempt):
                await self._book_late(book, settled)
            return False
        good = answer is not None and answer.fact is PaymentFact.AUTHORIZED
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

    async def _book_late(self, book: Book, settled: Settled[RailAnswer]) -> None:
        """The payment has ended: what the renewal brought goes back, and nobody is told of one that brought nothing."""
        answer = settled.answer
        if answer is not None and answer.fact in (PaymentFact.AUTHORIZED, PaymentFact.CAPTURED):
            await apply_fact(book, answer)
        else:
            code = (answer.code if answer else settled.refusal) or "refused"
            await book.change_attempt(status=_A.DECLINED, decline_code=code)

    async def _release(self, old: Subject) -> PaymentProgress:
        """Void the older of two authorizations; its hold in the ledger goes with it, the payment stays as it is."""
        return await self._steps.void_attempt(old)
