"""One payout, from approved to a definite end: send or look up, then book the answer with all its consequences.

An unknown outcome is only ever looked up by our reference. It is sent again in one case alone: the provider, asked after its
grace period, does not know the reference.
"""

from datetime import datetime
from typing import Any

from activities.book import send
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import (
    INSUFFICIENT_BALANCE,
    PayoutAnswer,
    PayoutFact,
    PayoutOrder,
    PayoutRail,
    RailNotSent,
    RailRejected,
    RailUnknown,
)
from activities.rails import Rails
from contracts.base import Scope
from contracts.ids import provider_key
from contracts.inbox import NotificationTask
from contracts.outbox import OutboxKind
from contracts.payout import PayoutProgress
from domain.beneficiary import BeneficiaryStatus
from domain.errors import NotFound
from domain.money import Money
from domain.payment import GIVE_UP_CHECKS, matches_request, next_check
from domain.payout import LOOKED_UP, PAYOUT, PENDING_CHECKS, PayoutStatus
from domain.payout_postings import payout_fee, payout_key, payout_returned, payout_sent
from infra.database import Database, Tx
from models import ledger, timeline
from models.base import move
from models.beneficiary import get_beneficiary
from models.case import open_case
from models.distribution import reopen
from models.distribution_payouts import REASON
from models.effect import Claim, settle
from models.notification import notify
from models.payout import Payout, change_payout, close_cases, get_payout, release_payout

_P = PayoutStatus


