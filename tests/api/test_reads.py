"""Documents made by Postgres are those of the views; the caller's role counts at once; a page goes on where it ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import auth
from api.auth import InvalidToken
from api.envelope import Envelope
from api.routes.auth import UserView
from api.views import InvestmentView, PaymentView, ReadCampaignView
from contracts.base import Mode, Scope
from infra.database import Database
from models.user import Role, User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import campaign_body, fill_wallet
from tests.fixtures.postgres import add_tenant

PLEDGES = 7
ODD = "Ọdún titun,\n\"{}\" \\ %s $1 'x'"
"""Text that breaks careless quoting: other alphabets, a line feed, quotes, a backslash and placeholders."""


class World:
    """An owner's campaign with an investor's wallet pledges, some with microseconds and some without."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.people = {role: edge.user(role) for role in Role}
        self.campaign_id = ""

    async def post(self, role: Role, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = self.edge.headers(self.people[role], uuid4().hex)
        answer = await self.edge.http.post(path, json=body, headers=headers)
        assert answer.status_code in (200, 201, 202), answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def get(self, path: str, who: User | Role = Role.INVESTOR) -> httpx.Response:
        user = self.people[who] if isinstance(who, Role) else who
        return await self.edge.http.get(path, headers=self.edge.headers(user))


@pytest.fixture(scope="module")
async def world(edge: Edge) -> AsyncIterator[World]:
    made = World(edge)
    await fill_wallet(made.edge, made.people[Role.INVESTOR])
    body = campaign_body(description=ODD, max_per_investor={"amount": 800_000, "currency": "NGN"})
    made.campaign_id = (await made.post(Role.BUSINESS_OWNER, "/v1/campaigns", body))["id"]
    await made.post(Role.ADMIN, f"/v1/admin/campaigns/{made.campaign_id}/verify", {"decision": "approve", "note": "ok"})
    pledge = {"amount": 500, "currency": "NGN", "provider": "wallet"}
    for _ in range(PLEDGES):
        await made.post(Role.INVESTOR, f"/v1/campaigns/{made.campaign_id}/invest", pledge)
    edge.sql(
        "update investments set created_at = date_trunc('second', created_at) where id = (select max(id) from investments)"
    )
    edge.sql("update payments set next_action = %s where id = (select max(id) from payments)", '{"kind": "redirect"}')
    yield made


@pytest.mark.parametrize(
    ("path", "view"),
    [
        ("/v1/users/me", Envelope[UserView]),
        ("/v1/investments", Envelope[list[InvestmentView]]),
        ("/v1/investments/{investment}", Envelope[InvestmentView]),
        ("/v1/campaigns", Envelope[list[ReadCampaignView]]),
        ("/v1/campaigns/{campaign}", Envelope[ReadCampaignView]),
        ("/v1/payments", Envelope[list[PaymentView]]),
        ("/v1/payments/{payment}", Envelope[PaymentView]),
    ],
)
async def test_what_postgres_writes_is_what_the_view_writes(world: World, path: str, view: Any) -> None:
    newest = (await world.get("/v1/investments?limit=1")).json()["data"][0]
    answer = await world.get(
        path.format(investment=newest["id"], payment=newest["payment_id"], campaign=world.campaign_id)
    )
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    data = answer.json()["data"]
    expected = view.model_validate_json(answer.content).model_dump(mode="json")["data"]
    assert json.dumps(data) == json.dumps(expected), "fields, their order, and how each value is spelt"
    assert data, "something to compare"


async def test_a_read_shows_what_the_command_answered(world: World) -> None:
    body = campaign_body(description=ODD)
    made = await world.post(Role.BUSINESS_OWNER, "/v1/campaigns", body)
    read = (await world.get(f"/v1/campaigns/{made['id']}", Role.BUSINESS_OWNER)).json()["data"]
    for name in ("reviews", "warnings"):
        assert (read.pop(name), made.pop(name)) == ([], None)
    assert [event["event"] for event in read.pop("timeline")] == ["campaign_submitted"]
    made.pop("timeline")
    fed = {name: read.pop(name) for name in ("investors", "progress_bps", "score")}
    assert read == made and read["description"] == ODD
    listed = (await world.get("/v1/campaigns?status=submitted", Role.BUSINESS_OWNER)).json()["data"]
    assert next(each for each in listed if each["id"] == made["id"]) == {
        **made,
        "reviews": None,
        "warnings": None,
        "timeline": None,
        **fed,
    }


async def test_pages_go_on_where_they_ended(world: World) -> None:
    everything = (await world.get("/v1/investments?limit=100")).json()["data"]
    assert len(everything) == PLEDGES
    seen, cursor = [], ""
    for _ in range(PLEDGES):
        answer = (await world.get(f"/v1/investments?limit=3{cursor}")).json()
        seen += answer["data"]
        if answer["meta"]["next_cursor"] is None:
            break
        assert len(answer["data"]) == 3
        cursor = f"&cursor={answer['meta']['next_cursor']}"
    assert seen == everything
    order = [(datetime.fromisoformat(each["created_at"]), each["id"]) for each in seen]
    assert order == sorted(order, reverse=True)
    empty = (await world.get(f"/v1/investments?campaign_id=cmp_{'0' * 32}")).json()
    assert empty["data"] == [] and empty["meta"]["next_cursor"] is None


async def test_lists_are_filtered_by_person_campaign_and_purpose(world: World) -> None:
    assert (await world.get("/v1/investments", Role.BUSINESS_OWNER)).json()["data"] == []
    assert (await world.get("/v1/payments", Role.BUSINESS_OWNER)).json()["data"] == []
    assert len((await world.get("/v1/investments", Role.ADMIN)).json()["data"]) == PLEDGES
    assert len((await world.get(f"/v1/investments?campaign_id={world.campaign_id}")).json()["data"]) == PLEDGES
    assert len((await world.get("/v1/payments?purpose=investment")).json()["data"]) == PLEDGES
    assert (await world.get("/v1/payments?purpose=deposit")).json()["data"] == []
    assert (await world.get("/v1/campaigns?status=rejected")).json()["data"] == []


async def test_what_is_another_tenants_is_not_there(world: World) -> None:
    elsewhere = Scope(tenant_id=add_tenant(world.edge.owner_url), mode=Mode.TEST)
    stranger = world.edge.user(Role.ADMIN, elsewhere)
    for path in ("investments", "campaigns", "payments"):
        assert (await world.get(f"/v1/{path}", stranger)).json()["data"] == []
    assert_problem(await world.get(f"/v1/campaigns/{world.campaign_id}", stranger), 404, "not_found")


async def test_a_list_follows_the_role_of_now_not_the_tokens(world: World) -> None:
    user = world.edge.user(Role.INVESTOR)
    assert (await world.get("/v1/investments", user)).json()["data"] == []
    world.edge.sql("update users set role = 'admin' where id = %s", user.id)
    assert len((await world.get("/v1/investments", user)).json()["data"]) == PLEDGES
    was_admin = world.edge.user(Role.ADMIN)
    assert len((await world.get("/v1/investments", was_admin)).json()["data"]) == PLEDGES
    world.edge.sql("update users set role = 'investor' where id = %s", was_admin.id)
    assert (await world.get("/v1/investments", was_admin)).json()["data"] == []
    first = (await world.get("/v1/investments?limit=1", Role.ADMIN)).json()["data"][0]["id"]
    assert_problem(await world.get(f"/v1/investments/{first}", was_admin), 404, "not_found")
    same = world.edge.user(Role.ADMIN)
    world.edge.sql("update users set disabled_at = now() where id = any(%s)", [user.id, was_admin.id, same.id])
    for each in (user, was_admin, same):
        for path in ("users/me", "investments", "campaigns", f"campaigns/{world.campaign_id}", f"investments/{first}"):
            assert_problem(await world.get(f"/v1/{path}", each), 401, "invalid_token")


async def test_who_may_not_ask_is_not_told_what_was_wrong(world: World) -> None:
    gone = world.edge.user()
    world.edge.sql("update users set disabled_at = now() where id = %s", gone.id)
    assert_problem(await world.get("/v1/investments?limit=0", gone), 401, "invalid_token")
    problem = assert_problem(await world.get("/v1/investments?limit=0"), 422, "invalid_request")
    assert problem["errors"][0]["field"] == "query.limit"


async def test_a_token_is_remembered_until_it_expires_and_no_longer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, verified = auth.Tokens(edge.app.state.tokens._private, 2), []
    real = auth.jwt.decode
    monkeypatch.setattr(auth.jwt, "decode", lambda *a, **k: verified.append(a) or real(*a, **k))
    token = tokens.issue(edge.user())
    assert tokens.check(token) == tokens.check(token) and len(verified) == 1
    await asyncio.sleep(2.1)
    with pytest.raises(InvalidToken):
        tokens.check(token)


def test_a_bad_token_is_judged_each_time(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = auth.Tokens(edge.app.state.tokens._private, 60)
    monkeypatch.setattr(auth, "_KNOWN_MAX", 2)
    good = [tokens.issue(edge.user()) for _ in range(3)]
    for token in (*good, good[0]):
        tokens.check(token)
        with pytest.raises(InvalidToken):
            tokens.check(token[:-2])
    assert len(tokens._known) == 2, "good ones only, and no more than may be"


async def test_a_question_outlives_rollbacks_and_cancellations(edge: Edge) -> None:
    """One connection: whatever happened on it, the next question is answered, within its own scope."""
    database = Database(edge.settings.app_url, name="questions", max_size=1)
    await database.open()
    users = [edge.user(), edge.user(scope=Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST))]
    query = "select count(*) as seen, max(id) as id from users where $1::text is null or id = $1"
    try:
        for number in range(40):
            user = users[number % 2]
            scope = Scope(tenant_id=user.tenant_id, mode=Mode(user.mode))
            with pytest.raises(ZeroDivisionError):
                async with database.transaction(scope) as tx:
                    for _ in range(6):  # until the driver prepares it
                        await tx.execute("select id from users where id = %s", (user.id,))
                    raise ZeroDivisionError
            asked = asyncio.create_task(database.ask(scope, query, (user.id,)))
            if number % 3 == 0:
                await asyncio.sleep(0.0005 * (number % 7))
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
                asked = asyncio.create_task(database.ask(scope, query, (user.id,)))
            row = await asked
            assert row is not None and (row["seen"], row["id"]) == (1, user.id)
            other = users[1 - number % 2]
            hidden = await database.ask(scope, query, (other.id,))
            assert hidden is not None and hidden["seen"] == 0
    finally:
        await database.close()


async def test_a_question_reads_only_and_leaves_no_scope_behind(edge: Edge) -> None:
    """What is set for one question must not be there for whoever borrows the connection next."""
    database = Database(edge.settings.app_url, name="one", max_size=1)
    await database.open()
    settings = ("transaction_read_only", "app.tenant", "app.mode", "plan_cache_mode")
    query = "select " + ", ".join(f"current_setting('{each}', true) as {each.replace('.', '_')}" for each in settings)
    try:
        asked = await database.ask(edge.scope, query, ())  # type: ignore[arg-type]
        async with database.transaction() as tx:
            after = await (await tx.execute(query)).fetchone()
    finally:
        await database.close()
    assert asked is not None and after is not None
    assert [*asked.values()] == ["on", str(edge.scope.tenant_id), str(edge.scope.mode), "force_generic_plan"]
    assert [*after.values()] in (["off", "", "", "auto"], ["off", None, None, "auto"])
