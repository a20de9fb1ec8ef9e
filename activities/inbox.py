"""Works through stored webhooks. An event is a hint: what it names is looked up at the provider, and that is applied."""

from datetime import datetime, timedelta
from typing import Final

import psycopg
import structlog
from psycopg_pool import PoolTimeout
from temporalio import activity

from activities.book import open_book, send
from activities.effects import heartbeating
from activities.errors import translated
from activities.gateways.protocols import PaymentFact, RailError
from activities.hints import is_about_another, is_about_refunds, tells_nothing_new, tells_nothing_new_of
from activities.payment_facts import apply_fact
from activities.rails import Rails
from activities.refund_returns import look_up_returned, sent_refunds, take_back
from activities.second_payments import is_second, tell_of_second
from contracts.base import Scope
from contracts.distribution import DistributionInput
from contracts.inbox import INBOX, InboxInput, InboxProgress
from contracts.outbox import OutboxKind
from contracts.payment import PaymentInput
from contracts.payout import PayoutInput
from domain.errors import DomainError
from domain.payment import AWAITS_PROVIDER, RefundStatus
from infra.database import Database, Tx
from models.clock import business_now
from models.distribution_payouts import REASON, make_due
from models.notification import any_queued
from models.payment import PaymentAttempt, attempt_of_provider_id, get_attempt, get_payment, refunds_of
from models.payout import payout_of_event
from models.refund_returns import hold_line
from models.settlement import wake_lines
from models.webhook import InboxEvent, due_events, seconds_to_next_event, settle_event

log = structlog.get_logger(__name__)
BATCH = 50
MAX_BATCHES = 20
_RETRIES: Final = (2, 5, 15, 60, 300, 900, 3600)
"""Seconds between tries of an orphan; the last one repeats."""
ORPHAN_HOURS: Final = 72
_MONEY: Final = (PaymentFact.AUTHORIZED, PaymentFact.CAPTURED)
"""All that matters of an attempt in whose place another was made: its payment does not end with it."""


