"""The bare HTTP service: FastAPI over raw psycopg. One row through a response model, and a page that Postgres builds as JSON.

The documents are the product's own, field by field (`benchmarks/http.py` compares them before it measures). Left out: the
token, the caller's role, tenants (it runs as a role that row-level security does not bind), request ids and security
headers, the limits, the log line, and the envelope. `BENCH_DATABASE_URL` names the database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI
from fastapi.responses import Response
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

_ROW = "select id, email, name, role, kyc_level, country, created_at from users where id = %s"
_PAGE = """
select '[' || coalesce(string_agg(row_to_json(p)::text, ','), '') || ']' as page from (
    select id, campaign_id, investor_id, payment_id, provider,
           json_build_object('amount', amount_minor, 'currency', currency) as amount, status, refund_to, null as next_action,
           null as blocked_reason, null as next_action_at,
           'investment/' || tenant_id || '/' || mode || '/' || id as workflow_id, created_at, null as timeline
      from investments where investor_id = %s order by created_at desc, id desc limit 50) p
"""


class User(BaseModel):
    """The row."""

    id: str
    email: str
    name: str
    role: str
    kyc_level: int
    country: str | None
    created_at: datetime


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncConnectionPool[AsyncConnection[DictRow]](
        os.environ["BENCH_DATABASE_URL"], min_size=10, max_size=10, kwargs={"row_factory": dict_row, "autocommit": True}
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/row/{user_id}", response_model=User)
async def row(user_id: str) -> DictRow | None:
    """One row by its id."""
    async with app.state.pool.connection() as connection:
        found: DictRow | None = await (await connection.execute(_ROW, (user_id,))).fetchone()
    return found


@app.get("/page/{user_id}")
async def page(user_id: str) -> Response:
    """Fifty rows as the text Postgres made of them."""
    async with app.state.pool.connection() as connection:
        found = await (await connection.execute(_PAGE, (user_id,))).fetchone()
    return Response(found["page"], media_type="application/json")
