"""Messages to Temporal that do not get through: for the tenant's admins."""

from datetime import datetime
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, decode_cursor, encode_cursor, page
from api.routing import api_router
from infra.database import Database
from models import outbox

router = api_router(prefix="/v1/admin", tags=["admin"])


class StuckMessageView(BaseModel):
    """An undelivered message, without its content. `last_error` is the kind of the last failure."""

    id: int
    kind: str
    workflow_id: str
    workflow_type: str | None
    signal_name: str | None
    attempts: int
    last_error: str | None
    created_at: datetime
    next_attempt_at: datetime
    request_id: str


@router.get("/outbox", response_model=Envelope[list[StuckMessageView]])
async def list_stuck(
    request: Request,
    principal: Annotated[Principal, requires("outbox.list_stuck")],
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> JSONResponse:
    """Messages still undelivered after several attempts, oldest first."""
    database: Database = request.app.state.database
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    async with database.transaction(principal.scope) as tx:
        rows = await outbox.stuck(tx, after=after, limit=limit + 1)
    shown = [StuckMessageView.model_validate(row) for row in rows[:limit]]
    return page(request, shown, encode_cursor(shown[-1].id) if len(rows) > limit else None)
