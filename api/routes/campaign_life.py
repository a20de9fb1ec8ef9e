"""What happens to a submitted campaign by command: review, pause, another deadline, canceling, updates to investors.

Each command changes the row under lock and wakes the campaign's process, which reads it again. Of two that meet (the
owner cancels, the deadline passes) the row's lock decides which was first, and the other finds the state it left.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.campaign_terms import FeeBps, locked, wake
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, LongText, ShortText, StrictModel, Timestamp
from api.notices import announce
from api.paging import Cursor, Limit, before
from api.reads import Reader, reads
from api.routing import api_router
from api.views import CampaignView, UpdateView, campaign_view
from domain.campaign import CAMPAIGN, EDITABLE, CampaignStatus, check_deadline, check_promises
from domain.errors import Conflict, Forbidden, InvalidRequest
from models import pages
from models.base import insert, move, update
from models.campaign import Campaign, CampaignReview, CampaignUpdate
from models.milestone import milestone_terms
from models.notification import notify, notify_investors

router = api_router(prefix="/v1", tags=["campaigns"])
_C = CampaignStatus
_UNTOLD = EDITABLE | {_C.SUBMITTED, _C.REJECTED}
"""Nobody but the owner and the reviewers has a campaign in these states before them."""


class ReviewRequest(StrictModel):
    """A reviewer's decision; without approval, a note says why. `go_live_at`: approved now, open later.

    `platform_fee_bps`: with an approval, what the tenant takes of the money as it is released, in place of its usual part.
    """

    decision: Literal["approve", "reject", "request_changes"]
    note: LongText | None = None
    go_live_at: Timestamp | None = None
    platform_fee_bps: FeeBps | None = None


class ReasonRequest(StrictModel):
    """Why; everybody who sees the campaign's timeline reads it."""

    reason: ShortText


class DeadlineRequest(StrictModel):
    """Another deadline, and why."""

    deadline_at: Timestamp
    reason: ShortText


class UpdateRequest(StrictModel):
    """News for the investors."""

    title: ShortText
    body: LongText


@router.post("/admin/campaigns/{campaign_id}/verify", response_model=Envelope[CampaignView])
async def verify_campaign(
    request: Request,
    campaign_id: str,
    body: ReviewRequest,
    principal: Annotated[Principal, requires("campaign.verify")],
) -> JSONResponse:
    """Approve a submitted campaign, now or for a later day; reject it; or ask for changes. Who decided what is kept."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.verify")
        if campaign.status is not _C.SUBMITTED:
            raise Conflict("campaign_not_submitted", "Only a submitted campaign can be reviewed.")
        if body.decision != "approve" and body.note is None:
            raise InvalidRequest("note_required", "Tell the owner why.", field="note")
        if body.decision == "approve":
            await _approve(unit, campaign, body.go_live_at, body.platform_fee_bps)
        else:
            target = _C.REJECTED if body.decision == "reject" else _C.CHANGES_REQUESTED
            await move(unit.tx, Campaign, CAMPAIGN, campaign.id, target)
            await unit.timeline(campaign.id, f"campaign_{target}")
        review = CampaignReview(
            tenant_id=unit.scope.tenant_id,
            mode=unit.scope.mode,
            id=unit.new_id("rvw"),
            campaign_id=campaign.id,
            reviewer_id=principal.user_id,
            decision=body.decision,
            note=body.note,
            created_at=unit.as_of,
        )
        await insert(unit.tx, review)
        if body.decision == "request_changes":
            await notify(
                unit.tx, unit.scope, subject_id=review.id, user_id=campaign.owner_id,
                template="campaign_changes_requested", as_of=unit.as_of,
                params={"campaign": campaign.title, "amount_minor": campaign.goal_minor, "currency": campaign.currency},
            )  # fmt: skip
            await announce(unit, review.id, campaign.id)
        await unit.audit(f"campaign.{body.decision}", "campaign", campaign.id, note=body.note)
        return Reply(200, campaign_view(unit.scope, await wake(unit, campaign.id, "reviewed")))

    return await execute(request, principal, "campaign.verify", body, handle)


async def _approve(unit: Unit, campaign: Campaign, go_live_at: datetime | None, fee_bps: int | None) -> None:
    """Approved, and live or scheduled. Raises Conflict `campaign_closed` and InvalidRequest `invalid_go_live`."""
    if campaign.deadline_at <= unit.as_of:
        raise Conflict("campaign_closed", "The campaign's deadline has passed.")
    begins = max(go_live_at or unit.as_of, unit.as_of)
    if begins >= campaign.deadline_at:
        raise InvalidRequest("invalid_go_live", "A campaign goes live before its deadline.", field="go_live_at")
    target = _C.LIVE if begins == unit.as_of else _C.SCHEDULED
    changes = {"verified_by": unit.principal.user_id, "verified_at": unit.as_of, "go_live_at": begins,
               "platform_fee_bps": campaign.platform_fee_bps if fee_bps is None else fee_bps}  # fmt: skip
    await move(unit.tx, Campaign, CAMPAIGN, campaign.id, _C.APPROVED, **changes)
    await move(unit.tx, Campaign, CAMPAIGN, campaign.id, target)
    await unit.timeline(campaign.id, "campaign_approved")
    await unit.timeline(campaign.id, f"campaign_{target}", **({"at": begins} if target is _C.SCHEDULED else {}))


@router.post("/campaigns/{campaign_id}/pause", response_model=Envelope[CampaignView])
async def pause_campaign(
    request: Request,
    campaign_id: str,
    body: ReasonRequest,
    principal: Annotated[Principal, requires("campaign.pause")],
) -> JSONResponse:
    """Take no pledges for now. The deadline stays: when it passes, the campaign is decided as ever."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.pause")
        changes = {"paused_by": principal.user_id}
        late = unit.as_of >= campaign.deadline_at
        if late or not await move(unit.tx, Campaign, CAMPAIGN, campaign.id, _C.PAUSED, **changes):
            raise Conflict("campaign_not_live", "Only a live campaign can be paused.")
        return await _done(unit, campaign, "paused", body.reason)

    return await execute(request, principal, "campaign.pause", body, handle)


