"""The bare HTTP service: FastAPI over raw psycopg, and a page that Postgres builds as JSON. No token, no tenant's rules.

`BENCH_DATABASE_URL` names the database; run by uvicorn as `benchmarks.bare_api:app`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

_PAGE = """
select coalesce(json_agg(p), '[]')::text as page from (
    select id, campaign_id, status, amount_minor, currency, created_at from investments
     where investor_id = %s order by created_at desc, id desc limit 50) p
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncConnectionPool[AsyncConnection[DictRow]](
        os.environ["BENCH_DATABASE_URL"], min_size=10, max_size=10, kwargs={"row_factory": dict_row, "autocommit": True}
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/row/{user_id}")
async def row(user_id: str) -> JSONResponse:
    """One row by its id."""
    async with app.state.pool.connection() as connection:
        found = await (
            await connection.execute("select id, name, role from users where id = %s", (user_id,))
        ).fetchone()
    return JSONResponse(found)


@app.get("/page/{user_id}")
async def page(user_id: str) -> Response:
    """Fifty rows as the text Postgres made of them."""
    async with app.state.pool.connection() as connection:
        found = await (await connection.execute(_PAGE, (user_id,))).fetchone()
    return Response(found["page"], media_type="application/json")