class PayoutSteps:
    """Needs the database, the rails and the effect helper; holds no state of its own."""

    def __init__(self, db: Database, rails: Rails, effects: Effects) -> None:
        self._db, self._rails, self._effects = db, rails, effects

    async def advance(self, scope: Scope, payout_id: str, as_of: datetime) -> PayoutProgress:
        """Take the payout one step on: send it, look it up, or report where it stands.

        Raises RailNotSent while the provider cannot be asked. One that succeeded or failed is looked up too, for whoever
        asks then had a reason (a bank that returns money, a provider that thinks better of it).
        """
        async with self._db.transaction(scope) as tx:
            payout = await get_payout(tx, payout_id, lock=True)
            if payout is None:
                raise NotFound("payout")
            if payout.status is _P.AWAITING_APPROVAL or (payout.ended and payout.status not in LOOKED_UP):
                return _progress(payout)
            if payout.status is _P.APPROVED and not await _still_payable(tx, payout):
                return await self._end_unsent(tx, scope, payout, "beneficiary_disabled", as_of)
            rail = await self._rails.payout_rail(tx, payout.provider)
            effect = payout_effect(scope, payout)
            found = None
            if payout.status not in LOOKED_UP:
                found = await self._effects.claim(tx, effect)
            if payout.status is _P.APPROVED:
                await move(tx, Payout, PAYOUT, payout.id, _P.SENDING, next_action_at=None)
        try:
            if found is None:
                settled = Settled(effect, answer=await _look_up(rail, payout))
            else:
                settled = await self._send(rail, effect, found)
        except RailUnknown as error:
            if payout.ended:
                raise RailNotSent(error.code) from error
            return await self._wait(scope, payout_id, as_of, None if found is None else _P.UNKNOWN)
        except RailNotSent as error:
            if error.code == INSUFFICIENT_BALANCE:
                return await self._park(scope, payout_id, as_of)
            if found is not None and found.fresh:
                await self._back(scope, payout_id, as_of)
            if payout.status is not _P.UNKNOWN:
                raise
            return await self._wait(scope, payout_id, as_of, _P.UNKNOWN)  # the look-up brought no answer
        async with self._db.transaction(scope) as tx:
            return await self.book(tx, scope, payout_id, settled, as_of)

    async def _send(self, rail: PayoutRail, effect: Effect[PayoutAnswer], found: Claim) -> Settled[PayoutAnswer]:
        order = effect.request
        assert isinstance(order, PayoutOrder)

        async def resolve(earlier: Claim) -> PayoutAnswer | None:
            answer = await rail.look_up_transfer(reference=order.reference)
            if answer.fact is not PayoutFact.ABSENT:
                return answer
            if earlier.age_seconds < rail.capabilities.not_found_grace.total_seconds():
                raise RailUnknown("absent_within_grace")
            return None

        return await self._effects.run(effect, lambda: send_order(rail, order), resolve, found)

    async def book(
        self, tx: Tx, scope: Scope, payout_id: str, settled: Settled[PayoutAnswer], as_of: datetime
    ) -> PayoutProgress:
        """Record the answer and its consequences."""
        payout = await get_payout(tx, payout_id, lock=True)
        assert payout is not None
        await settled.record(tx)
        answer = settled.answer
        if payout.status is _P.FAILED:
            return await self._late(tx, scope, payout, answer, as_of)
        if payout.ended and payout.status is not _P.SUCCEEDED:
            return _progress(payout)
        if answer is None or answer.fact is PayoutFact.FAILED:
            if payout.status is _P.SUCCEEDED:  # a provider that takes its word back: it has the money, as when returned
                return await self._returned(tx, scope, payout, (answer.code if answer else None) or "failed", as_of)
            code = settled.refusal or (answer.code if answer else None) or "refused"
            return await self._end_unsent(tx, scope, payout, code, as_of)
        if answer.provider_id and payout.provider_id is None:
            await change_payout(tx, payout.id, provider_id=answer.provider_id)
        if not as_asked(payout, answer):
            return await self._mismatch(tx, scope, payout, answer, as_of)
        match answer.fact:
            case PayoutFact.SUCCEEDED:
                return await self._succeeded(tx, scope, payout, answer, as_of)
            case PayoutFact.RETURNED:
                await self._succeeded(tx, scope, payout, answer, as_of, told=False)
                return await self._returned(tx, scope, payout, answer.code or "returned", as_of)
        blocked = "provider_approval" if answer.fact is PayoutFact.NEEDS_APPROVAL else None
        return await self._wait_in(tx, scope, payout, as_of, _P.PENDING, blocked=blocked)

    async def _succeeded(
        self, tx: Tx, scope: Scope, payout: Payout, answer: PayoutAnswer, as_of: datetime, *, told: bool = True
    ) -> PayoutProgress:
        if payout.status is not _P.SUCCEEDED:
            fee = answer.fee_minor or 0
            await ledger.post(tx, payout_sent(payout.id, as_of=as_of))
            if fee:
                charged = Money(fee, payout.currency)
                await ledger.post(tx, payout_fee(payout.id, provider=payout.provider, fee=charged, as_of=as_of))
            await self._move(tx, scope, payout, _P.SUCCEEDED, as_of, fee_minor=fee)
            await close_cases(tx, scope, [payout.id], "sent", as_of)
            if told:
                await _tell(tx, scope, payout, "payout_sent", as_of)
        return _progress(payout)

    async def _returned(self, tx: Tx, scope: Scope, payout: Payout, code: str, as_of: datetime) -> PayoutProgress:
        """The bank gave it back: the money is where it was, and its owner chooses anew."""
        await ledger.post(tx, payout_returned(payout.id, as_of=as_of))
        await self._move(tx, scope, payout, _P.RETURNED, as_of, error_code=code)
        if payout.reason == REASON:
            await reopen(tx, scope, payout.subject_id, as_of)
        await _tell(tx, scope, payout, "payout_returned", as_of, code=code)
        return _progress(payout)

    async def _late(
        self, tx: Tx, scope: Scope, payout: Payout, answer: PayoutAnswer | None, as_of: datetime
    ) -> PayoutProgress:
        """It failed by the provider's word, and its money was given back. If it was sent after all, a person must know."""
        if answer is not None and answer.fact not in (PayoutFact.ABSENT, PayoutFact.FAILED, PayoutFact.RETURNED):
            detail: dict[str, Any] = {"fact": answer.fact, "amount_minor": payout.amount_minor}
            await open_case(tx, scope, kind="late_payout", subject_id=payout.id, detail=detail, as_of=as_of)
            await timeline.record(tx, scope, [payout.id], "case_late_payout", as_of, detail)
        return _progress(payout)

    async def _end_unsent(self, tx: Tx, scope: Scope, payout: Payout, code: str, as_of: datetime) -> PayoutProgress:
        """It failed for good: the held money is free again."""
        await release_payout(tx, scope, payout, _P.FAILED, as_of, error_code=code)
        await _tell(tx, scope, payout, "payout_failed", as_of, code=code)
        return PayoutProgress(status=_P.FAILED, ended=True)

    async def _mismatch(
        self, tx: Tx, scope: Scope, payout: Payout, answer: PayoutAnswer, as_of: datetime
    ) -> PayoutProgress:
        """The provider tells of another amount than was asked: nothing is booked, and a person must look."""
        detail: dict[str, Any] = {
            "asked_minor": payout.amount_minor,
            "asked_currency": payout.currency,
            "reported_minor": answer.amount_minor,
            "reported_currency": answer.currency,
        }
        await open_case(tx, scope, kind="payout_mismatch", subject_id=payout.id, detail=detail, as_of=as_of)
        status = payout.status if payout.status is _P.SUCCEEDED else _P.PENDING
        if status is _P.SUCCEEDED:
            return _progress(payout)
        return await self._wait_in(tx, scope, payout, as_of, status, blocked="payout_mismatch")

    async def _park(self, scope: Scope, payout_id: str, as_of: datetime) -> PayoutProgress:
        """Surely nothing was sent: the provider account holds too little. It waits for a top-up, and may be canceled."""
        async with self._db.transaction(scope) as tx:
            payout = await get_payout(tx, payout_id, lock=True)
            assert payout is not None
            await settle(tx, payout_key(payout_id, "send"), status="unsent", error_code=INSUFFICIENT_BALANCE)
            detail: dict[str, Any] = {"amount_minor": payout.amount_minor, "currency": payout.currency}
            await open_case(
                tx, scope, kind="provider_balance", subject_id=payout_id, detail=detail, as_of=as_of, again=True
            )
            if payout.blocked_reason is None:
                await timeline.record(tx, scope, [payout_id], "payout_waits_for_balance", as_of)
            return await self._wait_in(tx, scope, payout, as_of, _P.APPROVED, blocked="provider_balance")

    async def _back(self, scope: Scope, payout_id: str, as_of: datetime) -> None:
        """Surely nothing was sent: it may be canceled, and its beneficiary is looked at again before the next try."""
        async with self._db.transaction(scope) as tx:
            payout = await get_payout(tx, payout_id, lock=True)
            if payout is not None and payout.status is _P.SENDING:
                await self._move(tx, scope, payout, _P.APPROVED, as_of, told=False)

    async def _wait(self, scope: Scope, payout_id: str, as_of: datetime, status: PayoutStatus | None) -> PayoutProgress:
        """Nothing new is known. `status` None: it stays what it is."""
        async with self._db.transaction(scope) as tx:
            payout = await get_payout(tx, payout_id, lock=True)
            assert payout is not None
            return await self._wait_in(tx, scope, payout, as_of, status or payout.status, blocked=payout.blocked_reason)

    async def _wait_in(
        self, tx: Tx, scope: Scope, payout: Payout, as_of: datetime, status: PayoutStatus, *, blocked: str | None
    ) -> PayoutProgress:
        looked = payout.looked_up if status is not _P.APPROVED else payout.checks
        at, checks = as_of + next_check(looked, unknown=True), looked + 1
        if status is _P.UNKNOWN and checks > GIVE_UP_CHECKS:
            blocked = "payout_unknown"
            detail: dict[str, Any] = {"reference": payout.reference, "checks": checks}
            await open_case(tx, scope, kind="unknown_outcome", subject_id=payout.id, detail=detail, as_of=as_of)
        if status is _P.PENDING and checks > PENDING_CHECKS and blocked in (None, "payout_pending"):
            blocked = "payout_pending"
            await tell_pending(tx, scope, payout, as_of)
        changes: dict[str, Any] = {"next_action_at": at, "checks": checks, "blocked_reason": blocked}
        if payout.status is status:
            await change_payout(tx, payout.id, **changes)
        else:
            await self._move(tx, scope, payout, status, as_of, told=status is not _P.APPROVED, **changes)
        return PayoutProgress(status=status, ended=False, next_action_at=at, blocked_reason=blocked)

    async def _move(
        self, tx: Tx, scope: Scope, payout: Payout, status: PayoutStatus, as_of: datetime, *, told: bool = True,
        **changes: Any,
    ) -> None:  # fmt: skip
        """Move along the table and tell the story; the row is locked, so a move that is refused is a defect."""
        values = {"next_action_at": None, "blocked_reason": None} | changes
        if not await move(tx, Payout, PAYOUT, payout.id, status, **values):
            raise AssertionError(f"payout {payout.id} cannot become {status} from {payout.status}")
        payout.status = status
        if told:
            code = changes.get("error_code") or changes.get("blocked_reason")
            await timeline.record(tx, scope, [payout.id], f"payout_{status}", as_of, {"code": code} if code else {})


