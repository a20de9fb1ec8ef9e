"""The steps of one payment attempt: start, look up, capture, void, renew. Each is claim → call → record (see `effects`).

Used by the payment's own process and by settlement lines: the same call, the same key, the same consequences.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from activities.attempts import add_attempt, order_for, resolve_start
from activities.book import Book, open_book, unknown_attempt
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentRail,
    RailAnswer,
    RailNotSent,
    RailUnknown,
)
from activities.payment_facts import apply_fact, end_unsent, give_up
from activities.payment_progress import progress_of
from activities.rails import Rails
from contracts.base import Message, Scope
from contracts.ids import attempt_key, provider_key
from contracts.inbox import INBOX, InboxInput
from contracts.payment import PaymentProgress, Ruling, RulingOutcome
from domain.errors import NotFound
from domain.money import Money
from domain.payment import AWAITS_PROVIDER, PAYMENT, AttemptStatus, PaymentStatus
from infra.database import Database, Tx
from models.case import resolve_case
from models.effect import Claim, was_sent
from models.payment import Payment, PaymentAttempt, current_attempt, get_attempt, get_payment
from models.webhook import newest_waiting, others_wait, settle_events_of

_P, _A = PaymentStatus, AttemptStatus
_VOIDS: Final = ("void", "late_void")
_UNSTOPPABLE: Final = (PaymentFact.PENDING, PaymentFact.REQUIRES_ACTION)
"""What a void may answer where the rail cannot stop a payment: for us it is over, and if its money comes it is late."""


class _Call(Message):
    """What an effect's request hash covers."""

    operation: str
    reference: str
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class Subject:
    """One attempt and the rail to speak about it with."""

    scope: Scope
    payment: Payment
    attempt: PaymentAttempt
    rail: PaymentRail
    as_of: datetime
    notices: str


