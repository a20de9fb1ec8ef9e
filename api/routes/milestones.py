"""The release of a funded campaign's money: evidence, its review, investors' votes, payouts to the owner, completion.

Each command locks the campaign's row and wakes the process of its money, which reads the rows again.
"""

from typing import Annotated

from fastapi import Path, Request
from starlette.responses import JSONResponse

from api.auth import Principal
from api.campaign_terms import fresh, locked
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, success
from api.milestones import (
    EvidenceRequest,
    ReleaseRequest,
    ReleaseView,
    ReviewNoteRequest,
    VoteRequest,
    VoteView,
    payee,
    planned,
    release_view,
    send_tranche,
    tell_owner,
    tranche_of,
    vote_view,
    wake,
)
from api.notices import announce
from api.routing import api_router
from api.views import CampaignView, campaign_view
from domain.campaign import CampaignStatus
from domain.errors import Conflict, DomainError, Forbidden, NotFound
from domain.milestone import (
    TrancheStatus,
    VoteChoice,
    check_asked_for,
    check_evidence,
    check_review,
    check_vote,
    decided_early,
)
from infra.database import Database
from models import milestone, milestone_vote
from models.campaign import Campaign, get_campaign
from models.clock import business_date
from models.user import Role

router = api_router(prefix="/v1", tags=["milestones"])
_T = TrancheStatus
_ONE = "/campaigns/{campaign_id}/milestones/{number}"
_REVIEW = "/admin/campaigns/{campaign_id}/milestones/{number}"
Numbered = Annotated[int, Path(ge=1, le=20)]


@router.get("/campaigns/{campaign_id}/milestones", response_model=Envelope[ReleaseView])
async def read_milestones(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("milestone.read")]
) -> JSONResponse:
    """A funded campaign's money: what is in escrow, released, returned and not sent, and each tranche with its last vote."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        campaign = await get_campaign(tx, campaign_id)
        plan = await milestone.get_plan(tx, campaign_id)
        if campaign is None or plan is None:
            raise NotFound("plan of milestones")
        whole = principal.role is Role.ADMIN or principal.user_id == campaign.owner_id
        return success(request, await release_view(tx, principal.scope, campaign, plan, whole=whole))


async def _done(unit: Unit, campaign: Campaign, verb: str, *, status: int = 200, **detail: object) -> Reply:
    """Say in the audit log what was done, wake the process, and answer with the campaign's money as it stands now."""
    await unit.audit(f"milestone.{verb}", "campaign", campaign.id, **detail)
    await wake(unit, campaign)
    plan = await milestone.get_plan(unit.tx, campaign.id)
    assert plan is not None
    return Reply(status, await release_view(unit.tx, unit.scope, campaign, plan, whole=True))


@router.post(f"{_ONE}/evidence", status_code=202, response_model=Envelope[ReleaseView])
async def submit_evidence(
    request: Request,
    campaign_id: str,
    number: Numbered,
    body: EvidenceRequest,
    principal: Annotated[Principal, requires("milestone.submit")],
) -> JSONResponse:
    """Show that a milestone is reached. While it waits for its reviewer it cannot be missed."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "milestone.submit")
        tranche = await tranche_of(unit, campaign, number)
        check_evidence(tranche.status, due_at=tranche.due_at, as_of=unit.as_of)
        await payee(unit, campaign, tranche, body.destination)
        await milestone.move_tranche(
            unit.tx, unit.scope, tranche, _T.SUBMITTED, unit.as_of, evidence=body.evidence, evidence_url=body.evidence_url,
            destination=body.destination, submitted_by=principal.user_id, submitted_at=unit.as_of, decided_by=None,
            decided_at=None, note=None,
        )  # fmt: skip
        return await _done(unit, campaign, "submitted", status=202, number=number)

    return await execute(request, principal, "milestone.submit", body, handle)


@router.post(f"{_REVIEW}/approve", status_code=202, response_model=Envelope[ReleaseView])
async def approve_milestone(
    request: Request, campaign_id: str, number: Numbered, principal: Annotated[Principal, requires("milestone.approve")]
) -> JSONResponse:
    """Approve the evidence: the tranche is released, and sent where its owner wanted it.

    Where it cannot be sent (the beneficiary was disabled meanwhile) it stays the owner's, who sends it later.
    """

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "milestone.approve")
        tranche = await tranche_of(unit, campaign, number)
        check_review(
            tranche.status, reviewer=principal.user_id, owner=campaign.owner_id, submitted_by=tranche.submitted_by
        )
        decided = {"decided_by": principal.user_id, "decided_at": unit.as_of}
        await milestone.release_tranche(unit.tx, unit.scope, campaign, tranche, unit.as_of, **decided)
        try:
            beneficiary = await payee(unit, campaign, tranche, tranche.destination or "")
        except DomainError as refused:
            await unit.timeline(campaign.id, "tranche_not_sent", number=number, code=refused.code)
        else:
            await send_tranche(unit, campaign, tranche, beneficiary)
        await tell_owner(unit, campaign, tranche, "milestone_released_owner")
        return await _done(unit, campaign, "approved", status=202, number=number, amount_minor=tranche.amount_minor)

    return await execute(request, principal, "milestone.approve", None, handle)


@router.post(f"{_REVIEW}/reject", response_model=Envelope[ReleaseView])
async def reject_milestone(
    request: Request,
    campaign_id: str,
    number: Numbered,
    body: ReviewNoteRequest,
    principal: Annotated[Principal, requires("milestone.approve")],
) -> JSONResponse:
    """The evidence is not enough: the milestone is open again, or missed, if its time is over."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "milestone.approve")
        tranche = await tranche_of(unit, campaign, number)
        check_review(
            tranche.status, reviewer=principal.user_id, owner=campaign.owner_id, submitted_by=tranche.submitted_by
        )
        await milestone.move_tranche(
            unit.tx, unit.scope, tranche, _T.OPEN, unit.as_of, decided_by=principal.user_id, decided_at=unit.as_of,
            note=body.note,
        )  # fmt: skip
        await tell_owner(unit, campaign, tranche, "milestone_rejected_owner")
        return await _done(unit, campaign, "rejected", number=number, note=body.note)

    return await execute(request, principal, "milestone.reject", body, handle)


