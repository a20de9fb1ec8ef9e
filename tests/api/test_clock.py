"""The test clock at the edge, without Temporal: where it may stand."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.base import Mode, Scope
from models.user import Role, User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.postgres import add_tenant

YEAR = timedelta(days=365)


@pytest.fixture
def admin(edge: Edge) -> Iterator[User]:
    """Of a tenant whose installation skips time."""
    edge.app.state.settings = edge.settings.model_copy(update={"test_clock": True})
    yield edge.user(Role.ADMIN, Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST))
    edge.app.state.settings = edge.settings


async def ask(edge: Edge, admin: User, path: str, body: Any) -> httpx.Response:
    return await edge.http.post(f"/v1/test-clock{path}", json=body, headers=edge.headers(admin, uuid4().hex))


@pytest.mark.parametrize("years", [-2000, -51, 51, 7900])
async def test_no_clock_stands_where_dates_end(edge: Edge, admin: User, years: int) -> None:
    now = (datetime.now(UTC) + years * YEAR).isoformat()
    refused = assert_problem(await ask(edge, admin, "", {"now": now}), 422, "invalid_target")
    assert refused["errors"][0]["field"] == "now"
    assert (await ask(edge, admin, "", {"now": "2020-01-01T00:00:00Z"})).status_code == 201


async def test_no_clock_is_moved_there(edge: Edge, admin: User) -> None:
    began = datetime.now(UTC) + 49.5 * YEAR
    assert (await ask(edge, admin, "", {"now": began.isoformat()})).status_code == 201
    for to in (began + 0.9 * YEAR, datetime.max.replace(tzinfo=UTC), began - timedelta(seconds=1)):
        refused = assert_problem(await ask(edge, admin, "/advance", {"to": to.isoformat()}), 422, "invalid_target")
        assert refused["errors"][0]["field"] == "to"
    assert (await ask(edge, admin, "/advance", {"to": (began + 0.1 * YEAR).isoformat()})).status_code == 202
