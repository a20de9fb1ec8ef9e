"""A run's lines on their way out through providers: sent range by range, and asked about until each has an end.

Sending is done in chunks: claims together, calls a few at a time, answers recorded together. What is not plain (an outcome
nobody knows, a refusal, another amount) goes the way of a single payout (`PayoutSteps`). Transfers that were accepted are told
about by webhooks, one by one or never; many at once are read from the provider's own list, a hundred an answer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog
from temporalio import activity

from activities.bulk_effects import BulkCall, BulkEffects, NotPlain, Outcomes
from activities.distributions import all_or_each
from activities.effects import Settled, heartbeating
from activities.errors import translated
from activities.gateways.protocols import (
    INSUFFICIENT_BALANCE,
    PayoutAnswer,
    PayoutFact,
    PayoutRail,
    RailError,
    RailNotSent,
    RailUnknown,
)
from activities.payout_steps import PayoutSteps, as_asked, payout_effect, send_order, tell_pending
from activities.rails import Rails
from contracts.distribution import DistributionRange, DistributionTask
from domain.payment import next_check
from domain.payout import PENDING_CHECKS, PayoutStatus, try_again_after
from infra.database import Database, Tx
from infra.turns import in_turns
from models import distribution_payouts as rows
from models.case import open_case
from models.distribution import Distribution, get_distribution
from models.payout import Payout

log = structlog.get_logger(__name__)
LINES_AT_ONCE = 500
"""Lines a transaction makes payouts for."""
SENT_AT_ONCE = 100
"""Calls whose claims are committed together: what a dead worker leaves to be looked up."""
LIST_FROM: Final = 50
"""From so many payouts on the provider's list is read before any is looked up by itself."""
LOOKED_UP_AT_ONCE, _LOOK_UPS = 8, 200
_LOOKED_UP_FOR: Final = timedelta(minutes=4)
"""Then the process is told how far it has come. The provider's list was read before, for all that are looked up: what a dead
worker had claimed and not sent is on no list, and to read it for every few hundred took longer than to look them up."""
_MARGIN: Final = timedelta(days=1)
_P = PayoutStatus


@dataclass
class _Sorted:
    """What is to be recorded of a chunk, by what became of each payout."""

    settled: list[Settled[PayoutAnswer]] = field(default_factory=list)
    pending: list[Payout] = field(default_factory=list)
    sent: list[Payout] = field(default_factory=list)
    unknown: list[Payout] = field(default_factory=list)
    short: list[Payout] = field(default_factory=list)
    unsent: list[Payout] = field(default_factory=list)
    fees: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str]] = field(default_factory=list)
    single: list[tuple[Payout, Settled[PayoutAnswer]]] = field(default_factory=list)
    later: timedelta = timedelta(0)
    """How long the provider asked to be left alone."""

    def add(self, payout: Payout, outcome: Outcomes[PayoutAnswer]) -> None:
        """One more. What needs more than a state and a posting is for the single way."""
        if isinstance(outcome, NotPlain):
            return  # stays as it is: the next check resolves it
        if isinstance(outcome, RailUnknown):
            self.unknown.append(payout)
        elif isinstance(outcome, RailNotSent):
            (self.short if outcome.code == INSUFFICIENT_BALANCE else self.unsent).append(payout)
            self.later = max(self.later, outcome.retry_after or timedelta(0))
        elif (answer := outcome.answer) is None or not _is_plain(payout, answer):
            self.single.append((payout, outcome))
        else:
            self.settled.append(outcome)
            if answer.provider_id is not None:
                self.named.append((payout.id, answer.provider_id))
            (self.sent if answer.fact is PayoutFact.SUCCEEDED else self.pending).append(payout)
            if answer.fact is PayoutFact.SUCCEEDED and answer.fee_minor:
                self.fees[payout.id] = answer.fee_minor

    @property
    def not_taken(self) -> list[Payout]:
        """What the provider did not take."""
        return self.short + self.unsent

    def pause(self, payouts: Sequence[Payout], target: PayoutStatus) -> timedelta:
        """Until these are tried, or looked up, again."""
        if target is not _P.APPROVED:
            return next_check(min((each.looked_up for each in payouts), default=0), unknown=True)
        return try_again_after(min((each.checks for each in payouts), default=0), asked=self.later)