@router.post(f"{_ONE}/votes", response_model=Envelope[VoteView])
async def vote_on_milestone(
    request: Request,
    campaign_id: str,
    number: Numbered,
    body: VoteRequest,
    principal: Annotated[Principal, requires("milestone.vote")],
) -> JSONResponse:
    """Vote on a missed milestone, or change one's vote, until it is decided. It weighs what one held when it was opened."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "milestone.vote")
        tranche = await tranche_of(unit, campaign, number)
        votes = [each for each in await milestone_vote.votes_of(unit.tx, campaign.id) if each.tranche_id == tranche.id]
        if not votes:
            raise Conflict("no_vote", "This milestone is not put to the vote.")
        vote = await milestone_vote.get_vote(unit.tx, votes[-1].id, lock=True)
        assert vote is not None
        check_vote(vote.outcome, closes_at=vote.closes_at, as_of=unit.as_of)
        holder = await milestone_vote.voter(unit.tx, vote.id, principal.user_id)
        if holder is None or not holder.may_vote:
            raise Forbidden("not_a_holder", "Those vote who hold a part of the campaign, other than its owner.")
        choice = VoteChoice(body.choice)
        vote = await milestone_vote.cast_vote(unit.tx, vote, holder, choice, unit.as_of)
        await unit.audit("milestone.voted", "campaign", campaign.id, number=number, choice=choice)
        early = decided_early(
            extend_minor=vote.extend_minor, refund_minor=vote.refund_minor, electorate_minor=vote.electorate_minor
        )
        if early is not None:
            await milestone_vote.decide_vote(unit.tx, vote, early, unit.as_of)
            await unit.timeline(campaign.id, "vote_decided", number=number, outcome=early)
            await wake(unit, campaign)
        return Reply(200, vote_view(vote, campaign.currency, holder.model_copy(update={"choice": choice})))

    return await execute(request, principal, "milestone.vote", body, handle)


@router.post("/campaigns/{campaign_id}/payouts", status_code=202, response_model=Envelope[ReleaseView])
async def pay_out_campaign(
    request: Request,
    campaign_id: str,
    body: ReleaseRequest,
    principal: Annotated[Principal, requires("campaign.pay_out")],
) -> JSONResponse:
    """Have the money of a campaign without milestones released and sent; or send a released tranche that was not sent, or
    whose payout failed or came back."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.pay_out")
        tranche = await tranche_of(unit, campaign, body.milestone)
        sent = milestone.is_sent(tranche, await milestone.payout_of(unit.tx, tranche))
        check_asked_for(tranche.status, due_at=tranche.due_at, sent=sent)
        beneficiary = await payee(unit, campaign, tranche, body.destination)
        if tranche.status is _T.OPEN:
            await milestone.release_tranche(unit.tx, unit.scope, campaign, tranche, unit.as_of)
        await milestone.change_tranche(unit.tx, tranche, destination=body.destination)
        await send_tranche(unit, campaign, tranche, beneficiary)
        detail = {"number": tranche.number, "destination": body.destination}
        return await _done(unit, campaign, "paid_out", status=202, **detail)

    return await execute(request, principal, "campaign.pay_out", body, handle)


@router.post("/campaigns/{campaign_id}/complete", response_model=Envelope[CampaignView])
async def complete_campaign(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("campaign.complete")]
) -> JSONResponse:
    """End a campaign whose money is all released or returned. Nothing is distributed afterwards."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.complete")
        tranches = await planned(unit, campaign) if campaign.status is CampaignStatus.FUNDED else []
        _, today = await business_date(unit.tx, unit.as_of)
        by_owner = principal.user_id == campaign.owner_id
        await milestone.check_done(unit.tx, campaign, tranches, today, by_owner=by_owner)
        occasion = await milestone.complete_campaign(unit.tx, unit.scope, campaign, unit.as_of)
        await announce(unit, occasion, campaign.id)
        await unit.audit("campaign.completed", "campaign", campaign.id)
        await wake(unit, campaign)
        return Reply(200, campaign_view(unit.scope, await fresh(unit, campaign.id)))

    return await execute(request, principal, "campaign.complete", None, handle)
