"""Settlement lines by the chunk: what one line's steps do to one, done to many in a few statements.

Only plain lines: held or captured by exactly one attempt, nothing asked about them before, and the answer the expected one.
Every other line is left to the single path (`payment_steps`, `refund_steps`), which decides what to do about it; so does a
whole chunk that a rule of the ledger refuses. Money inside the ledger takes one transaction a chunk. At a provider it is the
three parts of every call: claim and commit, call, record with all consequences.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from activities.bulk_book import BulkBook
from activities.bulk_effects import BulkCall, BulkEffects, Outcomes
from activities.effects import A, Effect, Settled
from activities.gateways.protocols import (
    PaymentFact,
    PaymentRail,
    RailAnswer,
    RailNotSent,
    RailUnknown,
    RefundAnswer,
    RefundFact,
)
from activities.payment_steps import effect_on
from activities.rails import Rails
from activities.refund_steps import effect_of, order_of
from contracts.base import Scope
from contracts.ids import attempt_key, provider_key, refund_id
from domain.campaign import TAKES_MONEY
from domain.errors import DomainError
from domain.investment import InvestmentStatus
from domain.payment import (
    CAMPAIGN_FAILED,
    WALLET,
    AttemptStatus,
    PaymentStatus,
    PaymentStep,
    matches_request,
    next_step,
)
from infra.database import Database, Tx
from models.bulk_settlement import Piece, Return, lock_pieces, requested
from models.campaign import get_campaign
from models.settlement import Settlement, SettlementLine, finish_lines

log = structlog.get_logger(__name__)
INSIDE_AT_ONCE: Final = 250
"""Lines a transaction settles inside the ledger: as short as that of a distribution."""
OUTSIDE_AT_ONCE: Final = 50
"""Lines claimed, called and recorded together: a provider's event about the first waits for the record of the last."""
_P, _A, _I = PaymentStatus, AttemptStatus, InvestmentStatus


@dataclass(frozen=True)
class Left:
    """What a chunk did not finish: lines for the single path; deferred ones, of which nothing was sent, with the code; and
    those whose call nobody answered."""

    single: list[SettlementLine]
    deferred: list[tuple[SettlementLine, RailNotSent]]
    unknown: list[tuple[SettlementLine, str | None]]
    """With the id of the refund, where it is one."""


