"""The release of a funded campaign's money: its plan and its tranches. Votes and returns: `models/milestone_vote.py`."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, ClassVar

from sqlmodel import Field

from contracts.base import Scope
from contracts.ids import derive_id
from domain.allocation import RemainderRule
from domain.campaign import CAMPAIGN, CampaignStatus
from domain.distribution_run import OVER
from domain.milestone import (
    FEE_ROUNDING,
    SETTLED,
    TRANCHE,
    MilestoneTerm,
    TranchePlan,
    TrancheStatus,
    check_completable,
    plan_tranches,
)
from domain.milestone_postings import proceeds_credited, tranche_released
from domain.money import Money, Rounding
from domain.payout import NOT_SENT
from infra.database import Tx, fetch_one
from models import ledger, timeline
from models.base import Scoped, by_id, insert, move, read, read_all, update
from models.campaign import Campaign
from models.notification import notify, notify_investors
from models.payout import Payout, get_payout

WORKING, WAITING = "working", "waiting"


class MilestonePlan(Scoped, table=True):
    """A funded campaign's release, under the campaign's id. `amount_minor`: what was captured; never changes.

    `status` is `working` from a command until the process has seen it: a test clock waits so long.
    """

    __tablename__: ClassVar[str] = "milestone_plans"

    id: str = Field(primary_key=True)
    currency: str
    amount_minor: int
    fee_bps: int
    fee_rounding: Rounding
    remainder: RemainderRule
    status: str
    next_action_at: datetime | None = None
    created_at: datetime


class Tranche(Scoped, table=True):
    """A part of a campaign's money, in minor units; what it was planned as never changes. `due_at` None: no milestone.

    `destination`: `wallet` or a beneficiary of the owner's. `note`: the reviewer's. `credited_at`: its net came into the
    owner's wallet. `payout_id`: the last payout that was to send it.
    """

    __tablename__: ClassVar[str] = "tranches"

    id: str = Field(primary_key=True)
    campaign_id: str
    number: int
    title: str
    share_bps: int
    currency: str
    amount_minor: int
    fee_minor: int
    due_at: datetime | None = None
    extensions: int = 0
    status: TrancheStatus
    destination: str | None = None
    evidence: str | None = None
    evidence_url: str | None = None
    submitted_by: str | None = None
    submitted_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None
    released_at: datetime | None = None
    credited_at: datetime | None = None
    payout_id: str | None = None
    created_at: datetime

    @property
    def amount(self) -> Money:
        """What leaves the escrow."""
        return Money(self.amount_minor, self.currency)

    @property
    def fee(self) -> Money:
        """The tenant's part."""
        return Money(self.fee_minor, self.currency)

    @property
    def net(self) -> Money:
        """What the owner gets."""
        return self.amount - self.fee


def milestone_terms(campaign: Campaign) -> list[MilestoneTerm]:
    """A campaign's milestones as they were offered; none for one that has a single tranche."""
    return [
        MilestoneTerm(
            title=each["title"],
            share_bps=each["share_bps"],
            due_at=datetime.fromisoformat(each["due_at"]) if each["due_at"] else None,
            due_days=each["due_days"],
        )
        for each in campaign.milestones or []
    ]


async def plan_release(tx: Tx, scope: Scope, campaign: Campaign, as_of: datetime) -> MilestonePlan:
    """The plan of a campaign that is, or is just now, funded, and whose row the caller has locked; made if it has none."""
    known = await get_plan(tx, campaign.id)
    if known is not None:
        return known
    plan = MilestonePlan(
        tenant_id=scope.tenant_id,
        mode=scope.mode,
        id=campaign.id,
        currency=campaign.currency,
        amount_minor=campaign.captured_minor,
        fee_bps=campaign.platform_fee_bps,
        fee_rounding=FEE_ROUNDING,
        remainder=RemainderRule.LARGEST_REMAINDER_BY_ID,
        status=WAITING,
        created_at=as_of,
    )
    await insert(tx, plan)
    planned = plan_tranches(
        campaign.captured_minor, milestone_terms(campaign), fee_bps=campaign.platform_fee_bps, funded_at=as_of
    )
    for each in planned:
        await insert(tx, _tranche(scope, campaign, each, as_of))
    return plan