class InboxActivities:
    """Drains one scope's inbox."""

    def __init__(self, db: Database, rails: Rails) -> None:
        self._db, self._rails = db, rails

    @activity.defn
    async def drain_inbox(self, task: InboxInput) -> InboxProgress:
        """Process what is due, in batches; report how long until the next retry."""
        processed = 0
        async with translated(), heartbeating():
            for _ in range(MAX_BATCHES):
                async with self._db.transaction(task.scope) as tx:
                    events = await due_events(tx, BATCH)
                for event in events:
                    await self._one(task.scope, event)
                processed += len(events)
                if len(events) < BATCH:
                    break
            async with self._db.transaction(task.scope) as tx:
                wait, notices = await seconds_to_next_event(tx), await any_queued(tx, INBOX)
        return InboxProgress(processed=processed, wait_seconds=wait if wait is None else max(wait, 1), notices=notices)

    async def _one(self, scope: Scope, event: InboxEvent) -> None:
        """Process one event, or put it off. Only a database that cannot be worked with stops the others behind it."""
        try:
            await self._process(scope, event)
        except (RailError, DomainError) as error:
            await self._later(scope, event, error.code)
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
            raise
        except Exception as error:
            log.error("inbox.not_processed", event_id=event.event_id, exc_info=error)
            await self._later(scope, event, type(error).__name__)

    async def _process(self, scope: Scope, event: InboxEvent) -> None:
        """Raises RailError when the provider cannot be asked."""
        assert event.id is not None
        async with self._db.transaction(scope) as tx:
            attempt = await self._attempt_of(tx, event)
            if attempt is None:
                if await self._wake_payout(tx, scope, event):
                    await settle_event(tx, event.id, status="processed")
                else:
                    await self._keep_orphan(tx, event)
                return
            if tells_nothing_new(event, attempt):
                await settle_event(tx, event.id, status="processed")
                return
            payment = await get_payment(tx, attempt.payment_id)
            assert payment is not None
            other = is_about_another(event, attempt)
            replaced = attempt.ordinal < payment.attempts
            if payment.status in AWAITS_PROVIDER and not other and not replaced:
                await self._wake_payment(tx, scope, payment.id)
                await settle_event(tx, event.id, status="processed")
                return
            rail = await self._rails.of(tx, attempt.provider)
            sent = await sent_refunds(tx, attempt) if is_about_refunds(event) else []
        provider_id = event.provider_id if other else attempt.provider_id
        answer = await rail.look_up(reference=attempt.reference, provider_id=provider_id)
        if is_second(attempt, answer):
            async with self._db.transaction(scope) as tx:
                await tell_of_second(tx, scope, attempt, answer, await business_now(tx))
                await settle_event(tx, event.id, status="processed")
            return
        returned = await look_up_returned(rail, attempt, sent)
        async with self._db.transaction(scope) as tx:
            line = await hold_line(tx, attempt.payment_id) if returned else None
            payment = await get_payment(tx, attempt.payment_id, lock=True)
            current = await get_attempt(tx, attempt.reference)
            assert payment is not None and current is not None
            book = await open_book(
                tx,
                scope,
                payment,
                current,
                lifetime=rail.capabilities.authorization_lifetime,
                as_of=await business_now(tx),
                notices=INBOX,
            )
            awaits = payment.status in AWAITS_PROVIDER
            if not (awaits and replaced) or answer.fact in _MONEY:
                await apply_fact(book, answer)
            if awaits:
                await self._wake_payment(tx, scope, payment.id)
            for refund, code in returned:
                await take_back(book, refund, code, line)
            await self._wake_refunds(tx, scope, payment.id)
            await settle_event(tx, event.id, status="processed")

    async def _attempt_of(self, tx: Tx, event: InboxEvent) -> PaymentAttempt | None:
        attempt = await get_attempt(tx, event.reference) if event.reference else None
        if attempt is None and event.provider_id:
            attempt = await attempt_of_provider_id(tx, event.provider, event.provider_id)
        return attempt

    async def _wake_payment(self, tx: Tx, scope: Scope, payment_id: str) -> None:
        """A payment that waits for its provider is looked up by its own process."""
        resume = PaymentInput(scope=scope, payment_id=payment_id, as_of=await business_now(tx), resume=True)
        await send(
            tx, scope, OutboxKind.SIGNAL_WITH_START, "payment", payment_id,
            workflow="PaymentWorkflow", input=resume, signal="provider_reported",
        )  # fmt: skip

    async def _wake_refunds(self, tx: Tx, scope: Scope, payment_id: str) -> None:
        """Refunds the provider has not decided are looked up by whoever waits for them."""
        for refund in await refunds_of(tx, payment_id):
            if refund.status in (RefundStatus.PENDING, RefundStatus.UNKNOWN):
                await send(tx, scope, OutboxKind.SIGNAL, "refund", refund.id, signal="provider_reported")
        for settlement_id in await wake_lines(tx, payment_id):
            await send(tx, scope, OutboxKind.SIGNAL, "settlement", settlement_id, signal="line_reported")

    async def _wake_payout(self, tx: Tx, scope: Scope, event: InboxEvent) -> bool:
        """Whether the event is about a payout: its own process looks it up, or that of its distribution run."""
        payout = await payout_of_event(tx, event.provider, event.reference, event.provider_id)
        if payout is None or tells_nothing_new_of(event, payout):
            return payout is not None
        if payout.reason == REASON and not payout.ended:
            if await make_due(tx, payout, now := await business_now(tx)):
                look = DistributionInput(scope=scope, distribution_id=payout.subject_id, as_of=now)
                await send(
                    tx, scope, OutboxKind.SIGNAL_WITH_START, "distribution", payout.subject_id,
                    workflow="DistributionWorkflow", input=look, signal="changed",
                )  # fmt: skip
        else:
            again = PayoutInput(scope=scope, payout_id=payout.id, as_of=await business_now(tx))
            await send(
                tx, scope, OutboxKind.SIGNAL_WITH_START, "payout", payout.id,
                workflow="PayoutWorkflow", input=again, signal="provider_reported",
            )  # fmt: skip
        return True

    async def _keep_orphan(self, tx: Tx, event: InboxEvent) -> None:
        """It may have come before its payment's row; after three days it never will."""
        assert event.id is not None and event.received_at is not None
        age = datetime.now(event.received_at.tzinfo) - event.received_at
        if age > timedelta(hours=ORPHAN_HOURS):
            await settle_event(tx, event.id, status="expired", error_code="orphan")
            return
        delay = _RETRIES[min(event.tries, len(_RETRIES) - 1)]
        await settle_event(tx, event.id, status="orphaned", error_code="orphan", retry_seconds=delay)

    async def _later(self, scope: Scope, event: InboxEvent, code: str) -> None:
        assert event.id is not None
        log.info("inbox.deferred", event_id=event.event_id, code=code)
        delay = _RETRIES[min(event.tries, len(_RETRIES) - 1)]
        async with self._db.transaction(scope) as tx:
            await settle_event(tx, event.id, status="received", error_code=code, retry_seconds=delay)
