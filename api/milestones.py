"""A funded campaign's release at the edge: what is asked for, what is shown, and how a released tranche is sent."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.commands import Unit
from api.envelope import LongText, ShortText, StrictModel, WebAddress
from api.notices import announce
from api.payouts import check_sendable, own_beneficiary, start_payout
from api.views import MoneyView
from contracts.base import Scope
from contracts.ids import workflow_id
from contracts.milestone import MilestoneInput
from contracts.visibility import ENTITY
from domain.campaign import HAS_PLAN, CampaignStatus
from domain.errors import AlreadyDone, Conflict, NotFound
from domain.milestone import SETTLED, TrancheStatus, VoteChoice
from domain.milestone_postings import PAYOUT_REASON, proceeds
from domain.payment import WALLET
from domain.payout import NOT_SENT, PayoutStatus
from infra.database import Tx
from models import milestone
from models.beneficiary import BeneficiaryRow
from models.campaign import Campaign
from models.milestone import MilestonePlan, Tranche, is_sent
from models.milestone_vote import MilestoneHolder, MilestoneVote, votes_of
from models.payout import Payout, PayoutRequest, reserve_payout

Number = Annotated[int, Field(ge=1, le=20)]


class EvidenceRequest(StrictModel):
    """What shows that a milestone is reached, and where its money is to go: `wallet`, or a beneficiary of the owner's."""

    evidence: LongText
    evidence_url: WebAddress | None = None
    destination: ShortText


class ReviewNoteRequest(StrictModel):
    """Why the evidence is not enough. The owner reads it."""

    note: ShortText


class VoteRequest(StrictModel):
    """More time for the owner, or one's part of what is left back."""

    choice: Literal["extend", "refund"]


class ReleaseRequest(StrictModel):
    """Where a tranche's money is to go: `wallet`, or a beneficiary of the owner's."""

    destination: ShortText
    milestone: Number = 1


class VoteView(BaseModel):
    """A vote about a missed milestone. Money in minor units that its voters hold: all of it, and what wants which.

    `your_choice` and `your_weight` are the caller's, in the answer to a vote.
    """

    id: str
    opened_at: datetime
    closes_at: datetime
    electorate: MoneyView
    extend: MoneyView
    refund: MoneyView
    outcome: VoteChoice | None
    decided_at: datetime | None
    your_choice: VoteChoice | None = None
    your_weight: MoneyView | None = None


class TranchePayoutView(BaseModel):
    """The last payout that was to send a tranche."""

    id: str
    status: PayoutStatus


class TrancheView(BaseModel):
    """A part of the money. `net`: less the fee; `unsent`: what of it is released and neither sent, on its way nor in the wallet.

    `destination`, `payout` and `note` are shown to the owner and to admins.
    """

    id: str
    number: int
    title: str
    share_bps: int
    amount: MoneyView
    fee: MoneyView
    net: MoneyView
    unsent: MoneyView
    status: TrancheStatus
    due_at: datetime | None
    extensions: int
    evidence: str | None
    evidence_url: str | None
    submitted_at: datetime | None
    decided_at: datetime | None
    released_at: datetime | None
    credited_at: datetime | None
    note: str | None
    destination: str | None
    payout: TranchePayoutView | None
    vote: VoteView | None


class ReleaseView(BaseModel):
    """A funded campaign's money: where it stands, and its tranches. `raised` = `in_escrow` + `released` + `returned`."""

    campaign_id: str
    status: CampaignStatus
    raised: MoneyView
    in_escrow: MoneyView
    released: MoneyView
    returned: MoneyView
    unsent: MoneyView
    platform_fee_bps: int
    next_action_at: datetime | None
    workflow_id: str
    tranches: list[TrancheView]


async def planned(unit: Unit, campaign: Campaign) -> list[Tranche]:
    """The tranches of a campaign whose row is locked. Raises Conflict `campaign_not_funded` before there are any."""
    if campaign.status not in HAS_PLAN:
        raise Conflict("campaign_not_funded", "The campaign is not funded, or not yet.")
    await milestone.plan_release(unit.tx, unit.scope, campaign, unit.as_of)
    return await milestone.tranches_of(unit.tx, campaign.id)


async def tranche_of(unit: Unit, campaign: Campaign, number: int) -> Tranche:
    """One tranche, held until the command commits. Raises NotFound, and Conflict `campaign_not_funded`."""
    await planned(unit, campaign)
    found = await milestone.get_tranche(unit.tx, campaign.id, number)
    if found is None:
        raise NotFound("milestone")
    return found


async def payee(unit: Unit, campaign: Campaign, tranche: Tranche, destination: str) -> BeneficiaryRow | None:
    """The owner's beneficiary that a tranche is to be sent to, locked; None for the wallet.

    Raises NotFound for one that is not the owner's, Conflict `beneficiary_not_verified`, and InvalidRequest
    `currency_mismatch` and `below_payout_minimum`.
    """
    if destination == WALLET:
        return None
    found = await own_beneficiary(unit, destination, campaign.owner_id)
    check_sendable(found, tranche.net, currency_field="destination", amount_field="destination")
    return found