def _tranche(scope: Scope, campaign: Campaign, planned: TranchePlan, as_of: datetime) -> Tranche:
    return Tranche(
        tenant_id=scope.tenant_id,
        mode=scope.mode,
        id=derive_id("trn", scope, campaign.id, str(planned.number)),
        campaign_id=campaign.id,
        currency=campaign.currency,
        status=TrancheStatus.OPEN,
        created_at=as_of,
        **{name: getattr(planned, name) for name in TranchePlan.__dataclass_fields__},
    )


async def tenant_fee_bps(tx: Tx) -> int:
    """What the tenant takes of a campaign's money as it is released, unless a reviewer says otherwise."""
    row = await fetch_one(tx, "select platform_fee_bps as bps from tenant_settings")
    return int(row["bps"]) if row else 0


async def get_plan(tx: Tx, campaign_id: str) -> MilestonePlan | None:
    """A campaign's plan; None before it is funded. Its writers hold the campaign's row."""
    return await by_id(tx, MilestonePlan, campaign_id)


async def mark_plan(tx: Tx, campaign_id: str, status: str, next_action_at: datetime | None = None) -> None:
    """`working`, until the process has looked; or `waiting`, for a time or for a command."""
    await update(tx, MilestonePlan, {"id": campaign_id}, {"status": status, "next_action_at": next_action_at})


async def tranches_of(tx: Tx, campaign_id: str) -> list[Tranche]:
    """A campaign's tranches in order: at most twenty."""
    return await read_all(tx, Tranche, "select * from tranches where campaign_id = %s order by number", (campaign_id,))


async def get_tranche(tx: Tx, campaign_id: str, number: int) -> Tranche | None:
    """One tranche, held until the transaction ends. Lock order of a funded campaign's money: campaign,
    tranche, vote, payout, ledger."""
    query = "select * from tranches where campaign_id = %s and number = %s for update"
    return await read(tx, Tranche, query, (campaign_id, number))


async def move_tranche(
    tx: Tx, scope: Scope, tranche: Tranche, target: TrancheStatus, as_of: datetime, **changes: Any
) -> None:
    """Move a tranche of a campaign whose row is locked, and tell the campaign's story. Updates `tranche`.

    The caller has checked that it may: a move its table forbids is a defect.
    """
    story: dict[str, Any] = {"number": tranche.number, **changes.pop("story", {})}
    moved = await move(tx, Tranche, TRANCHE, tranche.id, target, **changes)
    assert moved, f"{tranche.status} → {target} is not in the table"
    for name, value in {"status": target, **changes}.items():
        setattr(tranche, name, value)
    await timeline.record(tx, scope, [tranche.campaign_id], f"tranche_{target}", as_of, story)


async def change_tranche(tx: Tx, tranche: Tranche, **changes: Any) -> None:
    """Set columns of one tranche, here and in its row; never its status."""
    assert "status" not in changes
    await update(tx, Tranche, {"id": tranche.id}, changes)
    for name, value in changes.items():
        setattr(tranche, name, value)


async def release_tranche(
    tx: Tx, scope: Scope, campaign: Campaign, tranche: Tranche, as_of: datetime, **changes: Any
) -> None:
    """The tranche's money is the owner's: out of the escrow, less the fee, onto the campaign's proceeds. Not sent yet."""
    story = {"amount_minor": tranche.amount_minor, "fee_minor": tranche.fee_minor, "currency": tranche.currency}
    await move_tranche(tx, scope, tranche, TrancheStatus.RELEASED, as_of, released_at=as_of, story=story, **changes)
    if tranche.amount_minor:
        posting = tranche_released(
            tranche.id, campaign_id=campaign.id, amount=tranche.amount, fee=tranche.fee, as_of=as_of
        )
        await ledger.post(tx, posting)


