"""Campaigns: create, review, read; and investing in one."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Amount, Currency, Envelope, LongText, ShortText, StrictModel, Timestamp
from api.investing import InvestRequest, invest, wait_for_next_action
from api.paging import Cursor, Limit, before
from api.reads import Reader, reads
from api.routing import api_router
from api.views import CampaignView, InvestmentView, campaign_view
from contracts.campaign import CampaignInput
from contracts.ids import workflow_id
from contracts.visibility import ENTITY
from domain.campaign import CAMPAIGN, MAX_DURATION, CampaignKind, CampaignStatus
from domain.errors import Conflict, InvalidRequest, NotFound
from domain.money import CURRENCIES
from models import pages
from models.base import insert, move
from models.campaign import Campaign, get_campaign

router = api_router(prefix="/v1", tags=["campaigns"])


class MoneyBody(StrictModel):
    """An amount in minor units."""

    amount: Amount
    currency: Currency


class CampaignRequest(StrictModel):
    """A campaign for review. Amounts share one currency.

    `cap` defaults to the goal; `min_ticket` to one minor unit. `success_floor_bps`: the part of the goal that must really
    be captured for the campaign to stay funded (see the README's rule). `waiting_seconds`: how long after the deadline
    slow money may still arrive.
    """

    title: ShortText
    description: LongText
    kind: Literal["all_or_nothing", "keep_what_you_raise"]
    goal: MoneyBody
    cap: MoneyBody | None = None
    min_ticket: MoneyBody | None = None
    max_per_investor: MoneyBody | None = None
    deadline_at: Timestamp
    profit_share_bps: Annotated[int, Field(ge=0, le=10_000)] = 0
    success_floor_bps: Annotated[int, Field(ge=0, le=10_000)] = 9_000
    waiting_seconds: Annotated[int, Field(ge=0, le=2_592_000)] = 259_200


class ReviewRequest(StrictModel):
    """An admin's decision about a submitted campaign."""

    decision: Literal["approve", "reject"]
    note: ShortText | None = None


def _check_terms(body: CampaignRequest) -> None:
    """Raises InvalidRequest naming the field that breaks a rule."""
    currency = body.goal.currency
    if currency not in CURRENCIES:
        raise InvalidRequest("unknown_currency", "Not an ISO 4217 currency.", field="goal.currency")
    for name in ("cap", "min_ticket", "max_per_investor"):
        money: MoneyBody | None = getattr(body, name)
        if money is not None and money.currency != currency:
            raise InvalidRequest("currency_mismatch", f"All amounts are in {currency}.", field=f"{name}.currency")
    if body.cap is not None and body.cap.amount < body.goal.amount:
        raise InvalidRequest("cap_below_goal", "The cap is at least the goal.", field="cap.amount")
    minimum = body.min_ticket.amount if body.min_ticket else 1
    if minimum > (body.cap or body.goal).amount:
        raise InvalidRequest("minimum_above_cap", "The smallest ticket fits under the cap.", field="min_ticket.amount")
    if body.max_per_investor is not None and body.max_per_investor.amount < minimum:
        raise InvalidRequest(
            "limit_below_minimum",
            "The limit per investor is at least the smallest ticket.",
            field="max_per_investor.amount",
        )


@router.post("/campaigns", status_code=201, response_model=Envelope[CampaignView])
async def create_campaign(
    request: Request, body: CampaignRequest, principal: Annotated[Principal, requires("campaign.create")]
) -> JSONResponse:
    """Submit a campaign for review. Its process starts at once and waits for the reviewer."""
    _check_terms(body)

    async def handle(unit: Unit) -> Reply:
        if not unit.as_of + timedelta(minutes=1) <= body.deadline_at <= unit.as_of + MAX_DURATION:
            text = "The deadline is between a minute and a year from now."
            raise InvalidRequest("invalid_deadline", text, field="deadline_at")
        campaign = Campaign(
            tenant_id=unit.scope.tenant_id,
            mode=unit.scope.mode,
            id=unit.new_id("cmp"),
            owner_id=principal.user_id,
            title=body.title,
            description=body.description,
            kind=CampaignKind(body.kind),
            currency=body.goal.currency,
            goal_minor=body.goal.amount,
            cap_minor=(body.cap or body.goal).amount,
            min_ticket_minor=body.min_ticket.amount if body.min_ticket else 1,
            max_per_investor_minor=body.max_per_investor.amount if body.max_per_investor else None,
            profit_share_bps=body.profit_share_bps,
            success_floor_bps=body.success_floor_bps,
            waiting_seconds=body.waiting_seconds,
            status=CampaignStatus.SUBMITTED,
            deadline_at=body.deadline_at,
            created_at=unit.as_of,
        )
        await insert(unit.tx, campaign)
        await unit.timeline(campaign.id, "campaign_submitted")
        await unit.audit("campaign.created", "campaign", campaign.id)
        await unit.start(
            "CampaignWorkflow",
            workflow_id("campaign", unit.scope, campaign.id),
            CampaignInput(scope=unit.scope, campaign_id=campaign.id, as_of=unit.as_of),
            search_attributes={ENTITY.name: campaign.id},
            summary=f"campaign {campaign.id}",
        )
        return Reply(201, campaign_view(unit.scope, campaign))

    return await execute(request, principal, "campaign.create", body, handle)


@router.post("/admin/campaigns/{campaign_id}/verify", response_model=Envelope[CampaignView])
async def verify_campaign(
    request: Request,
    campaign_id: str,
    body: ReviewRequest,
    principal: Annotated[Principal, requires("campaign.verify")],
) -> JSONResponse:
    """Approve a submitted campaign, which puts it live, or reject it."""
    target = CampaignStatus.LIVE if body.decision == "approve" else CampaignStatus.REJECTED

    async def handle(unit: Unit) -> Reply:
        campaign = await get_campaign(unit.tx, campaign_id, lock=True)
        if campaign is None:
            raise NotFound("campaign")
        if target is CampaignStatus.LIVE and campaign.deadline_at <= unit.as_of:
            raise Conflict("campaign_closed", "The campaign's deadline has passed.")
        changes = {"verified_by": principal.user_id, "verified_at": unit.as_of}
        if not await move(unit.tx, Campaign, CAMPAIGN, campaign.id, target, **changes):
            raise Conflict("campaign_not_submitted", "Only a submitted campaign can be reviewed.")
        await unit.timeline(campaign.id, f"campaign_{target}", note=body.note)
        await unit.audit(f"campaign.{body.decision}", "campaign", campaign.id, note=body.note)
        await unit.signal(workflow_id("campaign", unit.scope, campaign.id), "reviewed")
        updated = await get_campaign(unit.tx, campaign.id)
        assert updated is not None
        return Reply(200, campaign_view(unit.scope, updated))

    return await execute(request, principal, "campaign.verify", body, handle)


@router.get("/campaigns", response_model=Envelope[list[CampaignView]])
async def list_campaigns(
    reader: Annotated[Reader, reads("campaign.read")],
    status: CampaignStatus | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    place = pages.Place(before(cursor), limit)
    return await reader.page(lambda _: pages.campaigns(status=status and str(status), place=place), limit)


@router.get("/campaigns/{campaign_id}", response_model=Envelope[CampaignView])
async def read_campaign(campaign_id: str, reader: Annotated[Reader, reads("campaign.read")]) -> Response:
    """One campaign with its timeline."""
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
