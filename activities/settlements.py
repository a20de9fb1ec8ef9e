"""Settlement activities: a range of lines. Plain ones are carried out by the chunk (`bulk_settlements`), each other one by the
same steps as a single payment or refund."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from temporalio import activity

from activities.bulk_settlements import BulkSettlements
from activities.effects import heartbeating
from activities.errors import translated
from activities.gateways.protocols import RailNotSent
from activities.payment_steps import PaymentSteps
from activities.refund_steps import RefundSteps
from activities.renewals import Renewals
from contracts.base import Scope
from contracts.campaign import SettlementProgress, SettlementRange, SettlementTask
from contracts.payment import PaymentProgress
from domain import accounts
from domain.errors import DomainError
from domain.payment import PaymentStatus, PaymentStep, RefundStatus, next_check
from infra.database import Database, Tx
from infra.turns import in_turns
from models import ledger
from models.campaign import get_campaign
from models.case import open_case
from models.payment import get_payment
from models.settlement import (
    NOT_COVERED,
    Settlement,
    SettlementLine,
    block_settlement,
    change_line,
    change_settlement,
    count_lines,
    get_settlement,
    open_lines,
    postpone_lines,
    refunds_to_come,
)

log = structlog.get_logger(__name__)
COVER_AGAIN: Final = timedelta(hours=1)
"""How long refunds wait for money that is not on the campaign's escrow, before it is looked for again."""
CHARGED_BACK: Final = "charged_back"
"""The code of a line that is done although nothing went back: the payer's bank was first."""
LINES_AT_ONCE = 8
"""Lines of a range in flight together, well under the pool's size."""
_P = PaymentStatus
_Standing = tuple[str, str | None, datetime | None]
"""A line's status, code and next action."""
_Doing = Callable[[], Awaitable[_Standing]]