@router.post("/campaigns/{campaign_id}/resume", response_model=Envelope[CampaignView])
async def resume_campaign(
    request: Request,
    campaign_id: str,
    body: ReasonRequest,
    principal: Annotated[Principal, requires("campaign.pause")],
) -> JSONResponse:
    """Take pledges again. What an admin has paused, an admin resumes."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.pause")
        if campaign.status is not _C.PAUSED:
            raise Conflict("campaign_not_paused", "The campaign is not paused.")
        if unit.as_of >= campaign.deadline_at:
            raise Conflict("deadline_passed", "The deadline has passed.")
        if principal.user_id == campaign.owner_id != campaign.paused_by:
            raise Forbidden("paused_by_admin", "An administrator paused the campaign, and resumes it.")
        await move(unit.tx, Campaign, CAMPAIGN, campaign.id, _C.LIVE, paused_by=None)
        return await _done(unit, campaign, "resumed", body.reason)

    return await execute(request, principal, "campaign.resume", body, handle)


@router.post("/campaigns/{campaign_id}/deadline", response_model=Envelope[CampaignView])
async def move_deadline(
    request: Request,
    campaign_id: str,
    body: DeadlineRequest,
    principal: Annotated[Principal, requires("campaign.move_deadline")],
) -> JSONResponse:
    """Extend the campaign, or end it sooner, within policy. Its owner and its investors are told."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.move_deadline")
        before_at, began_at = campaign.deadline_at, campaign.go_live_at or campaign.created_at
        check_deadline(
            campaign.status,
            deadline_at=before_at,
            wanted_at=body.deadline_at,
            began_at=began_at,
            extensions=campaign.deadline_extensions,
            as_of=unit.as_of,
        )
        due = [each.due_at for each in milestone_terms(campaign)]
        check_promises(wanted_at=body.deadline_at, milestones=due, profit_until=campaign.profit_until)
        extensions = campaign.deadline_extensions + (body.deadline_at > before_at)
        changes = {"deadline_at": body.deadline_at, "deadline_extensions": extensions}
        await update(unit.tx, Campaign, {"id": campaign.id}, changes)
        moved = {"before": before_at, "after": body.deadline_at, "reason": body.reason}
        await unit.timeline(campaign.id, "deadline_moved", **moved)
        await unit.audit("campaign.deadline_moved", "campaign", campaign.id, **{k: str(v) for k, v in moved.items()})
        occasion = unit.new_id("ddl")
        params = {"campaign": campaign.title, "deadline": f"{body.deadline_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"}
        await notify_investors(
            unit.tx, campaign_id=campaign.id, subject_id=occasion, template="campaign_deadline",
            params=params, as_of=unit.as_of,
        )  # fmt: skip
        raised = {"amount_minor": campaign.funding.raised_minor, "currency": campaign.currency}
        await notify(
            unit.tx, unit.scope, subject_id=occasion, user_id=campaign.owner_id, template="campaign_deadline_owner",
            params=params | raised, as_of=unit.as_of,
        )  # fmt: skip
        await announce(unit, occasion, campaign.id)
        return Reply(200, campaign_view(unit.scope, await wake(unit, campaign.id)))

    return await execute(request, principal, "campaign.move_deadline", body, handle)