async def send_tranche(unit: Unit, campaign: Campaign, tranche: Tranche, beneficiary: BeneficiaryRow | None) -> None:
    """Put a released tranche into its owner's wallet (None), or on its way to a beneficiary.

    A payout needs nobody's approval where a second person has approved the tranche; otherwise from the tenant's limit on.
    Raises AlreadyDone for a request whose payout was made long ago, and is over: what is left is sent under another key.
    """
    if beneficiary is None:
        await milestone.credit_proceeds(unit.tx, unit.scope, campaign, tranche, unit.as_of)
        return
    order = PayoutRequest(
        id=unit.new_id("pyo"),
        owner_id=campaign.owner_id,
        beneficiary=beneficiary,
        source=proceeds(campaign.id, tranche.currency),
        amount=tranche.net,
        reason=PAYOUT_REASON,
        subject_id=tranche.id,
        requested_by=campaign.owner_id,
        approved=tranche.decided_by is not None,
    )
    payout = await reserve_payout(unit.tx, unit.scope, order, unit.as_of)
    if payout.status in NOT_SENT:
        raise AlreadyDone
    await milestone.change_tranche(unit.tx, tranche, payout_id=payout.id)
    await unit.timeline(campaign.id, "tranche_sending", number=tranche.number, payout_id=payout.id)
    await start_payout(unit, payout)


async def tell_owner(unit: Unit, campaign: Campaign, tranche: Tranche, template: str) -> None:
    """Queue a message about a tranche to the owner, and have it sent."""
    occasion = unit.new_id("trm")
    await milestone.tell_owner(
        unit.tx, unit.scope, campaign, occasion, template, unit.as_of, milestone=tranche.title,
        amount_minor=tranche.net.amount_minor,
    )  # fmt: skip
    await announce(unit, occasion, campaign.id)


async def wake(unit: Unit, campaign: Campaign) -> None:
    """Have the process of the campaign's money look at the rows, starting it if it has ended."""
    await milestone.mark_plan(unit.tx, campaign.id, milestone.WORKING)
    await unit.signal_with_start(
        "MilestoneWorkflow",
        workflow_id("milestones", unit.scope, campaign.id),
        MilestoneInput(scope=unit.scope, campaign_id=campaign.id, as_of=unit.as_of),
        "changed",
        search_attributes={ENTITY.name: campaign.id},
        summary=f"milestones of {campaign.id}",
    )


def vote_view(vote: MilestoneVote, currency: str, holder: MilestoneHolder | None = None) -> VoteView:
    """One vote; with what one voter said."""

    def money(minor: int) -> MoneyView:
        return MoneyView(amount=minor, currency=currency)

    return VoteView(
        id=vote.id,
        opened_at=vote.created_at,
        closes_at=vote.closes_at,
        electorate=money(vote.electorate_minor),
        extend=money(vote.extend_minor),
        refund=money(vote.refund_minor),
        outcome=vote.outcome,
        decided_at=vote.decided_at,
        your_choice=holder.choice if holder else None,
        your_weight=money(holder.weight_minor) if holder else None,
    )


async def release_view(tx: Tx, scope: Scope, campaign: Campaign, plan: MilestonePlan, *, whole: bool) -> ReleaseView:
    """A campaign's money; `whole`: for its owner and the admins."""
    votes = {vote.tranche_id: vote for vote in await votes_of(tx, campaign.id)}  # the last of each
    tranches = await milestone.tranches_of(tx, campaign.id)
    shown = [
        tranche_view(each, await milestone.payout_of(tx, each), votes.get(each.id), whole=whole) for each in tranches
    ]

    def money(minor: int) -> MoneyView:
        return MoneyView(amount=minor, currency=plan.currency)

    def total(*statuses: TrancheStatus) -> MoneyView:
        return money(sum(each.amount_minor for each in tranches if each.status in statuses))

    return ReleaseView(
        campaign_id=campaign.id,
        status=campaign.status,
        raised=money(plan.amount_minor),
        in_escrow=total(*(each for each in TrancheStatus if each not in SETTLED)),
        released=total(TrancheStatus.RELEASED),
        returned=total(TrancheStatus.RETURNED),
        unsent=money(sum(each.unsent.amount for each in shown)),
        platform_fee_bps=plan.fee_bps,
        next_action_at=plan.next_action_at,
        workflow_id=workflow_id("milestones", scope, campaign.id),
        tranches=shown,
    )


_MONEY = ("amount", "fee", "net")
_PUBLIC = (
    "id", "number", "title", "share_bps", "status", "due_at", "extensions", "evidence", "evidence_url", "submitted_at",
    "decided_at", "released_at", "credited_at",
)  # fmt: skip


def tranche_view(tranche: Tranche, payout: Payout | None, vote: MilestoneVote | None, *, whole: bool) -> TrancheView:
    """One tranche; `whole`: with what only its owner and the admins see."""
    unsent = 0
    if tranche.status is TrancheStatus.RELEASED and not is_sent(tranche, payout):
        unsent = tranche.net.amount_minor
    private: dict[str, Any] = {"note": tranche.note, "destination": tranche.destination}
    return TrancheView(
        **{name: getattr(tranche, name) for name in _PUBLIC},
        **(private if whole else dict.fromkeys(private)),
        **{name: MoneyView(amount=getattr(tranche, name).amount_minor, currency=tranche.currency) for name in _MONEY},
        unsent=MoneyView(amount=unsent, currency=tranche.currency),
        payout=TranchePayoutView(id=payout.id, status=payout.status) if payout is not None and whole else None,
        vote=vote_view(vote, tranche.currency) if vote is not None else None,
    )
