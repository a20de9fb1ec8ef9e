"""The campaign process's one activity: read the row under lock, ask the domain, apply the answer."""

from datetime import datetime
from typing import Any

from temporalio import activity

from activities.book import send
from activities.errors import translated
from activities.settlements import is_covered
from contracts.base import Scope
from contracts.campaign import CampaignProgress, CampaignTask
from contracts.ids import derive_id
from contracts.milestone import MilestoneInput
from contracts.outbox import OutboxKind
from domain.campaign import CAMPAIGN, CampaignStatus, decide_after_capture, decide_at_deadline
from domain.errors import NotFound
from domain.payment import RENEWAL_MARGIN
from infra.database import Database, Tx
from models import timeline
from models.base import move, update
from models.campaign import Campaign, get_campaign, next_renewal
from models.clock import business_now
from models.milestone import WORKING, mark_plan, plan_release
from models.notification import notify
from models.settlement import (
    NOT_COVERED,
    Settlement,
    block_settlement,
    plan_settlement,
    settlement_rounds,
    settlements_of,
)

_C = CampaignStatus
_END_OF_SETTLING = {_C.SETTLING: "capture", _C.REFUNDING: "release"}


class CampaignActivities:
    """Applies what is due to one campaign."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn
    async def advance_campaign(self, task: CampaignTask) -> CampaignProgress:
        """Every transition that is due at `as_of`, in one transaction, up to the next settlement or wait.

        A command may wake the process between two dates of its own: then the tenant's clock has gone on without it.
        """
        async with translated(), self._db.transaction(task.scope) as tx:
            campaign = await get_campaign(tx, task.campaign_id, lock=True)
            if campaign is None:
                raise NotFound("campaign")
            as_of = max(task.as_of, await business_now(tx))
            progress = await _Advance(tx, task.scope, campaign, as_of).run()
            return progress.model_copy(update={"as_of": as_of})


class _Advance:
    """One pass over one locked campaign."""

    def __init__(self, tx: Tx, scope: Scope, campaign: Campaign, as_of: datetime) -> None:
        self._tx, self._scope, self._campaign, self._as_of = tx, scope, campaign, as_of

    async def run(self) -> CampaignProgress:
        """Move until something outside this transaction must happen."""
        while True:
            match self._campaign.status:
                case _C.SUBMITTED | _C.CHANGES_REQUESTED:
                    if self._as_of < self._campaign.deadline_at:
                        return await self._wait(self._campaign.deadline_at)
                    await self._move(_C.REJECTED, outcome="not approved before its deadline")
                case _C.APPROVED | _C.SCHEDULED:
                    begins = self._campaign.go_live_at or self._as_of
                    if self._as_of < begins:
                        return await self._wait(begins)
                    await self._move(_C.LIVE)
                case _C.LIVE | _C.PAUSED | _C.WAITING_FUNDS:
                    progress = await self._live()
                    if progress is not None:
                        return progress
                case _C.SUCCESSFUL:
                    await self._move(_C.SETTLING)
                case _C.FAILED | _C.CANCELED:
                    await self._move(_C.REFUNDING)
                case _C.SETTLING | _C.REFUNDING:
                    progress = await self._settle()
                    if progress is not None:
                        return progress
                case _:
                    return await self._finish()

    async def _live(self) -> CampaignProgress | None:
        """Before the deadline: close early, renew what lapses, or wait. After it: decide, or wait for slow money."""
        campaign = self._campaign
        if self._as_of < campaign.deadline_at:
            if campaign.status is _C.LIVE and campaign.close_when_funded and campaign.funding.reaches_goal_early():
                await self._move(_C.SUCCESSFUL, outcome="success")
                return None
            return await self._renew_or_wait(campaign.deadline_at)
        outcome = decide_at_deadline(
            campaign.funding, as_of=self._as_of, deadline_at=campaign.deadline_at, waiting=campaign.waiting
        )
        if outcome is _C.WAITING_FUNDS:
            if campaign.status is not _C.WAITING_FUNDS:
                await self._move(_C.WAITING_FUNDS)
            return await self._renew_or_wait(campaign.deadline_at + campaign.waiting)
        await self._move(outcome, outcome="success" if outcome is _C.SUCCESSFUL else "failure")
        return None

    async def _renew_or_wait(self, until: datetime) -> CampaignProgress:
        lapse = await next_renewal(self._tx, self._campaign.id, RENEWAL_MARGIN)
        if lapse is not None and lapse <= self._as_of:
            settlement = await self._plan("renew")
            if settlement.lines:
                return await self._wait(None, settlement)
        return await self._wait(min(until, lapse) if lapse is not None and lapse > self._as_of else until)

    async def _settle(self) -> CampaignProgress | None:
        """Plan the settlement once; when its lines are final, decide what the campaign becomes."""
        outcome = _END_OF_SETTLING[self._campaign.status]
        planned = [each for each in await settlements_of(self._tx, self._campaign.id) if each.outcome == outcome]
        settlement = planned[-1] if planned else await self._plan(outcome)
        if settlement.lines and settlement.status == "running":
            return await self._wait(None, settlement)
        if outcome == "capture":
            await self._move(decide_after_capture(self._campaign.funding))
            if self._campaign.status is _C.FUNDED:
                await self._plan_release()
        else:
            await self._move(_C.CLOSED_FAILED)
        return None

    async def _plan_release(self) -> None:
        """Its money waits for its owner now. Where dates were promised, a process of its own keeps them."""
        campaign = self._campaign
        await plan_release(self._tx, self._scope, campaign, self._as_of)
        if campaign.milestones is None and campaign.profit_until is None:
            return
        await mark_plan(self._tx, campaign.id, WORKING)
        task = MilestoneInput(scope=self._scope, campaign_id=campaign.id, as_of=self._as_of)
        await send(
            self._tx, self._scope, OutboxKind.START, "milestones", campaign.id, workflow="MilestoneWorkflow", input=task
        )

    async def _plan(self, outcome: str) -> Settlement:
        campaign = self._campaign
        rounds = await settlement_rounds(self._tx, campaign.id, outcome)
        settlement_id = derive_id("set", self._scope, campaign.id, outcome, str(rounds + 1))
        lines = await plan_settlement(
            self._tx,
            self._scope,
            settlement_id=settlement_id,
            campaign_id=campaign.id,
            outcome=outcome,
            round_no=rounds + 1,
            margin=RENEWAL_MARGIN,
            as_of=self._as_of,
        )
        await self._story(f"settlement_{outcome}", settlement_id=settlement_id, lines=lines)
        settlement = Settlement(
            tenant_id=campaign.tenant_id,
            mode=campaign.mode,
            id=settlement_id,
            campaign_id=campaign.id,
            outcome=outcome,
            round=rounds + 1,
            status="running",
            lines=lines,
            created_at=self._as_of,
        )
        if outcome == "release" and not await is_covered(self._tx, settlement):
            await block_settlement(self._tx, settlement_id, NOT_COVERED)
        return settlement

    async def _move(self, status: CampaignStatus, **changes: Any) -> None:
        moved = await move(self._tx, Campaign, CAMPAIGN, self._campaign.id, status, **changes)
        assert moved, f"{self._campaign.status} → {status} is not in the table"
        self._campaign.status = status
        await self._story(f"campaign_{status}")

    async def _story(self, event: str, **detail: Any) -> None:
        await timeline.record(self._tx, self._scope, [self._campaign.id], event, self._as_of, detail)

    async def _wait(self, at: datetime | None, settlement: Settlement | None = None) -> CampaignProgress:
        # A goal that was reached and is no longer may be reached, and told, again.
        changes = {"next_action_at": at, "goal_reached_at": None}
        await update(self._tx, Campaign, {"id": self._campaign.id}, changes)
        return CampaignProgress(
            status=self._campaign.status,
            next_action_at=at,
            settlement_id=settlement.id if settlement else None,
            settlement_lines=settlement.lines if settlement else 0,
        )

    async def _finish(self) -> CampaignProgress:
        """Tell the owner; the process is over."""
        campaign = self._campaign
        await update(self._tx, Campaign, {"id": campaign.id}, {"next_action_at": None})
        await notify(
            self._tx,
            self._scope,
            subject_id=campaign.id,
            user_id=campaign.owner_id,
            template="campaign_canceled" if campaign.outcome == "canceled" else f"campaign_{campaign.status}",
            params={
                "campaign": campaign.title,
                "amount_minor": campaign.captured_minor,
                "currency": campaign.currency,
            },
            as_of=self._as_of,
        )
        return CampaignProgress(status=campaign.status, finished=True)
