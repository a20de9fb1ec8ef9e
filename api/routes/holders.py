"""What an admin records about the people distributions are paid to: whose lines wait, and whose investment was taken back."""

from typing import Annotated

from fastapi import Request
from starlette.responses import JSONResponse

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.distributions import PayoutHoldRequest, PayoutHoldView
from api.envelope import Envelope
from api.routes.campaign_life import ReasonRequest
from api.routing import api_router
from api.views import InvestmentView, investment_view
from domain.errors import Conflict, NotFound
from models.chargeback import charge_back
from models.distribution import hold_payouts
from models.investment import get_investment
from models.user import get_user

router = api_router(prefix="/v1/admin", tags=["distributions"])


@router.post("/users/{user_id}/payout-hold", response_model=Envelope[PayoutHoldView])
async def hold_user_payouts(
    request: Request,
    user_id: str,
    body: PayoutHoldRequest,
    principal: Annotated[Principal, requires("payout_hold.change")],
) -> JSONResponse:
    """Hold a person's distribution lines, or let them go. Held lines wait until they are put back or the run is closed."""

    async def handle(unit: Unit) -> Reply:
        if await get_user(unit.tx, user_id) is None:
            raise NotFound("user")
        row = await hold_payouts(
            unit.tx, unit.scope, user_id, held=body.held, reason=body.reason, by=principal.user_id, as_of=unit.as_of
        )
        await unit.audit("payout_hold.changed", "user", user_id, held=row.held, reason=row.reason)
        return Reply(200, PayoutHoldView(user_id=row.user_id, held=row.held, reason=row.reason))

    return await execute(request, principal, "payout_hold.change", body, handle)


@router.post("/investments/{investment_id}/charge-back", response_model=Envelope[InvestmentView])
async def charge_back_investment(
    request: Request,
    investment_id: str,
    body: ReasonRequest,
    principal: Annotated[Principal, requires("investment.charge_back")],
) -> JSONResponse:
    """Record that a captured investment was charged back. It is refunded no more, counts for no later record date, and what its
    holder had from earlier distributions is taken back in the next. Before the campaign is funded it is no part any more of
    what was raised. The provider's own money is not moved by this."""

    async def handle(unit: Unit) -> Reply:
        investment = await get_investment(unit.tx, investment_id, lock=True)
        if investment is None:
            raise NotFound("investment")
        if not await charge_back(unit.tx, investment, unit.as_of):
            raise Conflict("not_charged_back", "Only a captured investment is charged back, and once.")
        await unit.timeline(investment_id, "investment_charged_back", reason=body.reason)
        await unit.audit("investment.charged_back", "investment", investment_id, reason=body.reason)
        return Reply(200, investment_view(unit.scope, investment))

    return await execute(request, principal, "investment.charge_back", body, handle)