class DistributionPayoutActivities:
    """Needs the database, the rails, and both ways of sending; holds no state of its own."""

    def __init__(self, db: Database, rails: Rails, effects: BulkEffects, steps: PayoutSteps) -> None:
        self._db, self._rails, self._effects, self._steps = db, rails, effects, steps

    @activity.defn
    async def send_distribution_range(self, task: DistributionRange) -> int:
        """Send every line of the range that is queued for a provider, or whose payout may be sent now; how many calls.

        Ends early when the provider does not take all of a chunk: what is left is due later, with what was tried.
        """
        run, sent, first = await self._run(task), 0, task.first
        async with translated(), heartbeating(lambda: (sent,)):
            while await self._make(task, run):
                pass
            while first <= task.last:
                calls, first = await self._send(task, run, first)
                sent += calls
        return sent

    @activity.defn
    async def check_distribution_payouts(self, task: DistributionTask) -> int:
        """Ask the provider about the payouts that are due; how many were asked about one by one."""
        run, asked, after = await self._run(task), 0, ""
        async with translated(), heartbeating(lambda: (asked,)):
            async with self._db.transaction(task.scope) as tx:
                due = await rows.due_by_provider(tx, run, task.as_of)
            for provider, (count, since) in due.items():
                if count > LIST_FROM:
                    await self._read_list(task, run, provider, count, since)
            until = time.monotonic() + _LOOKED_UP_FOR.total_seconds()
            while time.monotonic() < until:
                async with self._db.transaction(task.scope) as tx:
                    ids = await rows.due_payouts(tx, run, task.as_of, after, _LOOK_UPS)
                if not ids:
                    break
                await in_turns([partial(self._ask, task, each) for each in ids], LOOKED_UP_AT_ONCE)
                asked, after = asked + len(ids), ids[-1]
        return asked

    async def _run(self, task: DistributionTask | DistributionRange) -> Distribution:
        async with self._db.transaction(task.scope) as tx:
            run = await get_distribution(tx, task.distribution_id)
        assert run is not None
        return run

    async def _make(self, task: DistributionRange, run: Distribution) -> int:
        """One transaction's worth of payouts; how many lines it took on."""

        async def take(tx: Tx) -> Sequence[rows.QueuedLine]:
            return await rows.queued_payouts(tx, run, task.first, task.last, LINES_AT_ONCE)

        async def make(tx: Tx, lines: Sequence[rows.QueuedLine]) -> None:
            await rows.make_payouts(tx, task.scope, run, lines, task.as_of)

        return await all_or_each(self._db, task.scope, run, take, make, lambda each: each.number)

    async def _send(self, task: DistributionRange, run: Distribution, first: int) -> tuple[int, int]:
        """Claim, call and record one chunk from line `first` on: how many calls, and the line to go on from."""
        async with self._db.transaction(task.scope) as tx:
            payouts, last = await rows.sendable(
                tx, run, first, task.last, as_of=task.as_of, limit=SENT_AT_ONCE
            )  # fmt: skip
            if not payouts:
                return 0, last + 1
            rails = {name: await self._rails.payout_rail(tx, name) for name in {each.provider for each in payouts}}
            effects = [payout_effect(task.scope, each) for each in payouts]
            found = await self._effects.claim(tx, effects)
            ids = [each.id for each in payouts]
            await rows.move_payouts(tx, task.scope, ids, _P.SENDING, task.as_of, next_at=None)
        calls = [
            BulkCall(effect, claimed, _sender(rails[payout.provider], effect.request))
            for payout, effect, claimed in zip(payouts, effects, found, strict=True)
        ]
        chunk = _Sorted()
        for payout, outcome in zip(payouts, await self._effects.call(calls), strict=True):
            chunk.add(payout, outcome)
        await self._record(task, run, chunk, {each.reference for each in payouts})
        if chunk.not_taken:
            async with self._db.transaction(task.scope) as tx:
                until = task.as_of + chunk.pause(chunk.not_taken, _P.APPROVED)
                await rows.postpone_rest(tx, run, {each.provider for each in chunk.not_taken}, until)
            log.info("distribution.not_sent", distribution=run.id, short=len(chunk.short), unsent=len(chunk.unsent))
            return len(calls), task.last + 1
        return len(calls), last + 1

    async def _record(
        self, task: DistributionTask | DistributionRange, run: Distribution, chunk: _Sorted, references: set[str]
    ) -> None:
        """Write down what became of a chunk, for those that nobody else has moved on meanwhile."""
        async with self._db.transaction(task.scope) as tx:
            held = await rows.listed_payouts(tx, run, sorted(references))
            await self._book(tx, task, run, chunk, {each.id for each in held.values()})
        await self._book_singly(task, chunk)

    async def _book(
        self, tx: Tx, task: DistributionTask | DistributionRange, run: Distribution, chunk: _Sorted, held: set[str]
    ) -> None:
        scope, as_of = task.scope, task.as_of
        await self._effects.record(tx, chunk.settled)
        await rows.name_payouts(tx, chunk.named)
        await rows.succeed_payouts(tx, scope, [each for each in chunk.sent if each.id in held], chunk.fees, as_of)
        late = [each for each in chunk.pending if each.looked_up >= PENDING_CHECKS and each.id in held]
        soon = [each for each in chunk.pending if each.looked_up < PENDING_CHECKS]
        for payout in late:
            await tell_pending(tx, scope, payout, as_of)
        moves: list[tuple[list[Payout], PayoutStatus, str | None]] = [
            (soon, _P.PENDING, None), (late, _P.PENDING, "payout_pending"), (chunk.unknown, _P.UNKNOWN, None),
            (chunk.unsent, _P.APPROVED, "not_sent"), (chunk.short, _P.APPROVED, "provider_balance"),
        ]  # fmt: skip
        for payouts, target, blocked in moves:
            ours = [each for each in payouts if each.id in held]
            again = as_of + chunk.pause(ours, target)
            for news in (True, False):
                ids = [each.id for each in ours if (each.status is not target) is news]
                told = f"payout_{target}" if news and target is not _P.APPROVED else None
                await rows.move_payouts(tx, scope, ids, target, as_of, next_at=again, blocked=blocked, told=told)
        if chunk.short:
            detail: dict[str, Any] = {"payouts": len(chunk.short), "currency": run.currency}
            await open_case(
                tx, scope, kind="provider_balance", subject_id=run.id, detail=detail, as_of=as_of, again=True
            )

    async def _book_singly(self, task: DistributionTask | DistributionRange, chunk: _Sorted) -> None:
        for payout, settled in chunk.single:
            async with self._db.transaction(task.scope) as tx:
                await self._steps.book(tx, task.scope, payout.id, settled, task.as_of)

    async def _read_list(
        self, task: DistributionTask, run: Distribution, provider: str, due: int, since: datetime
    ) -> None:
        """Apply the provider's list, newest first, until everything that is due was on it. A word there is as good as an
        answer; what it does not have is looked up."""
        async with self._db.transaction(task.scope) as tx:
            rail = await self._rails.payout_rail(tx, provider)
        cursor: str | None = None
        while due > 0:
            try:
                page = await rail.list_transfers(since=min(since, datetime.now(UTC)) - _MARGIN, cursor=cursor)
            except RailError as error:
                log.info("distribution.list_unread", distribution=run.id, code=error.code)
                return
            due -= await self._apply(task, run, page.payouts)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _apply(self, task: DistributionTask, run: Distribution, answers: Sequence[PayoutAnswer]) -> int:
        """Record a page of the list; how many of the payouts on it were due."""
        told = {each.reference: each for each in answers if each.reference is not None}
        chunk = _Sorted()
        async with self._db.transaction(task.scope) as tx:
            held = await rows.listed_payouts(tx, run, sorted(told))
            for reference, payout in held.items():
                effect = payout_effect(task.scope, payout)
                chunk.add(payout, Settled(effect, answer=told[reference]))
            await self._book(tx, task, run, chunk, {each.id for each in held.values()})
        await self._book_singly(task, chunk)
        return sum(each.next_action_at is None or each.next_action_at <= task.as_of for each in held.values())

    async def _ask(self, task: DistributionTask, payout_id: str) -> None:
        """One payout the single way. When nothing can be asked now it is asked later."""
        try:
            await self._steps.advance(task.scope, payout_id, task.as_of)
        except RailNotSent as error:
            later = error.retry_after or next_check(3, unknown=True)
            async with self._db.transaction(task.scope) as tx:
                await rows.postpone(tx, payout_id, task.as_of + later)


def _sender(rail: PayoutRail, order: Any) -> Any:
    return lambda: send_order(rail, order)


def _is_plain(payout: Payout, answer: PayoutAnswer) -> bool:
    """Whether the answer is just that the transfer asked for is on its way, or was sent."""
    return answer.fact in (PayoutFact.PENDING, PayoutFact.SUCCEEDED) and as_asked(payout, answer)
