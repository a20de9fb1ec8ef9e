"""A test-mode tenant's own clock: create it, read it, advance it. Stripe's users know the idea."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, StrictModel, Timestamp, success
from api.routing import api_router
from contracts.base import Mode
from contracts.clock import AdvanceInput
from contracts.ids import workflow_id
from contracts.visibility import ENTITY
from domain.campaign import MAX_DURATION
from domain.errors import Conflict, InvalidRequest, NotFound
from infra.database import Database
from models.clock import TestClock, create_clock, get_clock, set_target

router = api_router(prefix="/v1", tags=["test clock"])

_REACH: Final = timedelta(days=50 * 365)
"""How far from the real time a clock may stand: whatever is counted on from it, in years, is still a date."""


class ClockRequest(StrictModel):
    """Where the clock starts; absent: the real time."""

    now: Timestamp | None = None


class AdvanceRequest(StrictModel):
    """Where the clock should stand."""

    to: Timestamp


class ClockView(BaseModel):
    """The tenant's clock. While `advancing`, everything due up to `target` happens in business order."""

    now: datetime
    target: datetime
    status: Literal["ready", "advancing", "failed"]
    error: str | None


def _view(clock: TestClock) -> ClockView:
    return ClockView.model_validate(
        {"now": clock.now_at, "target": clock.target_at, "status": clock.status, "error": clock.error}
    )


def _check_reach(wanted: datetime, field: str) -> None:
    if abs(wanted - datetime.now(UTC)) > _REACH:
        raise InvalidRequest("invalid_target", "A clock stands within fifty years of the real time.", field=field)


def _require_test_mode(request: Request, principal: Principal) -> None:
    if principal.scope.mode is not Mode.TEST:
        raise Conflict("live_mode", "Live tenants live in real time.")
    if not request.app.state.settings.test_clock:
        raise Conflict("test_clock_off", "This installation's Temporal server does not allow time skipping.")


@router.post("/test-clock", status_code=201, response_model=Envelope[ClockView])
async def make_clock(
    request: Request, body: ClockRequest, principal: Annotated[Principal, requires("clock.change")]
) -> JSONResponse:
    """Give the tenant's test mode a clock of its own. It stands still between advances."""
    _require_test_mode(request, principal)
    if body.now is not None:
        _check_reach(body.now, "now")

    async def handle(unit: Unit) -> Reply:
        if not await create_clock(unit.tx, unit.scope, body.now or datetime.now(UTC)):
            raise Conflict("clock_exists", "The tenant has a test clock already.")
        await unit.audit("clock.created", "clock", str(unit.scope))
        clock = await get_clock(unit.tx)
        assert clock is not None
        return Reply(201, _view(clock))

    return await execute(request, principal, "clock.create", body, handle)


@router.get("/test-clock", response_model=Envelope[ClockView])
async def read_clock(request: Request, principal: Annotated[Principal, requires("clock.read")]) -> JSONResponse:
    """Where the clock stands."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        clock = await get_clock(tx)
    if clock is None:
        raise NotFound("test clock")
    return success(request, _view(clock))


@router.post("/test-clock/advance", status_code=202, response_model=Envelope[ClockView])
async def advance(
    request: Request, body: AdvanceRequest, principal: Annotated[Principal, requires("clock.change")]
) -> JSONResponse:
    """Move the clock forward; read it until it is `ready` again."""
    _require_test_mode(request, principal)

    async def handle(unit: Unit) -> Reply:
        clock = await get_clock(unit.tx, lock=True)
        if clock is None:
            raise NotFound("test clock")
        if clock.status == "advancing":
            raise Conflict("clock_advancing", "The clock is advancing; wait until it is ready.")
        if not timedelta() <= body.to - clock.now_at <= MAX_DURATION:
            raise InvalidRequest("invalid_target", "A clock moves forward, at most a year at once.", field="to")
        _check_reach(body.to, "to")
        number = await set_target(unit.tx, body.to)
        await unit.audit("clock.advanced", "clock", str(unit.scope), to=body.to.isoformat())
        await unit.start(
            "ClockWorkflow",
            workflow_id("clock", unit.scope, str(number)),
            AdvanceInput(scope=unit.scope, target=body.to),
            search_attributes={ENTITY.name: "test-clock"},
            summary=f"advance the test clock to {body.to:%Y-%m-%d}",
        )
        clock = await get_clock(unit.tx)
        assert clock is not None
        return Reply(202, _view(clock))

    return await execute(request, principal, "clock.advance", body, handle)