class BulkSettlements:
    """Needs the database, the rails and the bulk effects; holds no state of its own."""

    def __init__(self, db: Database, rails: Rails, effects: BulkEffects) -> None:
        self._db, self._rails, self._effects = db, rails, effects

    async def settle(
        self, scope: Scope, settlement: Settlement, lines: Sequence[SettlementLine], as_of: datetime
    ) -> Left:
        """Carry out every plain line of these, chunk by chunk; what is left to do. Finished lines are `done` in their rows."""
        left = Left([], [], [])
        fresh = [each for each in lines if each.status == "queued" and each.tries == 0 and each.action != "renew"]
        left.single.extend(each for each in lines if each not in fresh)
        for action in ("capture", "void", "refund"):
            wanted = [each for each in fresh if each.action == action]
            for at in range(0, len(wanted), INSIDE_AT_ONCE):
                chunk = _Chunk(scope, settlement, action, wanted[at : at + INSIDE_AT_ONCE], as_of)
                done = await self._inside(chunk)
                outside = [each for each in chunk.lines if each.line_no not in done]
                for start in range(0, len(outside), OUTSIDE_AT_ONCE):
                    part = _Chunk(scope, settlement, action, outside[start : start + OUTSIDE_AT_ONCE], as_of)
                    await self._outside(part, left)
        return left

    async def _inside(self, chunk: "_Chunk") -> set[int]:
        """Settle what needs nobody outside, in one transaction; the numbers of the lines that are done."""
        try:
            async with self._db.transaction(chunk.scope) as tx:
                book = await _open(tx, chunk)
                pieces = [each for each in await _plain(tx, chunk, book) if each.inside]
                if book is None or not pieces:
                    return set()
                if chunk.action == "refund":
                    returns = [_return(chunk.scope, each) for each in pieces]
                    await book.begin_refunds(returns)
                    await book.end_refunds(returns, [None] * len(returns))
                else:
                    await (book.take if chunk.action == "capture" else book.release)(pieces)
                numbers = [each.line_no for each in pieces]
                await finish_lines(tx, chunk.settlement.id, numbers)
                await book.count()
        except DomainError as error:  # the ledger refuses one of them, and so all: each is tried alone
            log.info("settlement.chunk_refused", settlement=chunk.settlement.id, code=error.code)
            return set()
        return set(numbers)

    async def _outside(self, chunk: "_Chunk", left: Left) -> None:
        try:
            run = self._refunds if chunk.action == "refund" else self._operations
            told = await run(chunk)
        except (DomainError, RailNotSent) as error:
            log.info("settlement.chunk_refused", settlement=chunk.settlement.id, code=error.code)
            left.single.extend(chunk.lines)
            return
        for line in chunk.lines:
            outcome = told.outcomes.get(line.line_no)
            if line.line_no in told.done:
                continue
            if isinstance(outcome, RailNotSent):
                left.deferred.append((line, outcome))
            elif isinstance(outcome, RailUnknown):
                left.unknown.append((line, told.refunds.get(line.line_no)))
            else:
                left.single.append(line)

    async def _operations(self, chunk: "_Chunk") -> "_Told":
        """Capture or void at the provider."""
        async with self._db.transaction(chunk.scope) as tx:
            book = await _open(tx, chunk)
            pieces = [each for each in await _plain(tx, chunk, book) if not each.inside and each.attempt.provider_id]
            rails = {name: await self._rails.of(tx, name) for name in {each.provider for each in pieces}}
            effects = [
                effect_on(chunk.scope, each.provider, each.attempt.reference, each.amount, chunk.action)
                for each in pieces
            ]
            found = await self._effects.claim(tx, effects)
        calls = [
            BulkCall(effect, claimed, _operation(rails[piece.provider], piece, chunk.action))
            for piece, effect, claimed in zip(pieces, effects, found, strict=True)
        ]
        told = list(zip(pieces, await self._effects.call(calls), strict=True))
        outcomes = {piece.line_no: outcome for piece, outcome in told}
        fine = {piece.line_no for piece, outcome in told if _as_asked(chunk.action, outcome, piece)}
        async with self._db.transaction(chunk.scope) as tx:
            book = await _open(tx, chunk)
            again = [each for each in await _plain(tx, chunk, book) if each.line_no in fine]
            if book is not None and again:
                await (book.take if chunk.action == "capture" else book.release)(again)
            await self._close(tx, chunk, book, outcomes, again)
        return _Told(outcomes, {each.line_no for each in again}, {})

    async def _refunds(self, chunk: "_Chunk") -> "_Told":
        """Give money back through the provider: reserved before it is asked, booked with its answer."""
        async with self._db.transaction(chunk.scope) as tx:
            book = await _open(tx, chunk)
            pieces = [each for each in await _plain(tx, chunk, book) if not each.inside]
            rails = {name: await self._rails.of(tx, name) for name in {each.provider for each in pieces}}
            returns = {each.line_no: _return(chunk.scope, each) for each in pieces}
            if book is not None and pieces:
                await book.begin_refunds([*returns.values()])
                await book.count()
            calls_of = [_refund_call(chunk.scope, rails[each.piece.provider], each) for each in returns.values()]
            found = await self._effects.claim(tx, [effect for effect, _ in calls_of])
        calls = [BulkCall(effect, claimed, send) for (effect, send), claimed in zip(calls_of, found, strict=True)]
        outcomes = dict(zip(returns, await self._effects.call(calls), strict=True))
        fine = {
            number: outcome.answer
            for number, outcome in outcomes.items()
            if isinstance(outcome, Settled) and outcome.answer and outcome.answer.fact is RefundFact.SUCCEEDED
        }
        async with self._db.transaction(chunk.scope) as tx:
            book = await _open(tx, chunk)
            still = await _still_refunding(tx, chunk, [each for number, each in returns.items() if number in fine])
            if book is not None and still:
                await book.end_refunds(still, [fine[each.piece.line_no].provider_id for each in still])
            again = [each.piece for each in still]
            await self._close(tx, chunk, book, outcomes, again)
        refunds = {number: each.refund_id for number, each in returns.items()}
        return _Told(outcomes, {each.line_no for each in again}, refunds)

    async def _close(
        self,
        tx: Tx,
        chunk: "_Chunk",
        book: BulkBook | None,
        outcomes: Mapping[int, Outcomes[A]],
        pieces: Sequence[Piece],
    ) -> None:
        """Every definite outcome is recorded: its consequences are booked here, or from the record by the single path."""
        settled = [each for each in outcomes.values() if isinstance(each, Settled)]
        await self._effects.record(tx, settled)
        await finish_lines(tx, chunk.settlement.id, [each.line_no for each in pieces])
        if book is not None:
            await book.count()


@dataclass(frozen=True)
class _Chunk:
    scope: Scope
    settlement: Settlement
    action: str
    lines: Sequence[SettlementLine]
    as_of: datetime


@dataclass(frozen=True)
class _Told:
    """What became of the calls, by line; the lines that are done; the refunds' ids."""

    outcomes: Mapping[int, Outcomes[RailAnswer]] | Mapping[int, Outcomes[RefundAnswer]]
    done: set[int]
    refunds: dict[int, str]


