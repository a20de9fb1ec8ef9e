"""What of the tenant's is stuck, for its admins."""

from datetime import datetime
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, success
from api.routing import api_router
from api.stuck import QUICK, scan
from domain.stuck import StuckKind

router = api_router(prefix="/v1/admin", tags=["operations"])


class StuckView(BaseModel):
    """One thing that should move by itself and does not. `why` and `do` are for people, `kind` and `code` for machines."""

    kind: StuckKind
    subject: str
    since: datetime | None
    code: str | None
    attempts: int | None
    why: str
    do: str
    workflow_id: str | None


class StuckReportView(BaseModel):
    """What one look found, the longest stuck first. Not `complete`: there was more than one request may look at, or Temporal
    is down, or a kind could not be read in time (`unread`); an empty list proves nothing then."""

    at: datetime
    findings: list[StuckView]
    counts: dict[StuckKind, int]
    examined: int
    complete: bool
    temporal: str
    unread: list[StuckKind]


@router.get("/stuck", response_model=Envelope[StuckReportView])
async def list_stuck_things(request: Request, principal: Annotated[Principal, requires("stuck.list")]) -> JSONResponse:
    """Look at the tenant's processes and rows now. Takes some seconds at most."""
    state = request.app.state
    report = await scan(state.temporal, state.database, principal.scope, QUICK)
    return success(request, StuckReportView.model_validate(report.model_dump()))
