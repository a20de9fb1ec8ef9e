"""The distribution process's activities: calculate the lines, begin to pay, pay ranges of them, and reconcile.

Each reads the run under lock and does nothing twice: what a row says is done is done, and every line's money has a key of its
own. A range is paid in short transactions of `LINES_AT_ONCE` lines, so a worker that dies leaves at most one of them undone.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import structlog
from psycopg import Rollback
from temporalio import activity

from activities import distribution_schedule
from activities.book import send
from activities.effects import heartbeating
from activities.errors import translated
from activities.gateways.registry import payout_minimums
from contracts.base import Scope
from contracts.distribution import DistributionProgress, DistributionRange, DistributionStep, DistributionTask
from contracts.inbox import NotificationTask
from contracts.outbox import OutboxKind
from domain.distribution import DistributionStatus, Line, LineStatus, PayTo
from domain.distribution_run import look_again_at
from domain.errors import DomainError, NotFound
from infra.database import Database, Tx
from models import distribution_lines, distribution_money, distribution_payouts, distribution_queue
from models.campaign import get_campaign
from models.case import resolve_case
from models.clock import business_now
from models.distribution import Distribution, change_status, get_distribution, note

T = TypeVar("T")
log = structlog.get_logger(__name__)
LINES_AT_ONCE = 500
"""Lines a transaction pays: long enough that its own cost is small, short enough that no other payer waits."""
_D, _L, _S = DistributionStatus, LineStatus, DistributionStep
_TOTALS = ("lines", "share_minor", "carried_in_minor", "adjustment_minor", "gross_minor", "tax_minor", "platform_fee_minor",
           "provider_fees_minor", "net_minor", "carried_out_minor", "kept_minor", "recovered_minor", "added_minor")  # fmt: skip


_COMPARISONS: Final = 3
"""A bank's return may be booked between the statements of one comparison; the next one sees it."""