class SettlementActivities:
    """Carries out and counts lines."""

    def __init__(
        self, db: Database, steps: PaymentSteps, refunds: RefundSteps, renewals: Renewals, bulk: BulkSettlements
    ) -> None:
        self._db, self._steps, self._refunds, self._renewals, self._bulk = db, steps, refunds, renewals, bulk

    @activity.defn
    async def settle_range(self, task: SettlementRange) -> None:
        """Every open line of the range that wants work now. Lines that are final are not touched."""
        async with self._db.transaction(task.scope) as tx:
            settlement = await get_settlement(tx, task.settlement_id)
            assert settlement is not None
            lines = await open_lines(tx, task.settlement_id, task.first, task.last, task.as_of)
            if settlement.blocked_reason == NOT_COVERED:
                lines = await self._look_for_money(tx, settlement, lines, task.as_of)
        async with translated(), heartbeating():
            left = await self._bulk.settle(task.scope, settlement, lines, task.as_of)
            doings: list[tuple[SettlementLine, _Doing]] = [
                *((each, partial(self._carry_out, task.scope, each, task.as_of)) for each in left.single),
                *((each, partial(_not_sent, error)) for each, error in left.deferred),
                *(
                    (each, partial(self._unknown, task.scope, each, refund, task.as_of))
                    for each, refund in left.unknown
                ),
            ]
            singly = [partial(self._settle_line, task.scope, line, doing, task.as_of) for line, doing in doings]
            await in_turns(singly, LINES_AT_ONCE)

    async def _look_for_money(
        self, tx: Tx, settlement: Settlement, lines: list[SettlementLine], as_of: datetime
    ) -> list[SettlementLine]:
        """The lines to carry out: all where the escrow covers every refund by now, else those that give nothing back."""
        if await is_covered(tx, settlement):
            await block_settlement(tx, settlement.id, None)
            return lines
        waiting = [each.line_no for each in lines if each.action == "refund" and each.status == "queued"]
        await postpone_lines(tx, settlement.id, waiting, code=NOT_COVERED, until=as_of + COVER_AGAIN)
        return [each for each in lines if each.line_no not in waiting]

    async def _settle_line(self, scope: Scope, line: SettlementLine, doing: _Doing, as_of: datetime) -> None:
        """Take one line on, and write down where it stands. Nothing was sent: it waits for the next pass."""
        try:
            status, code, at = await doing()
        except RailNotSent as error:
            log.info("settlement.line_deferred", settlement=line.settlement_id, line=line.line_no, code=error.code)
            status, code, at = line.status, error.code, as_of + next_check(line.tries, unknown=True)
        except DomainError as error:  # a rule refuses this line: it must not stop the others
            status, code, at = "failed", error.code, None
        async with self._db.transaction(scope) as tx:
            await change_line(tx, line, status=status, error_code=code, next_action_at=at)
            if status == "failed":
                detail: dict[str, object] = {"settlement_id": line.settlement_id, "action": line.action, "code": code}
                await open_case(
                    tx, scope, kind="failed_line", subject_id=line.investment_id, detail=detail, as_of=as_of, again=True
                )

    async def _unknown(self, scope: Scope, line: SettlementLine, refund_id: str | None, as_of: datetime) -> _Standing:
        """Nobody answered the line's call: whoever holds its money is in doubt until it is looked up."""
        if refund_id is not None:
            refund = await self._refunds.unknown(scope, refund_id, as_of)
            return "unknown", None, refund.next_action_at
        progress = await self._steps.unknown(scope, line.payment_id, as_of, notices=line.settlement_id)
        return await self._outcome(scope, line, progress, as_of)

    async def _carry_out(self, scope: Scope, line: SettlementLine, as_of: datetime) -> _Standing:
        if line.action == "renew":
            progress = await self._renewals.renew(scope, line.payment_id, as_of, notices=line.settlement_id)
            waits = progress.step is PaymentStep.WAIT
            return ("unknown", None, progress.next_action_at) if waits else ("done", None, None)
        if line.action == "refund":
            return await self._refund(scope, line, as_of)
        progress = await self._steps.load(scope, line.payment_id, as_of)
        if progress.step is PaymentStep.WAIT and progress.status is _P.REQUIRES_CAPTURE:
            progress = await self._steps.check(scope, line.payment_id, as_of, notices=line.settlement_id)
        if progress.status is _P.REQUIRES_CAPTURE and progress.step is not PaymentStep.WAIT:
            taken_back = progress.step is PaymentStep.VOID  # the investor canceled before the campaign was decided
            act = self._steps.capture if line.action == "capture" and not taken_back else self._steps.void
            progress = await act(scope, line.payment_id, as_of, notices=line.settlement_id)
        return await self._outcome(scope, line, progress, as_of)

    async def _outcome(
        self, scope: Scope, line: SettlementLine, progress: PaymentProgress, as_of: datetime
    ) -> _Standing:
        if progress.status is _P.REQUIRES_CAPTURE:
            return "unknown", None, progress.next_action_at or as_of + next_check(line.tries, unknown=True)
        if line.action == "capture":
            if progress.status is _P.SUCCEEDED:
                return "done", None, None
            async with self._db.transaction(scope) as tx:
                payment = await get_payment(tx, line.payment_id)
            canceled = progress.status is _P.CANCELED
            return ("done" if canceled else "failed"), payment.error_code if payment else None, None
        if progress.status is _P.SUCCEEDED:  # taken after all, while we were letting it go
            return await self._refund(scope, line, as_of)
        return "done", None, None

    async def _refund(self, scope: Scope, line: SettlementLine, as_of: datetime) -> _Standing:
        refund_id = await self._refunds.request_for_pledge(scope, line.payment_id, as_of)
        if refund_id is None:
            return "done", CHARGED_BACK, None
        progress = await self._refunds.advance(scope, refund_id, as_of, notices=line.settlement_id)
        if progress.status is RefundStatus.SUCCEEDED:
            return "done", None, None
        if progress.status is RefundStatus.FAILED:
            return "failed", "refund_failed", None
        return ("unknown" if progress.status is RefundStatus.UNKNOWN else "pending"), None, progress.next_action_at

    @activity.defn
    async def settlement_progress(self, task: SettlementTask) -> SettlementProgress:
        """Count what is left, and record it for operators and the campaign."""
        async with translated(), self._db.transaction(task.scope) as tx:
            # Held before the count: whoever deals with a failed line meanwhile holds it, too.
            settlement = await get_settlement(tx, task.settlement_id, lock=True)
            assert settlement is not None
            counts = await count_lines(tx, task.settlement_id)
            blocked = "failed_lines" if counts.unsettled and not counts.open else None
            if settlement.blocked_reason == NOT_COVERED and counts.open:
                blocked = NOT_COVERED
            at = (counts.next_action_at or task.as_of) if counts.open else None
            await change_settlement(
                tx,
                task.settlement_id,
                status="running" if counts.open else "completed",
                next_action_at=at,
                blocked_reason=blocked,
            )
            return SettlementProgress(open=counts.open, done=counts.done, failed=counts.failed, next_action_at=at)


async def is_covered(tx: Tx, settlement: Settlement) -> bool:
    """Whether the campaign's escrow has what the settlement's lines are still to give back."""
    wanted = await refunds_to_come(tx, settlement.id)
    if not wanted:
        return True
    campaign = await get_campaign(tx, settlement.campaign_id)
    assert campaign is not None
    escrow = accounts.escrow(campaign.id, campaign.currency)
    return (await ledger.balance(tx, escrow.code)).available_minor >= wanted


async def _not_sent(error: RailNotSent) -> _Standing:
    """As a call that could not be made."""
    raise error