async def _open(tx: Tx, chunk: _Chunk) -> BulkBook | None:
    """The book of a campaign that is decided; None while it takes money: then every pledge is looked at alone."""
    campaign = await get_campaign(tx, chunk.settlement.campaign_id)
    if campaign is None or campaign.status in TAKES_MONEY:
        return None
    return BulkBook(tx, chunk.scope, campaign, chunk.settlement.id, chunk.as_of)


async def _plain(tx: Tx, chunk: _Chunk, book: BulkBook | None) -> list[Piece]:
    """The chunk's plain lines, locked."""
    if book is None:
        return []
    pieces = await lock_pieces(tx, chunk.settlement.id, [each.line_no for each in chunk.lines])
    fits = _refundable if chunk.action == "refund" else _held
    return [each for each in pieces if fits(each)]


def _held(piece: Piece) -> bool:
    """Held by one attempt whose outcome is known, wanted by its payer, and left to the settlement to decide."""
    holding = [each for each in piece.attempts if each.held]
    if len(holding) != 1 or holding[0].amount_minor != piece.amount_minor or holding[0].provider != piece.provider:
        return False
    step = next_step(
        status=piece.status,
        attempt=holding[0].status,
        capture_now=piece.capture == "immediate",
        cancel=piece.cancel_reason is not None,
        lapsed=False,
    )
    settled = piece.status is _P.REQUIRES_CAPTURE and step is PaymentStep.DONE and piece.blocked_reason is None
    return settled and holding[0].status is _A.AUTHORIZED and piece.pledge is _I.HELD


def _captured(piece: Piece) -> bool:
    """Brought by one attempt, in full, and nothing of it given back."""
    brought = [each for each in piece.attempts if each.captured_minor]
    if len(brought) != 1 or brought[0].status is not _A.CAPTURED or brought[0].provider != piece.provider:
        return False
    whole = brought[0].captured_minor == piece.captured_minor and not brought[0].refunded_minor
    return whole and piece.status is _P.SUCCEEDED and not piece.refunded_minor


def _refundable(piece: Piece) -> bool:
    return _captured(piece) and piece.pledge is _I.CAPTURED and not piece.charged_back and not piece.refunds


async def _still_refunding(tx: Tx, chunk: _Chunk, returns: Sequence[Return]) -> list[Return]:
    """Those whose refund nobody else has taken on since it was requested, with their pieces as they are now, locked."""
    pieces = {
        each.line_no: each
        for each in await lock_pieces(tx, chunk.settlement.id, [each.piece.line_no for each in returns])
        if _captured(each) and each.pledge is _I.REFUNDING and each.refunds == 1
    }
    wanted = await requested(tx, [each.refund_id for each in returns])
    return [
        Return(pieces[each.piece.line_no], each.refund_id, each.provider)
        for each in returns
        if each.refund_id in wanted and each.piece.line_no in pieces
    ]


def _return(scope: Scope, piece: Piece) -> Return:
    through = WALLET if piece.refund_to_wallet else piece.provider
    return Return(piece, refund_id(scope, piece.attempt.reference, CAMPAIGN_FAILED), through)


def _operation(rail: PaymentRail, piece: Piece, action: str) -> Callable[[], Awaitable[RailAnswer]]:
    attempt = piece.attempt
    key = provider_key(attempt_key(attempt.reference, action))
    if action == "capture":
        return partial(
            rail.capture,
            provider_id=attempt.provider_id or "",
            amount_minor=attempt.amount_minor,
            currency=piece.currency,
            key=key,
        )
    return partial(rail.void, provider_id=attempt.provider_id, key=key, reference=attempt.reference)


def _refund_call(
    scope: Scope, rail: PaymentRail, back: Return
) -> tuple[Effect[RefundAnswer], Callable[[], Awaitable[RefundAnswer]]]:
    attempt = back.piece.attempt
    order = order_of(
        back.refund_id,
        back.piece.amount,
        payment_reference=attempt.reference,
        provider_id=attempt.provider_id or "",
    )
    return effect_of(scope, back.refund_id, order, back.provider, rail), partial(rail.refund, order)


def _as_asked(action: str, outcome: Outcomes[RailAnswer], piece: Piece) -> bool:
    """Whether the answer is the plain one: taken in full, or released."""
    if not isinstance(outcome, Settled) or outcome.answer is None:
        return False
    answer = outcome.answer
    if action == "void":
        return answer.fact is PaymentFact.VOIDED
    return answer.fact is PaymentFact.CAPTURED and matches_request(
        asked_minor=piece.amount_minor,
        asked_currency=piece.currency,
        got_minor=answer.captured_minor or answer.amount_minor,
        got_currency=answer.currency,
    )