class PaymentSteps:
    """Needs the database, the rails and the effect helper; holds no state of its own."""

    def __init__(self, db: Database, rails: Rails, effects: Effects) -> None:
        self._db, self._rails, self._effects = db, rails, effects

    async def start(self, scope: Scope, payment_id: str, as_of: datetime) -> PaymentProgress:
        """Make the first call about a payment. Doing it again finds the first."""
        async with self._db.transaction(scope) as tx:
            subject = await self._subject(tx, scope, payment_id, as_of)
            payment, attempt = subject.payment, subject.attempt
            if payment.status is not _P.CREATED:
                return await progress_of(await self._book(tx, subject))
            if ended := await self._ended_unsent(tx, subject):
                return ended
            order = await order_for(tx, payment, attempt, subject.rail)
            found = await self._effects.claim(tx, start_of(scope, attempt, order))
        return await self._begin(subject, order, found)

    async def check(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str = "") -> PaymentProgress:
        """Look the truth up and apply it. An attempt nobody answered is resolved by the rail's own way; the answer may be
        older than what events have announced since, which is then looked up as well."""
        async with self._db.transaction(scope) as tx:
            subject = await self._subject(tx, scope, payment_id, as_of, notices)
            order: PaymentOrder | None = None
            newest = await newest_waiting(tx, subject.attempt.reference)
            if unknown_attempt(subject.attempt) and subject.attempt.provider_id is None:
                if ended := await self._ended_unsent(tx, subject):
                    return ended
                order = await order_for(tx, subject.payment, subject.attempt, subject.rail)
                found = await self._effects.claim(tx, start_of(scope, subject.attempt, order))
        if order is not None:
            progress = await self._begin(subject, order, found)
            async with self._db.transaction(scope) as tx:
                subject = await self._subject(tx, scope, payment_id, as_of, notices)
                newest = await newest_waiting(tx, subject.attempt.reference)
                if unknown_attempt(subject.attempt) or not newest:
                    return progress
        try:
            answer = await subject.rail.look_up(
                reference=subject.attempt.reference, provider_id=subject.attempt.provider_id
            )
        except RailNotSent:
            if not unknown_attempt(subject.attempt):
                raise
            return await self._unknown(subject)
        async with self._db.transaction(scope) as tx:
            book = await self._reopen(tx, subject)
            await apply_fact(book, answer)
            await settle_events_of(tx, subject.attempt.reference, book.attempt.provider_id, newest)
            if newest and await others_wait(tx, subject.attempt.reference, book.attempt.provider_id):
                await book.start("inbox", "InboxWorkflow", INBOX, InboxInput(scope=scope), wake="event_received")
            return await progress_of(book)

    async def capture(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str = "") -> PaymentProgress:
        """Take the authorized money, unless its campaign closed in between: then it is released instead."""
        async with self._db.transaction(scope) as tx:
            subject = await self._subject(tx, scope, payment_id, as_of, notices)
            if subject.payment.status is not _P.REQUIRES_CAPTURE:
                return await progress_of(await self._book(tx, subject))
            found = await self._effects.claim(tx, _effect(subject, "capture"))
        attempt, rail = subject.attempt, subject.rail

        async def send() -> RailAnswer:
            return await rail.capture(
                provider_id=attempt.provider_id or "",
                amount_minor=attempt.amount_minor,
                currency=attempt.currency,
                key=provider_key(attempt_key(attempt.reference, "capture")),
            )

        return await self.operate(subject, "capture", send, found=found)

    async def void(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str = "") -> PaymentProgress:
        """Release what the provider holds, or close the unpaid payment there. If the money was taken after all, that is
        the fact applied."""
        return await self.void_attempt(await self._open(scope, payment_id, as_of, notices))

    async def void_attempt(self, subject: Subject) -> PaymentProgress:
        """Void one attempt, the current or a renewed one.

        An authorization that comes after the end is released under a key of its own: the first void may have been answered
        with "it cannot be stopped now".
        """
        attempt, rail = subject.attempt, subject.rail

        operation = "late_void" if PAYMENT.is_terminal(subject.payment.status) else "void"

        async def send() -> RailAnswer:
            return await rail.void(
                provider_id=attempt.provider_id,
                key=provider_key(attempt_key(attempt.reference, operation)),
                reference=attempt.reference,
            )

        lapsed = subject.payment.cancel_reason is None and subject.payment.status in AWAITS_PROVIDER
        return await self.operate(subject, operation, send, dead_as=_P.EXPIRED if lapsed else _P.CANCELED)

    async def load(self, scope: Scope, payment_id: str, as_of: datetime) -> PaymentProgress:
        """Where the payment stands, without asking anybody."""
        async with self._db.transaction(scope) as tx:
            return await progress_of(await self._book(tx, await self._subject(tx, scope, payment_id, as_of)))

    async def rule(self, scope: Scope, payment_id: str, as_of: datetime, ruling: Ruling) -> PaymentProgress:
        """Apply an operator's answer to an attempt whose outcome is unknown; to any other, nothing."""
        async with self._db.transaction(scope) as tx:
            subject = await self._subject(tx, scope, payment_id, as_of)
            book = await self._book(tx, subject)
            if not unknown_attempt(book.attempt):
                return await progress_of(book)
            attempt = book.attempt
            await book.story("outcome_ruled", outcome=ruling.outcome, operator_id=ruling.operator_id)
            if ruling.outcome is RulingOutcome.CHARGED:
                answer = RailAnswer(
                    fact=PaymentFact.CAPTURED, amount_minor=attempt.amount_minor, currency=attempt.currency
                )
                await apply_fact(book, answer)
            elif attempt.held:
                await book.change_attempt(status=_A.AUTHORIZED)
            else:
                await end_unsent(book, _P.FAILED, "ruled_not_charged")
            await resolve_case(
                tx, scope, kind="unknown_outcome", subject_id=attempt.reference, resolution=ruling.outcome, as_of=as_of
            )
            return await progress_of(book)

    async def _begin(self, subject: Subject, order: PaymentOrder, found: Claim) -> PaymentProgress:
        """Start the attempt, or find out what became of an earlier start. Claimed under the payment's lock: who cancels it
        is either seen before the claim, or sees the claim."""
        rail = subject.rail
        return await self.operate(
            subject, "start", lambda: rail.start(order), lambda claim: resolve_start(rail, order, claim), found=found
        )

    async def _ended_unsent(self, tx: Tx, subject: Subject) -> PaymentProgress | None:
        """Ends an attempt that nobody wants any more and no provider ever heard of; None for any other.

        The claim decides, not the attempt's status, which stays `started` until an answer is recorded: a worker that died
        on the way may have taken money.
        """
        payment, attempt = subject.payment, subject.attempt
        canceled = payment.status is _P.CREATED and payment.cancel_reason is not None
        if attempt.status is not _A.STARTED or not (canceled or PAYMENT.is_terminal(payment.status)):
            return None
        if await was_sent(tx, attempt_key(attempt.reference, "start")):
            return None
        book = await self._book(tx, subject)
        await end_unsent(book, _P.CANCELED, payment.cancel_reason or "voided")
        return await progress_of(book)

    async def operate(
        self,
        subject: Subject,
        operation: str,
        send: Callable[[], Awaitable[RailAnswer]],
        resolve: Callable[[Claim], Awaitable[RailAnswer | None]] | None = None,
        *,
        found: Claim | None = None,
        dead_as: PaymentStatus = _P.CANCELED,
    ) -> PaymentProgress:
        """Carry one keyed operation out and record its outcome with all consequences in one transaction.

        `found`: the claim, where the caller has made it in the transaction it read the subject in.
        """
        attempt = subject.attempt

        async def look_first(_: Claim) -> RailAnswer | None:
            truth = await subject.rail.look_up(reference=attempt.reference, provider_id=attempt.provider_id)
            done = truth.fact not in (PaymentFact.AUTHORIZED, PaymentFact.REQUIRES_ACTION, PaymentFact.ABSENT)
            return truth if done else None

        try:
            settled = await self._effects.run(_effect(subject, operation), send, resolve or look_first, found)
        except RailUnknown:
            return await self._unknown(subject)
        except RailNotSent:
            if attempt.status is not _A.UNKNOWN:
                raise
            return await self._unknown(subject)
        if operation in _VOIDS and settled.answer is not None and settled.answer.fact is PaymentFact.AUTHORIZED:
            return await self._unknown(subject)
        async with self._db.transaction(subject.scope) as tx:
            book = await self._reopen(tx, subject)
            await settled.record(tx)
            await self._apply(book, settled, operation, dead_as)
            return await progress_of(book)

    async def _apply(self, book: Book, settled: Settled[RailAnswer], operation: str, dead_as: PaymentStatus) -> None:
        answer = settled.answer
        if answer is not None and operation in _VOIDS and answer.fact in _UNSTOPPABLE:
            await give_up(book, dead_as)
        elif answer is not None and operation == "start" and _page_is_lost(book, answer):
            await book.change_attempt(status=_A.VOIDED)
            book.attempt = await add_attempt(book.tx, book.scope, book.payment, book.as_of)
        elif answer is not None:
            await apply_fact(book, answer, dead_as=dead_as)
        elif operation == "start":
            await end_unsent(book, _P.FAILED, settled.refusal or "refused")
        else:
            await book.open_case("failed_line", again=True, operation=operation, code=settled.refusal)
            await book.story(f"{operation}_refused", code=settled.refusal)
            dead = RailAnswer(fact=PaymentFact.VOIDED, code=settled.refusal)
            await apply_fact(book, dead, dead_as=_P.FAILED)

    async def unknown(self, scope: Scope, payment_id: str, as_of: datetime, *, notices: str = "") -> PaymentProgress:
        """Nobody knows what became of a call about the payment's current attempt."""
        return await self._unknown(await self._open(scope, payment_id, as_of, notices))

    async def _unknown(self, subject: Subject) -> PaymentProgress:
        """Nobody knows, or can be asked now: the attempt blocks everything but looking up, and an operator's ruling."""
        async with self._db.transaction(subject.scope) as tx:
            book = await self._reopen(tx, subject)
            if book.attempt.status not in (_A.UNKNOWN, _A.CAPTURED, _A.VOIDED, _A.DECLINED, _A.EXPIRED):
                await book.change_attempt(status=_A.UNKNOWN)
                await book.story("outcome_unknown")
            return await progress_of(book)

    async def _open(self, scope: Scope, payment_id: str, as_of: datetime, notices: str = "") -> Subject:
        async with self._db.transaction(scope) as tx:
            return await self._subject(tx, scope, payment_id, as_of, notices)

    async def _subject(self, tx: Tx, scope: Scope, payment_id: str, as_of: datetime, notices: str = "") -> Subject:
        """The payment, locked, with its current attempt; its first is made here."""
        payment = await self._locked(tx, payment_id)
        attempt = await current_attempt(tx, payment_id) or await add_attempt(tx, scope, payment, as_of)
        return Subject(scope, payment, attempt, await self._rails.of(tx, attempt.provider), as_of, notices)

    async def _locked(self, tx: Tx, payment_id: str) -> Payment:
        payment = await get_payment(tx, payment_id, lock=True)
        if payment is None:
            raise NotFound("payment")
        return payment

    async def _book(self, tx: Tx, subject: Subject) -> Book:
        lifetime = subject.rail.capabilities.authorization_lifetime
        return await open_book(
            tx,
            subject.scope,
            subject.payment,
            subject.attempt,
            lifetime=lifetime,
            as_of=subject.as_of,
            notices=subject.notices,
        )

    async def _reopen(self, tx: Tx, subject: Subject) -> Book:
        """Lock and read again: while the provider was asked, a webhook may have told already."""
        payment = await self._locked(tx, subject.payment.id)
        attempt = await get_attempt(tx, subject.attempt.reference)
        assert attempt is not None
        subject = Subject(subject.scope, payment, attempt, subject.rail, subject.as_of, subject.notices)
        return await self._book(tx, subject)