@router.post("/campaigns/{campaign_id}/cancel", status_code=202, response_model=Envelope[CampaignView])
async def cancel_campaign(
    request: Request,
    campaign_id: str,
    body: ReasonRequest,
    principal: Annotated[Principal, requires("campaign.cancel")],
) -> JSONResponse:
    """Give the campaign up before it is decided; everybody is released or refunded, as after a failure."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.cancel")
        if campaign.status is _C.DRAFT:
            raise Conflict("campaign_not_submitted", "A draft is deleted, not canceled.")
        if not await move(unit.tx, Campaign, CAMPAIGN, campaign.id, _C.CANCELED, outcome="canceled"):
            raise Conflict("campaign_decided", "The campaign is over, or has been decided.")
        return await _done(unit, campaign, "canceled", body.reason, status=202)

    return await execute(request, principal, "campaign.cancel", body, handle)


@router.post("/campaigns/{campaign_id}/updates", status_code=201, response_model=Envelope[UpdateView])
async def post_update(
    request: Request,
    campaign_id: str,
    body: UpdateRequest,
    principal: Annotated[Principal, requires("campaign.post_update")],
) -> JSONResponse:
    """Tell everybody with a pledge that counts how it goes, before the deadline or after."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.post_update")
        if campaign.status in _UNTOLD:
            raise Conflict("campaign_not_verified", "The campaign has no investors to tell.")
        news = CampaignUpdate(
            tenant_id=unit.scope.tenant_id,
            mode=unit.scope.mode,
            id=unit.new_id("upd"),
            campaign_id=campaign.id,
            author_id=principal.user_id,
            title=body.title,
            body=body.body,
            created_at=unit.as_of,
        )
        await insert(unit.tx, news)
        await unit.timeline(campaign.id, "update_posted", update_id=news.id, title=body.title)
        await unit.audit("campaign.update_posted", "campaign", campaign.id, update_id=news.id)
        told = await notify_investors(
            unit.tx, campaign_id=campaign.id, subject_id=news.id, template="campaign_update",
            params={"campaign": campaign.title, "title": body.title}, as_of=unit.as_of,
        )  # fmt: skip
        if told:
            await announce(unit, news.id, campaign.id)
        shown = {"id", "campaign_id", "author_id", "title", "body", "created_at"}
        return Reply(201, UpdateView(**news.model_dump(include=shown)))

    return await execute(request, principal, "campaign.post_update", body, handle)


@router.get("/campaigns/{campaign_id}/updates", response_model=Envelope[list[UpdateView]])
async def list_updates(
    campaign_id: str,
    reader: Annotated[Reader, reads("campaign.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """What the owner has told, newest first; empty for a campaign that does not exist."""
    place = pages.Place(before(cursor), limit)
    return await reader.page(lambda _: pages.campaign_updates(campaign_id, place), limit)


async def _done(unit: Unit, campaign: Campaign, what: str, reason: str, *, status: int = 200) -> Reply:
    """Say in timeline and audit log what was done and why, wake the campaign's process, and answer with the campaign."""
    await unit.timeline(campaign.id, f"campaign_{what}", reason=reason)
    await unit.audit(f"campaign.{what}", "campaign", campaign.id, reason=reason)
    return Reply(status, campaign_view(unit.scope, await wake(unit, campaign.id)))
