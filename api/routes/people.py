"""What an admin says of a person: how well it is known, and where it lives."""

from typing import Annotated

from fastapi import Request
from starlette.responses import JSONResponse

from api.auth import Principal
from api.campaign_terms import Country, KycLevel
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, ShortText, StrictModel
from api.routes.auth import UserView, user_view
from api.routing import api_router
from domain.errors import NotFound
from models.user import verify_user

router = api_router(prefix="/v1", tags=["users"])


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
