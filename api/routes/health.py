"""Whether this process lives, and whether it can serve."""

import asyncio
from typing import Literal

import psycopg
from fastapi import Request
from psycopg_pool import PoolTimeout
from pydantic import BaseModel
from starlette.responses import JSONResponse
from temporalio.service import RPCError

from api.dependencies import PUBLIC
from api.routing import api_router
from infra.database import Database
from infra.delivery import TemporalDown, TemporalLink
from models import outbox

router = api_router(tags=["health"])

_SECONDS = 3


class HealthView(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class LagView(BaseModel):
    """Undelivered messages to Temporal, and how long the oldest waits."""

    waiting: int
    oldest_seconds: int


class ReadyView(BaseModel):
    """What the service needs, and whether it is there."""

    status: Literal["ok", "unavailable"]
    postgres: Literal["up", "down"]
    temporal: Literal["up", "down"]
    outbox: LagView | None


@router.get("/healthz", dependencies=[PUBLIC], response_model=HealthView, summary="The process runs")
async def healthz() -> JSONResponse:
    """200 as long as the process answers at all."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    dependencies=[PUBLIC],
    response_model=ReadyView,
    responses={503: {"model": ReadyView, "description": "Postgres is away"}},
    summary="The service can take requests",
)
async def readyz(request: Request) -> JSONResponse:
    """503 without Postgres. Without Temporal it still accepts (the outbox keeps the messages), so that is reported only."""
    auth_database: Database = request.app.state.auth_database
    temporal = await _temporal(request.app.state.temporal)
    try:
        async with asyncio.timeout(_SECONDS), auth_database.transaction() as tx:
            waiting, seconds = await outbox.lag(tx)
    except (psycopg.OperationalError, PoolTimeout, TimeoutError):
        body = {"status": "unavailable", "postgres": "down", "temporal": temporal, "outbox": None}
        return JSONResponse(body, status_code=503)
    lag = {"waiting": waiting, "oldest_seconds": seconds}
    return JSONResponse({"status": "ok", "postgres": "up", "temporal": temporal, "outbox": lag})


async def _temporal(link: TemporalLink) -> str:
    try:
        async with asyncio.timeout(_SECONDS):
            client = await link.client()
            return "up" if await client.service_client.check_health() else "down"
    except (TemporalDown, RPCError, RuntimeError, TimeoutError):
        return "down"