class DistributionActivities:
    """Needs the database only: wallet lines call nobody outside."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn
    async def advance_distribution(self, task: DistributionTask) -> DistributionProgress:
        """What the run wants next. An approved run reserves its money here, or says that it is not there."""
        async with translated(), self._db.transaction(task.scope) as tx:
            run = await _locked(tx, task.distribution_id)
            as_of = max(task.as_of, await business_now(tx))
            if run.woken:  # before it looks: what comes in from here on wakes it again
                await note(tx, run, woken=False)
            step = await self._next(tx, task.scope, run, as_of)
            return DistributionProgress(
                status=run.status,
                step=step,
                lines=run.lines,
                outside=run.pay_to is PayTo.PREFERENCE,
                blocked_reason=run.blocked_reason,
                next_action_at=run.next_action_at,
                as_of=as_of,
            )

    async def _next(self, tx: Tx, scope: Scope, run: Distribution, as_of: datetime) -> DistributionStep:
        match run.status:
            case _D.CALCULATING:
                return _S.CALCULATE
            case _D.APPROVED | _D.FUNDING:
                if run.status is _D.APPROVED:
                    await change_status(tx, scope, run, _D.FUNDING, as_of)
                funded = run.hold_placed or await distribution_money.hold(tx, run, as_of)
                await note(
                    tx,
                    run,
                    hold_placed=funded,
                    blocked_reason=None if funded else "not_funded",
                    next_action_at=None if funded else look_again_at(run.next_action_at, as_of),
                )
                return _S.BEGIN if funded else _S.WAIT
            case _D.PAYING:
                return await self._go_on(tx, run, as_of)
            case _D.CALCULATED if run.dry_run:
                return _S.DONE
            case _D.DRAFT if run.calculate_on is not None:
                return await distribution_schedule.look(tx, scope, run, as_of)
            case _D.DRAFT | _D.CALCULATED | _D.PENDING_APPROVAL:
                return _S.WAIT
            case _:
                return _S.DONE

    async def _go_on(self, tx: Tx, run: Distribution, as_of: datetime) -> DistributionStep:
        """Of a run that pays: send what can be sent, then ask about what was sent, then wait for the provider."""
        left = await distribution_payouts.open_work(tx, run, as_of)
        asking = _S.CHECK if left.due else _S.WAIT
        step = _S.PAY if left.unsent or not left.open else asking
        waits = step is _S.WAIT
        await note(
            tx,
            run,
            next_action_at=left.next_at if waits else None,
            blocked_reason=left.blocked if waits else None,
        )
        return step

    @activity.defn
    async def calculate_distribution(self, task: DistributionTask) -> None:
        """The lines and their totals, anew. Of a dry run only the totals stay."""
        async with translated(), heartbeating(), self._db.transaction(task.scope) as tx:
            run = await _locked(tx, task.distribution_id)
            if run.status is not _D.CALCULATING:
                return
            totals: dict[str, Any] = {}
            error_code: str | None = None
            async with tx.transaction() as lines:
                totals = await distribution_lines.calculate_lines(tx, run, task.as_of)
                error_code = _refusal(run, totals)
                if error_code is not None or run.dry_run:
                    raise Rollback(lines)
            figures = {name: 0 if error_code else int(totals[name]) for name in _TOTALS}
            await change_status(
                tx, task.scope, run, _D.CALCULATED, task.as_of, **figures, error_code=error_code,
                story={"lines": figures["lines"], "net_minor": figures["net_minor"], "code": error_code},
            )  # fmt: skip
            if run.calculate_on is not None and run.submitted_by is None:
                await distribution_schedule.hand_in(tx, task.scope, run, task.as_of)

    @activity.defn
    async def begin_distribution(self, task: DistributionTask) -> None:
        """The money that was held is the holders', and every line is on its way: queued, held or carried forward."""
        async with translated(), heartbeating(), self._db.transaction(task.scope) as tx:
            run = await _locked(tx, task.distribution_id)
            if run.status is not _D.FUNDING or not run.hold_placed:
                return
            campaign = await get_campaign(tx, run.campaign_id)
            assert campaign is not None
            least = payout_minimums(run.currency)
            await distribution_queue.queue_lines(tx, run, kyc_level=campaign.min_kyc_level, least=least)
            for status in (_L.HELD, _L.CARRIED_FORWARD):
                await distribution_lines.tell_holders(
                    tx, run, status, 1, run.lines, campaign=campaign.title, as_of=task.as_of
                )
            await distribution_money.fund(tx, run, task.as_of)
            await change_status(tx, task.scope, run, _D.PAYING, task.as_of, payings=run.payings + 1)

    @activity.defn
    async def pay_distribution_range(self, task: DistributionRange) -> int:
        """Pay every queued line of the range into its holder's wallet; how many were paid."""
        async with self._db.transaction(task.scope) as tx:
            run = await get_distribution(tx, task.distribution_id)
            assert run is not None
            campaign = await get_campaign(tx, run.campaign_id)
            assert campaign is not None
        paid = 0
        async with translated(), heartbeating(lambda: (paid,)):
            while done := await self._pay_some(task, run, campaign.title):
                paid += done
        return paid

    async def _pay_some(self, task: DistributionRange, run: Distribution, campaign: str) -> int:
        """One transaction's worth of lines; how many it took on."""

        async def take(tx: Tx) -> Sequence[tuple[int, Line]]:
            return await distribution_lines.queued_lines(tx, run.id, task.first, task.last, LINES_AT_ONCE)

        async def pay(tx: Tx, lines: Sequence[tuple[int, Line]]) -> None:
            await _credit(tx, run, lines, campaign, task.as_of)

        return await all_or_each(self._db, task.scope, run, take, pay, lambda each: each[0])

    @activity.defn
    async def finish_distribution(self, task: DistributionTask) -> None:
        """Hold the lines against the ledger, say how the run ends, and have its messages sent."""
        async with translated(), heartbeating(), self._db.transaction(task.scope) as tx:
            run = await _locked(tx, task.distribution_id)
            if run.status is not _D.PAYING:
                return
            counts = await distribution_lines.count_lines(tx, run.id)
            if any(counts.get(status) for status in (_L.QUEUED, _L.SENDING, _L.UNKNOWN)):
                return
            for _ in range(_COMPARISONS):
                paid = (await distribution_money.credited(tx, run))[0], await distribution_payouts.sent(tx, run)
                agrees = paid == (counts.get(_L.CREDITED_TO_WALLET, (0, 0))[0], counts.get(_L.PAID, (0, 0))[0])
                if agrees:
                    break
                counts = await distribution_lines.count_lines(tx, run.id)
            unpaid = {str(each): counts[each][0] for each in (_L.HELD, _L.FAILED, _L.RETURNED) if each in counts}
            if not agrees:
                log.error("distribution.ledger_differs", distribution=run.id)
            blocked = "unpaid_lines" if agrees else "ledger_differs"
            target = _D.PARTIALLY_PAID if unpaid or not agrees else _D.PAID
            await change_status(
                tx, task.scope, run, target, task.as_of, next_action_at=None,
                blocked_reason=blocked if target is _D.PARTIALLY_PAID else None, story=unpaid,
            )  # fmt: skip
            await self._tell(tx, task, run)
            await send(
                tx, task.scope, OutboxKind.START, "notices", f"{run.id}/{run.payings}", workflow="NoticesWorkflow",
                input=NotificationTask(scope=task.scope, subject_id=run.id),
            )  # fmt: skip

    async def _tell(self, tx: Tx, task: DistributionTask, run: Distribution) -> None:
        """What went out through providers is told at the end, when the last answer is there."""
        if run.pay_to is PayTo.WALLET:
            return
        campaign = await get_campaign(tx, run.campaign_id)
        assert campaign is not None
        for status in (_L.PAID, _L.FAILED):
            await distribution_lines.tell_holders(
                tx, run, status, 1, run.lines, campaign=campaign.title, as_of=task.as_of
            )
        await resolve_case(
            tx, task.scope, kind="provider_balance", subject_id=run.id, resolution="sent", as_of=task.as_of
        )


