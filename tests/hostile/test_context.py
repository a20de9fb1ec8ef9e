"""Whose request it is never outlives the request: one connection, two tenants, every way to end (RELIABILITY E3)."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Request

from api.auth import Principal
from api.dependencies import PUBLIC, requires
from api.main import create_app
from api.routing import api_router
from contracts.base import Mode, Scope
from models.user import User
from tests.fixtures.api import Edge, edge_settings, no_temporal
from tests.fixtures.postgres import add_tenant

REQUESTS = 10_000 if int(os.environ.get("CHAMA_HOSTILE_CASES", "0")) > 2000 else 2_000
_SEEN = "select tenant_id, mode from users"
_ENDINGS = {
    "read": None,
    "sql": "select 1 / 0",
    "timeout": "select pg_sleep(1)",
    "syntax": "select from nowhere",
    "role": "truncate users",
}


def add_reader(edge: Edge) -> None:
    """A route that reads what row-level security lets it see, and then ends in the way it is told."""
    router = api_router(prefix="/v1")

    @router.get("/seen/{ending}")
    async def seen(ending: str, request: Request, principal: Annotated[Principal, requires("toy.act")]) -> Any:
        async with request.app.state.database.transaction(principal.scope) as tx:
            rows = await (await tx.execute(_SEEN)).fetchall()
            if ending == "raise":
                raise RuntimeError("in the middle")
            if ending == "slow":
                await tx.execute("select pg_sleep(0.002)")
            if ending == "timeout":
                await tx.execute("set local statement_timeout = 1")
            if (statement := _ENDINGS.get(ending)) is not None:
                await tx.execute(statement)
        return {"seen": [f"{row['tenant_id']}/{row['mode']}" for row in rows]}

    @router.get("/unscoped", dependencies=[PUBLIC])
    async def unscoped(request: Request) -> Any:
        async with request.app.state.database.transaction() as tx:
            rows = await (await tx.execute(_SEEN)).fetchall()
            left = await (await tx.execute("select current_setting('app.tenant', true) as tenant")).fetchone()
        return {"seen": len(rows), "left": left["tenant"] or ""}

    edge.app.include_router(router)


@pytest.fixture
async def narrow(owner_url: str, toy_action: None) -> AsyncIterator[Edge]:
    """An API with a single connection to the database."""
    settings = edge_settings(owner_url).model_copy(update={"database_pool_max": 1, "log_level": "CRITICAL"})
    app = create_app(settings, temporal=no_temporal)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        edge = Edge(app, http, owner_url, Scope(tenant_id=add_tenant(owner_url), mode=Mode.TEST), settings)
        add_reader(edge)
        yield edge


async def test_no_tenant_is_left_behind_on_a_connection(narrow: Edge) -> None:
    other = Scope(tenant_id=add_tenant(narrow.owner_url), mode=Mode.TEST)
    users: list[User] = [narrow.user(), narrow.user(scope=other)]
    headers = [narrow.headers(user) for user in users]
    dice, ended, leaks = random.Random(3), Counter[str](), []
    endings = ("read", "read", "slow", "raise", "sql", "timeout", "syntax", "role")

    async def once(number: int) -> None:
        """One request, given up after a moment in one case of five; the answer may show its own tenant only."""
        who, ending = number % 2, dice.choice(endings)
        patience = dice.uniform(0, 0.006) if number % 5 == 0 else 30
        answer = None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                answer = await narrow.http.get(f"/v1/seen/{ending}", headers=headers[who])
        ended[ending if answer is not None else "given up"] += 1
        if answer is not None and answer.status_code == 200:
            own = f"{users[who].tenant_id}/{users[who].mode}"
            leaks.extend(row for row in answer.json()["seen"] if row != own)
            assert answer.json()["seen"], "it sees its own user"
        if number % 4 == 0:
            found = (await narrow.http.get("/v1/unscoped")).json()
            if found != {"seen": 0, "left": ""}:
                leaks.append(str(found))

    for start in range(0, REQUESTS, 4):
        await asyncio.gather(*(once(number) for number in range(start, start + 4)))
    assert leaks == []
    assert set(ended) == {*endings, "given up"} and ended["given up"] >= REQUESTS // 20
    assert ended.total() == REQUESTS
