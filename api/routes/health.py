"""Whether this process lives, and whether it can serve."""

import asyncio

import psycopg
from fastapi import Request
from psycopg_pool import PoolTimeout
from starlette.responses import JSONResponse
from temporalio.service import RPCError

from api.dependencies import PUBLIC
from api.envelope import api_router
from infra.database import Database
from infra.delivery import TemporalDown, TemporalLink
from models import outbox

router = api_router(tags=["health"])

_SECONDS = 3


@router.get("/healthz", dependencies=[PUBLIC], summary="The process runs")
async def healthz() -> JSONResponse:
    """200 as long as the process answers at all."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", dependencies=[PUBLIC], summary="The service can take requests")
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