async def tell_pending(tx: Tx, scope: Scope, payout: Payout, as_of: datetime) -> None:
    """A person should ask the provider what it is waiting for."""
    detail: dict[str, Any] = {"reference": payout.reference, "amount_minor": payout.amount_minor}
    await open_case(tx, scope, kind="payout_pending", subject_id=payout.id, detail=detail, as_of=as_of)


async def send_order(rail: PayoutRail, order: PayoutOrder) -> PayoutAnswer:
    """The call itself. Too little balance is mended by a top-up: RailNotSent, not a refusal for good."""
    try:
        return await rail.start_transfer(order)
    except RailRejected as refused:
        if refused.code == INSUFFICIENT_BALANCE:
            raise RailNotSent(refused.code) from refused
        raise


def _progress(payout: Payout) -> PayoutProgress:
    return PayoutProgress(status=payout.status, ended=payout.ended, blocked_reason=payout.blocked_reason)


def payout_effect(scope: Scope, payout: Payout) -> Effect[PayoutAnswer]:
    """The one call about this payout. The same payout always gives the same order."""
    key = payout_key(payout.id, "send")
    order = PayoutOrder(
        reference=payout.reference,
        key=provider_key(key),
        amount_minor=payout.amount_minor,
        currency=payout.currency,
        recipient=payout.recipient,
        reason=payout.reason.replace("_", " "),
    )
    return Effect(
        scope=scope,
        key=key,
        provider=payout.provider,
        operation="payout",
        request=order,
        answer=PayoutAnswer,
        exclusive=True,
    )