def _effect(subject: Subject, operation: str) -> Effect[RailAnswer]:
    attempt = subject.attempt
    amount = Money(attempt.amount_minor, attempt.currency)
    return effect_on(subject.scope, attempt.provider, attempt.reference, amount, operation)


def start_of(scope: Scope, attempt: PaymentAttempt, order: PaymentOrder) -> Effect[RailAnswer]:
    """An attempt's first call, the same for a payment and for its renewal: each may have to resolve what the other began."""
    amount = Money(attempt.amount_minor, attempt.currency)
    return replace(effect_on(scope, attempt.provider, attempt.reference, amount, "start"), formerly=order)


def effect_on(scope: Scope, provider: str, reference: str, amount: Money, operation: str) -> Effect[RailAnswer]:
    """One operation on one attempt as an effect: the same whoever carries it out."""
    return Effect(
        scope=scope,
        key=attempt_key(reference, operation),
        provider=provider,
        operation=operation,
        request=_Call(
            operation=operation, reference=reference, amount_minor=amount.amount_minor, currency=amount.currency
        ),
        answer=RailAnswer,
    )


def _page_is_lost(book: Book, answer: RailAnswer) -> bool:
    """The payment exists at the provider, but its hosted page's address was in the answer that was lost: nobody can pay
    there, so a fresh attempt is made (and a payment that came in after all would be a late success)."""
    nowhere = answer.next_action is None and book.payment.next_action is None
    return answer.fact is PaymentFact.REQUIRES_ACTION and nowhere and book.payment.status is _P.CREATED
