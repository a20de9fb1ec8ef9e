"""Campaigns: draft, edit, submit, read; and investing in one. Their review and what follows: `campaign_life.py`."""

from typing import Annotated

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.campaign_terms import (
    TEXTS,
    CampaignEdit,
    CampaignRequest,
    check_terms,
    columns,
    edited,
    fresh,
    locked,
    start_process,
    wake,
)
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope
from api.investing import InvestRequest, invest, wait_for_next_action
from api.reads import Reader, reads
from api.routing import api_router
from api.views import CampaignView, InvestmentView, ReadCampaignView, campaign_view
from domain.campaign import CAMPAIGN, EDITABLE, CampaignStatus, check_editable, check_first_deadline
from domain.errors import Conflict, InvalidRequest
from models import pages
from models.base import move, update
from models.campaign import Campaign, add_campaign, delete_draft, rename
from models.milestone import tenant_fee_bps

router = api_router(prefix="/v1", tags=["campaigns"])
_C = CampaignStatus


@router.post("/campaigns", status_code=201, response_model=Envelope[CampaignView])
async def create_campaign(
    request: Request, body: CampaignRequest, principal: Annotated[Principal, requires("campaign.create")]
) -> JSONResponse:
    """Submit a campaign for review; its process starts at once and waits for the reviewer. Or keep it as a draft."""
    check_terms(body)

    async def handle(unit: Unit) -> Reply:
        check_first_deadline(body.deadline_at, as_of=unit.as_of)
        campaign = Campaign(
            tenant_id=unit.scope.tenant_id,
            mode=unit.scope.mode,
            id=unit.new_id("cmp"),
            owner_id=principal.user_id,
            status=_C.DRAFT if body.draft else _C.SUBMITTED,
            created_at=unit.as_of,
            platform_fee_bps=await tenant_fee_bps(unit.tx),
            **columns(body),
        )
        await add_campaign(unit.tx, campaign)
        await unit.timeline(campaign.id, "campaign_drafted" if body.draft else "campaign_submitted")
        await unit.audit("campaign.created", "campaign", campaign.id)
        if not body.draft:
            await start_process(unit, campaign)
        return Reply(201, campaign_view(unit.scope, campaign))

    return await execute(request, principal, "campaign.create", body, handle)


@router.patch("/campaigns/{campaign_id}", response_model=Envelope[CampaignView])
async def edit_campaign(
    request: Request,
    campaign_id: str,
    body: CampaignEdit,
    principal: Annotated[Principal, requires("campaign.edit")],
) -> JSONResponse:
    """Change what is given. Everything in a draft, or after the reviewer asked for changes; then the texts only."""
    changes = body.given()

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.edit")
        check_editable(campaign.status, money_terms=not changes.keys() <= TEXTS)
        if not changes:
            raise InvalidRequest("nothing_to_change", "The request names no term to change.")
        terms = edited(campaign, changes)
        check_terms(terms)
        if "deadline_at" in changes:
            check_first_deadline(terms.deadline_at, as_of=unit.as_of)
        names = TEXTS if changes.keys() <= TEXTS else columns(terms).keys()
        after = {name: value for name, value in columns(terms).items() if name in names}
        await update(unit.tx, Campaign, {"id": campaign.id}, after)
        if terms.title != campaign.title and campaign.status in EDITABLE:
            await rename(unit.tx, campaign.id, terms.title)
        await unit.timeline(campaign.id, "campaign_edited", fields=sorted(changes))
        await unit.audit("campaign.edited", "campaign", campaign.id, fields=sorted(changes))
        asleep = campaign.status is _C.CHANGES_REQUESTED and "deadline_at" in changes
        found = await (wake if asleep else fresh)(unit, campaign.id)
        return Reply(200, campaign_view(unit.scope, found))

    return await execute(request, principal, "campaign.edit", body, handle, key_required=False)


@router.delete("/campaigns/{campaign_id}", response_model=Envelope[CampaignView])
async def delete_campaign(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("campaign.edit")]
) -> JSONResponse:
    """Delete a draft that was never submitted; answers what it was. Its audit records stay."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.edit")
        if not await delete_draft(unit.tx, campaign.id):
            raise Conflict("campaign_submitted", "Only a draft can be deleted; cancel the campaign instead.")
        await unit.timeline(campaign.id, "campaign_deleted")
        await unit.audit("campaign.deleted", "campaign", campaign.id)
        return Reply(200, campaign_view(unit.scope, campaign))

    return await execute(request, principal, "campaign.delete", None, handle, key_required=False)


@router.post("/campaigns/{campaign_id}/submit", response_model=Envelope[CampaignView])
async def submit_campaign(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("campaign.edit")]
) -> JSONResponse:
    """Hand a draft in for review, or again after the changes the reviewer asked for."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.edit")
        if not await move(unit.tx, Campaign, CAMPAIGN, campaign.id, _C.SUBMITTED):
            raise Conflict("campaign_submitted", "The campaign is under review, or has been reviewed.")
        check_first_deadline(campaign.deadline_at, as_of=unit.as_of)
        await unit.timeline(campaign.id, "campaign_submitted")
        await unit.audit("campaign.submitted", "campaign", campaign.id)
        if campaign.status is _C.DRAFT:
            await start_process(unit, campaign)
            return Reply(200, campaign_view(unit.scope, await fresh(unit, campaign.id)))
        return Reply(200, campaign_view(unit.scope, await wake(unit, campaign.id)))

    return await execute(request, principal, "campaign.submit", None, handle)


@router.get("/campaigns/{campaign_id}", response_model=Envelope[ReadCampaignView])
async def read_campaign(campaign_id: str, reader: Annotated[Reader, reads("campaign.read")]) -> Response:
    """One campaign, by its id or its slug, with its timeline, and for its owner its reviews."""
    return await reader.one(lambda _: pages.campaign(campaign_id))


@router.post("/campaigns/{campaign_id}/invest", status_code=202, response_model=Envelope[InvestmentView])
async def invest_in_campaign(
    request: Request,
    campaign_id: str,
    body: InvestRequest,
    principal: Annotated[Principal, requires("campaign.invest")],
) -> JSONResponse:
    """Pledge money to a live campaign. The amount is reserved at once; the answer says what the payer must do next."""

    async def handle(unit: Unit) -> Reply:
        return await invest(unit, campaign_id, body)

    answer = await execute(request, principal, "campaign.invest", body, handle)
    return await wait_for_next_action(request, principal.scope, answer)