async def all_or_each(
    db: Database,
    scope: Scope,
    run: Distribution,
    take: Callable[[Tx], Awaitable[Sequence[T]]],
    pay: Callable[[Tx, Sequence[T]], Awaitable[None]],
    number: Callable[[T], int],
) -> int:
    """Pay what `take` holds in one transaction; how many lines that was. A line that a rule refuses fails alone."""
    try:
        async with db.transaction(scope) as tx:
            lines = await take(tx)
            await pay(tx, lines)
            return len(lines)
    except DomainError as error:
        log.info("distribution.lines_refused", distribution=run.id, code=error.code)
    async with db.transaction(scope) as tx:
        lines = await take(tx)
        for line in lines:
            try:
                async with tx.transaction():
                    await pay(tx, [line])
            except DomainError as error:
                await distribution_lines.fail_line(tx, run, number(line), error.code)
        return len(lines)


async def _locked(tx: Tx, distribution_id: str) -> Distribution:
    run = await get_distribution(tx, distribution_id, lock=True)
    if run is None:
        raise NotFound("distribution")
    return run


def _refusal(run: Distribution, totals: dict[str, Any]) -> str | None:
    """Why this calculation cannot be paid, by the words of `domain.distribution.calculate`; None when it can."""
    if run.terms.distributable_minor and not totals["weight"]:
        return "no_holders"
    return None if totals["telling"] else "nothing_to_distribute"


async def _credit(tx: Tx, run: Distribution, lines: Sequence[tuple[int, Line]], campaign: str, as_of: datetime) -> None:
    """Rows, messages, and then money: the shared accounts are locked last, and so for the shortest time."""
    if not lines:
        return
    numbers = [number for number, _ in lines]
    await distribution_lines.credit_lines(tx, run, numbers)
    await distribution_lines.tell_holders(
        tx, run, _L.CREDITED_TO_WALLET, numbers[0], numbers[-1], campaign=campaign, as_of=as_of
    )
    await distribution_money.credit(tx, run, lines, as_of)