async def credit_proceeds(tx: Tx, scope: Scope, campaign: Campaign, tranche: Tranche, as_of: datetime) -> None:
    """A released tranche that was not sent goes into its owner's wallet."""
    if tranche.net.amount_minor:
        posting = proceeds_credited(
            tranche.id, campaign_id=campaign.id, owner_id=campaign.owner_id, amount=tranche.net, as_of=as_of
        )
        await ledger.post(tx, posting)
    await change_tranche(tx, tranche, credited_at=as_of)
    detail = {"number": tranche.number, "amount_minor": tranche.net.amount_minor, "currency": tranche.currency}
    await timeline.record(tx, scope, [campaign.id], "tranche_credited", as_of, detail)


async def payout_of(tx: Tx, tranche: Tranche) -> Payout | None:
    """The last payout that was to send the tranche."""
    return await get_payout(tx, tranche.payout_id) if tranche.payout_id is not None else None


def is_sent(tranche: Tranche, payout: Payout | None) -> bool:
    """Whether a released tranche's money is in the wallet, sent, or on its way: nothing of it is left to send."""
    if tranche.credited_at is not None or tranche.net.amount_minor == 0:
        return True
    return payout is not None and payout.status not in NOT_SENT


async def open_distributions(tx: Tx, campaign_id: str) -> int:
    """How many runs of the campaign are not over: neither paid nor given up."""
    row = await fetch_one(
        tx,
        "select count(*)::int as n from distributions where campaign_id = %s and not dry_run and status <> all(%s)",
        (campaign_id, ["paid", *(str(each) for each in sorted(OVER))]),
    )
    assert row is not None
    return int(row["n"])


async def check_done(tx: Tx, campaign: Campaign, tranches: Sequence[Tranche], today: date, *, by_owner: bool) -> None:
    """Raises what `domain.milestone.check_completable` raises, for a campaign whose row is locked."""
    check_completable(
        campaign.status,
        unsettled=sum(each.status not in SETTLED for each in tranches),
        distributing=await open_distributions(tx, campaign.id),
        profit_until=campaign.profit_until,
        today=today,
        by_owner=by_owner,
    )


async def complete_campaign(tx: Tx, scope: Scope, campaign: Campaign, as_of: datetime) -> str:
    """Nothing follows any more: the campaign is completed, and everybody is told under the subject returned."""
    moved = await move(tx, Campaign, CAMPAIGN, campaign.id, CampaignStatus.COMPLETED, next_action_at=None)
    assert moved, f"{campaign.status} → completed is not in the table"
    campaign.status = CampaignStatus.COMPLETED
    await timeline.record(tx, scope, [campaign.id], "campaign_completed", as_of)
    occasion = derive_id("end", scope, campaign.id)
    await tell_both(tx, scope, campaign, occasion, "campaign_completed", as_of)
    return occasion


async def tell_both(
    tx: Tx, scope: Scope, campaign: Campaign, occasion: str, template: str, as_of: datetime, **params: Any
) -> None:
    """Queue a message to the investors, and one (`<template>_owner`) to the owner, under the subject `occasion`."""
    shown = {"campaign": campaign.title, **params}
    await notify_investors(
        tx, campaign_id=campaign.id, subject_id=occasion, template=template, params=shown, as_of=as_of
    )
    await tell_owner(tx, scope, campaign, occasion, f"{template}_owner", as_of, **params)


async def tell_owner(
    tx: Tx, scope: Scope, campaign: Campaign, occasion: str, template: str, as_of: datetime, **params: Any
) -> None:
    """Queue a message to the owner. The amount it names is what was captured, unless `params` say another."""
    shown: dict[str, Any] = {
        "campaign": campaign.title, "amount_minor": campaign.captured_minor, "currency": campaign.currency, **params,
    }  # fmt: skip
    await notify(
        tx, scope, subject_id=occasion, user_id=campaign.owner_id, template=template, params=shown, as_of=as_of
    )
