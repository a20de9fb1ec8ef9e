"""What an operator reads: open cases, and settlements with their lines."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, api_router, page, success
from api.paging import Limit
from contracts.ids import workflow_id
from domain.errors import NotFound
from infra.database import Database
from models.case import open_cases
from models.settlement import count_lines, get_settlement, lines_page, settlements_of

router = api_router(prefix="/v1/admin", tags=["operations"])


class CaseView(BaseModel):
    """Something a person should see."""

    id: str
    kind: str
    subject_id: str
    detail: dict[str, Any]
    opened_at: datetime


class SettlementView(BaseModel):
    """A campaign's outcome on its way through the lines."""

    id: str
    campaign_id: str
    outcome: str
    status: str
    lines: int
    open: int
    done: int
    failed: int
    blocked_reason: str | None
    next_action_at: datetime | None
    workflow_id: str


class LineView(BaseModel):
    """One line of a settlement."""

    line_no: int
    investment_id: str
    action: str
    status: str
    tries: int
    error_code: str | None
    next_action_at: datetime | None


@router.get("/cases", response_model=Envelope[list[CaseView]])
async def list_cases(
    request: Request, principal: Annotated[Principal, requires("case.list")], limit: Limit = 50
) -> JSONResponse:
    """Open cases, oldest first."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        rows = await open_cases(tx, limit)
    return page(request, [CaseView(**row.model_dump()) for row in rows], None)


@router.get("/campaigns/{campaign_id}/settlements", response_model=Envelope[list[SettlementView]])
async def list_settlements(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("settlement.read")]
) -> JSONResponse:
    """A campaign's settlements with their counts."""
    database: Database = request.app.state.database
    views = []
    async with database.transaction(principal.scope) as tx:
        for row in await settlements_of(tx, campaign_id):
            counts = await count_lines(tx, row.id)
            views.append(
                SettlementView(
                    **row.model_dump(),
                    open=counts.open,
                    done=counts.done,
                    failed=counts.failed,
                    workflow_id=workflow_id("settlement", principal.scope, row.id),
                )
            )
    return success(request, views)


@router.get("/settlements/{settlement_id}/lines", response_model=Envelope[list[LineView]])
async def list_lines(
    request: Request,
    settlement_id: str,
    principal: Annotated[Principal, requires("settlement.read")],
    after: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Limit = 50,
) -> JSONResponse:
    """The lines after number `after`, in order."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        if await get_settlement(tx, settlement_id) is None:
            raise NotFound("settlement")
        rows = await lines_page(tx, settlement_id, after=after, limit=limit)
    return page(request, [LineView(**row.model_dump()) for row in rows], None)
