"""Investments: lists, details with timeline, canceling before capture, and where a refund would go."""

from typing import Annotated, Literal

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, StrictModel
from api.paging import Cursor, Limit, before
from api.policy import authorize
from api.reads import Reader, owner_seen, reads
from api.routing import api_router
from api.views import InvestmentView, investment_view
from contracts.ids import workflow_id
from contracts.payment import PaymentInput
from contracts.visibility import ENTITY
from domain.campaign import TAKES_MONEY
from domain.errors import Conflict, NotFound
from domain.investment import CANCELABLE, REFUND_UNDECIDED, RefundTo
from models import pages
from models.base import update
from models.campaign import get_campaign
from models.investment import Investment, get_investment
from models.payment import change_payment, get_payment

router = api_router(prefix="/v1", tags=["investments"])


@router.get("/investments", response_model=Envelope[list[InvestmentView]])
async def list_investments(
    reader: Annotated[Reader, reads("investment.read")],
    campaign_id: str | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """One's own, newest first; an admin sees everybody's."""
    place = pages.Place(before(cursor), limit)
    return await reader.page(
        lambda who: pages.investments(investor_id=owner_seen(who), campaign_id=campaign_id, place=place), limit
    )


@router.get("/investments/{investment_id}", response_model=Envelope[InvestmentView])
async def read_investment(investment_id: str, reader: Annotated[Reader, reads("investment.read")]) -> Response:
    """One investment, what happens to it next, and its timeline."""
    return await reader.one(lambda _: pages.investment(investment_id))


@router.post("/investments/{investment_id}/cancel", status_code=202, response_model=Envelope[InvestmentView])
async def cancel_investment(
    request: Request, investment_id: str, principal: Annotated[Principal, requires("investment.cancel")]
) -> JSONResponse:
    """Take a pledge back before its money is captured. What is held is released; a charge that wins the race is refunded."""

    async def handle(unit: Unit) -> Reply:
        found = await get_investment(unit.tx, investment_id)
        if found is None:
            raise NotFound("investment")
        authorize(principal, "investment.cancel", owner_id=found.investor_id)
        payment = await get_payment(unit.tx, found.payment_id, lock=True)
        investment = await get_investment(unit.tx, investment_id, lock=True)
        assert investment is not None and payment is not None
        campaign = await get_campaign(unit.tx, investment.campaign_id)
        assert campaign is not None
        if investment.status not in CANCELABLE:
            raise Conflict("not_cancelable", f"The investment is {investment.status}; it can no longer be canceled.")
        if campaign.status not in TAKES_MONEY:
            raise Conflict("campaign_closed", "The campaign has been decided; its settlement is under way.")
        if payment.cancel_reason is None:
            await change_payment(unit.tx, payment.id, cancel_reason="canceled_by_investor")
            await unit.timeline(investment.id, "cancel_requested")
            await unit.audit("investment.cancel_requested", "investment", investment.id)
        await unit.signal_with_start(
            "PaymentWorkflow",
            workflow_id("payment", unit.scope, payment.id),
            PaymentInput(scope=unit.scope, payment_id=payment.id, as_of=unit.as_of, resume=True),
            "cancel_requested",
            search_attributes={ENTITY.name: payment.id},
            summary=f"payment {payment.id}",
        )
        return Reply(202, investment_view(unit.scope, investment, payment))

    return await execute(request, principal, "investment.cancel", None, handle)


class RefundToRequest(StrictModel):
    """Where the money goes, should it be given back."""

    to: Literal["source", "wallet"]


@router.post("/investments/{investment_id}/refund-to", response_model=Envelope[InvestmentView])
async def choose_refund(
    request: Request,
    investment_id: str,
    body: RefundToRequest,
    principal: Annotated[Principal, requires("investment.choose_refund")],
) -> JSONResponse:
    """Say where a refund of the captured money would go: back to its source, or into the wallet here; until one begins."""

    async def handle(unit: Unit) -> Reply:
        found = await get_investment(unit.tx, investment_id)
        if found is None:
            raise NotFound("investment")
        authorize(principal, "investment.choose_refund", owner_id=found.investor_id)
        payment = await get_payment(unit.tx, found.payment_id, lock=True)
        investment = await get_investment(unit.tx, investment_id, lock=True)
        assert investment is not None and payment is not None
        if investment.status not in REFUND_UNDECIDED:
            raise Conflict("refund_decided", f"The investment is {investment.status}: no choice of a refund is left.")
        if investment.charged_back_at is not None:
            raise Conflict("refund_decided", "The investment was charged back: nothing of it is refunded any more.")
        if investment.refund_to != body.to:
            investment.refund_to = RefundTo(body.to)
            await update(unit.tx, Investment, {"id": investment.id}, {"refund_to": body.to})
            await unit.timeline(investment.id, "refund_to_chosen", to=body.to)
            await unit.audit("investment.refund_to_chosen", "investment", investment.id, to=body.to)
        return Reply(200, investment_view(unit.scope, investment, payment))

    return await execute(request, principal, "investment.choose_refund", body, handle)