async def _look_up(rail: PayoutRail, payout: Payout) -> PayoutAnswer:
    """The truth about a payout that the provider has. Raises RailNotSent or RailUnknown where there is no answer."""
    try:
        answer = await rail.look_up_transfer(reference=payout.reference, provider_id=payout.provider_id)
    except RailRejected as refused:  # the question was refused: that says nothing about the money
        raise RailUnknown(refused.code) from refused
    if answer.fact is PayoutFact.ABSENT and payout.status is not _P.FAILED:
        raise RailUnknown("known_but_absent")
    return answer


async def _still_payable(tx: Tx, payout: Payout) -> bool:
    beneficiary = await get_beneficiary(tx, payout.beneficiary_id)
    return beneficiary is not None and beneficiary.status is BeneficiaryStatus.VERIFIED


def as_asked(payout: Payout, answer: PayoutAnswer) -> bool:
    """Whether the provider tells of the amount and currency that it was asked for."""
    return matches_request(
        asked_minor=payout.amount_minor,
        asked_currency=payout.currency,
        got_minor=answer.amount_minor,
        got_currency=answer.currency,
    )


async def _tell(tx: Tx, scope: Scope, payout: Payout, template: str, as_of: datetime, *, code: str = "") -> None:
    """Queue a message to the owner. Of a distribution's line the run tells itself, but for money that came back later."""
    if payout.reason == REASON:
        if template != "payout_returned":
            return
        notices = NotificationTask(scope=scope, subject_id=payout.id)
        await send(tx, scope, OutboxKind.START, "notices", payout.id, workflow="NoticesWorkflow", input=notices)
    params = {
        "amount_minor": payout.amount_minor,
        "currency": payout.currency,
        "payout_id": payout.id,
        "reason": payout.reason.replace("_", " "),
        "code": code,
    }
    await notify(
        tx, scope, subject_id=payout.id, user_id=payout.owner_id, template=template, params=params, as_of=as_of
    )
