"""What an operator reads: open cases, and settlements with their lines."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope, ShortText, StrictModel, page, success
from api.paging import Limit
from api.routing import api_router
from contracts.campaign import SettlementInput
from contracts.ids import workflow_id
from contracts.visibility import ENTITY
from domain.case import check_resolvable
from domain.errors import Conflict, NotFound
from infra.database import Database
from models.case import UNBOOKED, get_case, open_cases
from models.case_closing import concern_of, resolve_by_hand, resolve_retried
from models.settlement import (
    change_settlement,
    count_lines,
    get_settlement,
    lines_page,
    requeue_failed,
    settlements_of,
)

router = api_router(prefix="/v1/admin", tags=["operations"])


class CaseView(BaseModel):
    """Something a person should see."""

    id: str
    kind: str
    subject_id: str
    detail: dict[str, Any]
    status: Literal["open", "resolved"]
    resolution: str | None
    opened_at: datetime
    resolved_at: datetime | None


class ResolutionRequest(StrictModel):
    """What was done about it, by a named operator."""

    resolution: ShortText


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


class RetryView(BaseModel):
    """How many lines were put back."""

    settlement_id: str
    requeued: int


class LineView(BaseModel):
    """One line of a settlement."""

    line_no: int
    investment_id: str
    action: str
    status: str
    tries: int
    error_code: str | None
    next_action_at: datetime | None
    dealt_with_at: datetime | None
    """When a person settled a failed line by another way."""


@router.get("/cases", response_model=Envelope[list[CaseView]])
async def list_cases(
    request: Request, principal: Annotated[Principal, requires("case.list")], limit: Limit = 50
) -> JSONResponse:
    """Open cases, oldest first."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        rows = await open_cases(tx, limit)
    return page(request, [CaseView(**row.model_dump()) for row in rows], None)


@router.post("/cases/{case_id}/resolve", response_model=Envelope[CaseView])
async def resolve(
    request: Request, case_id: str, body: ResolutionRequest, principal: Annotated[Principal, requires("case.resolve")]
) -> JSONResponse:
    """Close a case that nothing else closes, when it was dealt with. What stood still for it is blocked no more; its line is
    not retried any more."""

    async def handle(unit: Unit) -> Reply:
        found = await get_case(unit.tx, case_id)
        if found is None:
            raise NotFound("case")
        concern = await concern_of(unit.tx, found)
        case = await get_case(unit.tx, case_id, lock=True)
        assert case is not None
        unbooked = case.detail.get(UNBOOKED) is True
        check_resolvable(case.kind, case.status, worked_on=concern.worked_on, unbooked=unbooked)
        closed = await resolve_by_hand(unit.tx, unit.scope, case, concern, body.resolution, unit.as_of)
        await unit.audit("case.resolved", "case", case.id, kind=case.kind, resolution=body.resolution)
        return Reply(200, CaseView(**closed.model_dump()))

    return await execute(request, principal, "case.resolve", body, handle)


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


@router.post("/settlements/{settlement_id}/retry-failed-lines", status_code=202, response_model=Envelope[RetryView])
async def retry_failed_lines(
    request: Request, settlement_id: str, principal: Annotated[Principal, requires("settlement.retry")]
) -> JSONResponse:
    """Put failed lines back in the queue, under the same numbers, and run the settlement again over them.

    A refund the provider refused is asked for anew; a capture whose authorization is gone fails again.
    """

    async def handle(unit: Unit) -> Reply:
        settlement = await get_settlement(unit.tx, settlement_id, lock=True)
        if settlement is None:
            raise NotFound("settlement")
        requeued = await requeue_failed(unit.tx, settlement_id)
        if not requeued:
            raise Conflict("nothing_to_retry", "The settlement has no failed lines that are still to be dealt with.")
        await resolve_retried(unit.tx, requeued, unit.as_of)
        await change_settlement(unit.tx, settlement_id, status="running", next_action_at=None)
        await unit.audit("settlement.retried", "settlement", settlement_id, lines=len(requeued))
        await unit.signal_with_start(
            "SettlementWorkflow",
            workflow_id("settlement", unit.scope, settlement_id),
            SettlementInput(scope=unit.scope, settlement_id=settlement_id, lines=settlement.lines, as_of=unit.as_of),
            "line_reported",
            search_attributes={ENTITY.name: settlement_id},
            summary=f"settlement of {settlement.campaign_id}",
        )
        return Reply(202, RetryView(settlement_id=settlement_id, requeued=len(requeued)))

    return await execute(request, principal, "settlement.retry", None, handle)
