"""The command path: one effect a key, one answer a key (RELIABILITY C1-C3)."""

import asyncio
from collections import defaultdict
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.main import create_app
from contracts.base import Mode, Scope
from tests.fixtures.api import Edge, add_toys, assert_problem, no_temporal, toy_body
from tests.fixtures.postgres import add_tenant

_AT_ONCE = 60


async def test_fifty_copies_of_twenty_keys_make_twenty_effects(edge: Edge) -> None:
    user = edge.user()
    before = edge.count("timeline")
    answers: dict[str, set[tuple[int, bytes]]] = defaultdict(set)
    waits = 0

    at_once = asyncio.Semaphore(_AT_ONCE)

    async def insist(key: str) -> None:
        nonlocal waits
        async with at_once:
            while (response := await edge.toy(user, key)).status_code in (409, 503):
                # 503: the requests share twenty connections, and a busy machine may keep one waiting too long.
                assert response.json()["code"] in ("request_in_flight", "unavailable"), response.text
                waits += 1
                await asyncio.sleep(0.05)
        answers[key].add((response.status_code, response.content))

    keys = [f"key-{n}" for n in range(20)]
    # Key by key, so that the copies of one meet each other; with a thousand at once they would all only wait for a connection.
    await asyncio.gather(*(insist(key) for key in keys for _ in range(50)))
    assert edge.count("timeline") - before == 20
    assert {len(each) for each in answers.values()} == {1}
    assert {status for each in answers.values() for status, _ in each} == {202}
    assert len({content for each in answers.values() for _, content in each}) == 20
    assert edge.count("audit_log", "actor = %s", user.id) == 20


async def test_replay_is_the_first_answer_to_the_byte_and_says_so(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    first, second = await edge.toy(user, key, note="naïve ₦ 😀"), await edge.toy(user, key, note="naïve ₦ 😀")
    assert first.status_code == second.status_code == 202
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers and second.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 400, "idempotency_key_missing"),
        ("", 400, "idempotency_key_malformed"),
        ("x" * 256, 400, "idempotency_key_malformed"),
        ("two words", 400, "idempotency_key_malformed"),
        ("ключ".encode(), 400, "idempotency_key_malformed"),
        ("x" * 255, 202, ""),
    ],
)
async def test_what_a_key_may_be(edge: Edge, key: str | bytes | None, status: int, code: str) -> None:
    headers: list[tuple[bytes, bytes]] = [(k.encode(), v.encode()) for k, v in edge.headers(edge.user()).items()]
    if key is not None:
        headers.append((b"Idempotency-Key", key.encode() if isinstance(key, str) else key))
    response = await edge.http.post("/v1/toys/a", json=toy_body(), headers=headers)
    if code:
        assert_problem(response, status, code)
    else:
        assert response.status_code == status


async def test_two_key_headers_are_refused(edge: Edge) -> None:
    headers = [*edge.headers(edge.user(), "one").items(), ("Idempotency-Key", "two")]
    assert_problem(
        await edge.http.post("/v1/toys/a", json=toy_body(), headers=headers), 400, "idempotency_key_malformed"
    )


async def test_same_key_for_another_request_is_refused(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    assert (await edge.toy(user, key)).status_code == 202
    assert_problem(await edge.toy(user, key, amount=501), 422, "idempotency_key_reused")
    other_path = await edge.http.post("/v1/toys/b", json=toy_body(), headers=edge.headers(user, key))
    assert_problem(other_path, 422, "idempotency_key_reused")


async def test_keys_of_other_people_tenants_and_modes_are_other_keys(edge: Edge) -> None:
    key = uuid4().hex
    elsewhere = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    live = Scope(tenant_id=edge.scope.tenant_id, mode=Mode.LIVE)
    users = [edge.user(), edge.user(), edge.user(scope=elsewhere), edge.user(scope=live)]
    answers = [await edge.toy(user, key, amount=n + 1) for n, user in enumerate(users)]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["data"]["id"] for answer in answers}) == 4


async def test_in_flight_is_409_and_the_answer_comes_after(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    edge.gate.clear()
    first = asyncio.create_task(edge.toy(user, key, kind="slow"))
    await asyncio.sleep(0.3)
    async with asyncio.timeout(10):  # a second request that waits would wait for the gate
        assert_problem(await edge.toy(user, key, kind="slow"), 409, "request_in_flight")
    edge.gate.set()
    answer = await first
    assert (await edge.toy(user, key, kind="slow")).content == answer.content


async def test_a_refusal_leaves_nothing_and_the_key_stays_free(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    tables = ("timeline", "audit_log", "outbox", "idempotency_keys")
    before = [edge.count(table) for table in tables]
    assert_problem(await edge.toy(user, key, kind="refuse"), 409, "toy_refused")
    assert [edge.count(table) for table in tables] == before
    assert (await edge.toy(user, key)).status_code == 202


async def test_a_deadlock_is_tried_again_with_one_effect(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    edge.deadlocks = 2
    answer = await edge.toy(user, key, kind="deadlock")
    assert answer.status_code == 202 and edge.deadlocks == 0
    assert edge.count("timeline", "entity_id = %s", answer.json()["data"]["id"]) == 1


async def test_endless_deadlocks_end_in_503_with_no_effect(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    edge.deadlocks = 99
    before = edge.count("timeline")
    assert_problem(await edge.toy(user, key, kind="deadlock"), 503, "unavailable")
    edge.deadlocks = 0
    assert edge.count("timeline") == before


async def test_the_answer_survives_a_restart(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    first = await edge.toy(user, key)
    app = create_app(edge.settings, temporal=no_temporal)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chama.test") as http,
    ):
        add_toys(Edge(app, http, edge.owner_url, edge.scope, edge.settings))
        again = await http.post("/v1/toys/a", json=toy_body(), headers=edge.headers(user, key))
    assert again.content == first.content


async def test_keys_are_kept_72_hours(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    first = await edge.toy(user, key)
    kept = edge.sql("select expires_at - created_at from idempotency_keys where key = %s", key)[0][0]
    assert kept.total_seconds() == 72 * 3600
    edge.forget(key)
    second = await edge.toy(user, key)
    assert second.status_code == 202 and second.content != first.content
    assert second.json()["data"]["id"] == first.json()["data"]["id"], "the id is the request's, for ever"
    assert (await edge.toy(user, key)).content == second.content


async def test_a_forgotten_key_is_a_new_one_for_another_request(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex

    async def made(path: str, **changes: Any) -> str:
        edge.forget(key)
        answer = await edge.http.post(f"/v1/toys/{path}", json=toy_body(**changes), headers=edge.headers(user, key))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["id"])

    first = await made("a")
    assert await made("a", kind="plain") == first, "what it would be unless said is no other request"
    assert len({first, await made("b"), await made("a", amount=501), await made("a", essay="Long.")}) == 4


async def test_an_accepted_command_leaves_its_message_when_temporal_is_down(edge: Edge) -> None:
    user, key = edge.user(), uuid4().hex
    answer = await edge.toy(user, key, kind="start")
    assert answer.status_code == 202
    toy_id = answer.json()["data"]["id"]
    (row,) = edge.sql(
        "select kind, workflow_type, payload, search_attributes, request_id, delivered_at from outbox "
        "where order_key = %s",
        f"toy/{edge.scope}/{toy_id}",
    )
    attributes = {"ChamaTenant": str(edge.scope.tenant_id), "ChamaMode": "test"}
    assert row == ("start", "ToyWorkflow", {"toy_id": toy_id}, attributes, answer.json()["meta"]["request_id"], None)
