"""What is said of a person: how well it is known and where it lives, by an admin; where profit goes, by itself."""

from typing import Annotated

from fastapi import Request
from starlette.responses import JSONResponse

from api.auth import Principal
from api.campaign_terms import Country, KycLevel
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.distributions import PayoutPreferenceRequest, PayoutPreferenceView
from api.envelope import Envelope, ShortText, StrictModel, success
from api.payouts import own_beneficiary
from api.policy import authorize
from api.routes.auth import UserView, user_view
from api.routing import api_router
from domain.errors import NotFound
from domain.payment import WALLET
from infra.database import Database
from models.distribution import prefer_payouts, preferred
from models.user import get_user, verify_user

router = api_router(prefix="/v1", tags=["users"])


@router.get("/users/{user_id}/payout-preference", response_model=Envelope[PayoutPreferenceView])
async def read_payout_preference(
    request: Request, user_id: str, principal: Annotated[Principal, requires("payout_preference.read")]
) -> JSONResponse:
    """Where the person's profit goes; the wallet, unless it has said otherwise."""
    authorize(principal, "payout_preference.read", owner_id=user_id)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        if await get_user(tx, user_id) is None:
            raise NotFound("user")
        chosen = await preferred(tx, user_id)
    return success(request, PayoutPreferenceView(user_id=user_id, destination=chosen or WALLET))


@router.put("/users/{user_id}/payout-preference", response_model=Envelope[PayoutPreferenceView])
async def choose_payout_preference(
    request: Request,
    user_id: str,
    body: PayoutPreferenceRequest,
    principal: Annotated[Principal, requires("payout_preference.change")],
) -> JSONResponse:
    """Choose where one's profit goes: for every distribution with `pay_to: preference` that begins to pay from now on."""

    async def handle(unit: Unit) -> Reply:
        authorize(principal, "payout_preference.change", owner_id=user_id)
        chosen = None if body.destination == WALLET else body.destination
        if chosen is not None:
            await own_beneficiary(unit, chosen, user_id)
        await prefer_payouts(unit.tx, unit.scope, user_id, chosen, unit.as_of)
        await unit.audit("payout_preference.changed", "user", user_id, destination=body.destination)
        return Reply(200, PayoutPreferenceView(user_id=user_id, destination=body.destination))

    return await execute(request, principal, "payout_preference.change", body, handle, key_required=False)


class VerificationRequest(StrictModel):
    """What was verified, and on what ground (kept in the audit log). `country` null: not known."""

    kyc_level: KycLevel
    country: Country | None = None
    reason: ShortText


@router.post("/admin/users/{user_id}/verification", response_model=Envelope[UserView])
async def verify_person(
    request: Request,
    user_id: str,
    body: VerificationRequest,
    principal: Annotated[Principal, requires("user.verify")],
) -> JSONResponse:
    """Say how well a person is known and where it lives: both at once, as they now are.

    A lower level takes nothing away, but pledges that are only held are released where the campaign asks for more.
    """

    async def handle(unit: Unit) -> Reply:
        user = await verify_user(unit.tx, user_id, kyc_level=body.kyc_level, country=body.country)
        if user is None:
            raise NotFound("user")
        await unit.audit(
            "user.verified", "user", user.id, kyc_level=body.kyc_level, country=body.country, reason=body.reason
        )
        return Reply(200, user_view(user))

    return await execute(request, principal, "user.verify", body, handle)
