"""The outbox and its relay, with a recording send in place of Temporal."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import Client

from api.relay import Relay, run_relay
from contracts.base import Scope
from contracts.outbox import OutboxKind, OutboxMessage
from infra.database import Database
from infra.delivery import TemporalDown, TemporalLink
from models import outbox
from models.user import Role
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.postgres import role_url


async def a_client() -> Client:
    return object()  # type: ignore[return-value]  # the recording send does not use it


def message(scope: Scope, order_key: str, n: int = 0) -> OutboxMessage:
    return OutboxMessage(
        id=0, scope=scope, order_key=order_key, kind=OutboxKind.SIGNAL, workflow_id=order_key, signal_name=f"s{n}",
        signal_payload={"n": n}, request_id="req_test",
    )  # fmt: skip


@pytest.fixture
async def relay_database(owner_url: str) -> AsyncIterator[Database]:
    db = Database(role_url(owner_url, "chama_relay"), name="relay test", max_size=5)
    await db.open()
    yield db
    await db.close()


@pytest.fixture(autouse=True)
def empty(owner_url: str) -> None:
    """Earlier tests' messages are not this test's: marked delivered by the relay's role, which sees all tenants."""
    with psycopg.connect(role_url(owner_url, "chama_relay")) as connection:
        connection.execute("update outbox set delivered_at = now() where delivered_at is null")


async def put(database: Database, scope: Scope, *messages: OutboxMessage, grace: timedelta = timedelta(0)) -> list[int]:
    async with database.transaction(scope) as tx:
        return [await outbox.enqueue(tx, each, grace=grace) for each in messages]


@asynccontextmanager
async def relaying(database: Database, send: Callable[[Client, OutboxMessage], Any]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_relay(database, a_client, stop, send=send))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def until(condition: Callable[[], bool], seconds: int = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it watches another task's plain list
            await asyncio.sleep(0.02)


async def test_two_relays_deliver_each_message_once_and_in_order(
    database: Database, relay_database: Database, scope: Scope
) -> None:
    sent: list[tuple[str, int]] = []

    async def send(_: Client, each: OutboxMessage) -> None:
        await asyncio.sleep(0.001 * (each.id % 3))
        sent.append((each.order_key, each.signal_payload["n"]))

    keys = [f"entity/{n}" for n in range(20)]
    await put(database, scope, *(message(scope, key, n) for n in range(10) for key in keys))
    async with relaying(relay_database, send), relaying(relay_database, send):
        await until(lambda: len(sent) >= 200, 20)
        await asyncio.sleep(0.2)
    assert len(sent) == 200
    for key in keys:
        assert [n for each, n in sent if each == key] == list(range(10))


async def test_a_wake_up_speaks_for_the_later_ones_committed_before_it_was_sent(
    database: Database, relay_database: Database, scope: Scope
) -> None:
    """Fifty webhooks wait behind an outage: one wake-up. What carries a payload, or is committed later, is sent."""
    sent: list[int] = []
    late: list[int] = []
    wake_up = message(scope, "inbox").model_copy(update={"signal_payload": None})

    async def send(_: Client, each: OutboxMessage) -> None:
        if not sent:
            late.extend(await put(database, scope, wake_up))
        sent.append(each.id)

    first, *_ = await put(database, scope, *[wake_up] * 50)
    (loaded,) = await put(database, scope, message(scope, "inbox", 7))
    async with relaying(relay_database, send):
        await until(lambda: len(sent) >= 3)
        await asyncio.sleep(0.2)
    assert sent == [first, loaded, *late]


async def test_a_claim_never_waits_and_never_takes_twice(
    database: Database, relay_database: Database, scope: Scope
) -> None:
    ids = await put(database, scope, *(message(scope, f"e/{n}") for n in range(10)))
    lease = timedelta(seconds=30)
    async with relay_database.transaction() as one, relay_database.transaction() as two:
        first = [each.message.id for each in await outbox.claim(one, 6, lease)]
        second = [each.message.id for each in await outbox.claim(two, 6, lease)]
    assert len(first) == 6 and len(second) == 4
    assert sorted(first + second) == ids
    async with relay_database.transaction() as tx:
        assert await outbox.claim(tx, 6, lease) == []


async def test_a_dead_relays_lease_runs_out(database: Database, relay_database: Database, scope: Scope) -> None:
    (row_id,) = await put(database, scope, message(scope, "e/1"))
    async with relay_database.transaction() as tx:
        assert [each.message.id for each in await outbox.claim(tx, 5, timedelta(milliseconds=50))] == [row_id]
    await asyncio.sleep(0.1)
    async with relay_database.transaction() as tx:
        assert [each.message.id for each in await outbox.claim(tx, 5, timedelta(seconds=5))] == [row_id]


async def test_ids_of_one_key_follow_the_commits(database: Database, relay_database: Database, scope: Scope) -> None:
    """A second writer of the key waits for the first, so no later message can be delivered before an earlier one."""
    async with database.transaction(scope) as tx:
        first = await outbox.enqueue(tx, message(scope, "e/1"))
        second = asyncio.create_task(put(database, scope, message(scope, "e/1", 1)))
        await asyncio.sleep(0.2)
        assert not second.done()
        async with relay_database.transaction() as other:
            assert await outbox.claim(other, 5, timedelta(seconds=1)) == []
    assert (await second)[0] > first


async def test_a_failing_message_holds_up_its_own_key_only(
    database: Database, relay_database: Database, scope: Scope, owner_url: str
) -> None:
    sent: list[str] = []

    async def send(_: Client, each: OutboxMessage) -> None:
        if each.order_key == "bad":
            raise ValueError("secret-canary")
        sent.append(each.order_key)

    bad, _, *_ = await put(database, scope, message(scope, "bad"), message(scope, "bad", 1), message(scope, "good"))
    async with relaying(relay_database, send):
        await until(lambda: bool(sent))
        await asyncio.sleep(0.3)
    assert sent == ["good"]
    async with relay_database.transaction() as tx:
        cursor = await tx.execute(
            "select id, attempts, last_error, next_attempt_at > now() as later from outbox where delivered_at is null order by id"
        )
        first, second = await cursor.fetchall()
    assert (first["id"], first["attempts"], first["last_error"], first["later"]) == (bad, 1, "ValueError", True)
    assert second["attempts"] == 0


def test_backoff_doubles_with_jitter_up_to_a_minute() -> None:
    for attempts, ceiling_ms in ((0, 500), (1, 1000), (5, 16_000), (7, 60_000), (1000, 60_000)):
        waits = [outbox.backoff(attempts) // timedelta(milliseconds=1) for _ in range(200)]
        assert ceiling_ms // 2 <= min(waits) and max(waits) <= ceiling_ms
        assert len(set(waits)) > 20


async def test_notify_wakes_the_relay_at_once_and_grace_does_not(
    database: Database, relay_database: Database, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.relay._POLL_SECONDS", 60)
    sent: list[int] = []

    async def send(_: Client, each: OutboxMessage) -> None:
        sent.append(each.id)

    async with relaying(relay_database, send):
        await asyncio.sleep(0.5)
        await put(database, scope, message(scope, "later"), grace=timedelta(seconds=30))
        await asyncio.sleep(0.3)
        assert sent == []
        (row_id,) = await put(database, scope, message(scope, "now"))
        await until(lambda: sent == [row_id], 3)


async def test_an_outage_of_temporal_ends_with_everything_delivered(
    database: Database, relay_database: Database, scope: Scope
) -> None:
    down, sent, tries = True, [], 0

    async def send(_: Client, each: OutboxMessage) -> None:
        nonlocal tries
        if down:
            tries += 1
            raise TemporalDown("UNAVAILABLE")
        sent.append(each.id)

    ids = await put(database, scope, *(message(scope, f"e/{n}") for n in range(30)))
    async with relaying(relay_database, send):
        await until(lambda: tries >= 3)
        down = False
        await until(lambda: sorted(sent) == ids, 15)


async def test_the_relay_survives_lost_connections(
    database: Database, relay_database: Database, scope: Scope, owner_url: str, postgres: Any
) -> None:
    sent: list[int] = []

    async def send(_: Client, each: OutboxMessage) -> None:
        sent.append(each.id)

    async with relaying(relay_database, send):
        await asyncio.sleep(0.2)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'chama_relay'")
        ids = await put(database, scope, message(scope, "after"))
        await until(lambda: ids[0] in sent)


async def test_admins_see_their_stuck_messages_and_no_content(edge: Edge, database: Database) -> None:
    other = edge.user(Role.ADMIN, edge.scope.model_copy(update={"mode": "live"}))
    ids = await put(database, edge.scope, *(message(edge.scope, f"stuck/{n}") for n in range(5)))
    edge.sql("update outbox set attempts = 5, last_error = 'RPCError' where id = any(%s)", ids[:4])
    seen: list[dict[str, Any]] = []
    cursor = None
    headers = edge.headers(edge.user(Role.ADMIN))
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        body = (await edge.http.get("/v1/admin/outbox", params=params, headers=headers)).json()
        seen += body["data"]
        if (cursor := body["meta"]["next_cursor"]) is None:
            break
    assert [row["id"] for row in seen] == ids[:4]
    assert "payload" not in seen[0] and seen[0]["last_error"] == "RPCError"
    assert (await edge.http.get("/v1/admin/outbox", headers=edge.headers(other))).json()["data"] == []
    assert_problem(await edge.http.get("/v1/admin/outbox", headers=edge.headers(edge.user())), 403, "forbidden")


async def test_readiness_reports_the_queue_and_that_temporal_is_down(edge: Edge, database: Database) -> None:
    await put(database, edge.scope, message(edge.scope, f"wait/{uuid4().hex}"))
    body = (await edge.http.get("/readyz")).json()
    assert body["status"] == "ok" and body["postgres"] == "up" and body["temporal"] == "down"
    assert body["outbox"]["waiting"] == 1
    assert (await edge.http.get("/healthz")).json() == {"status": "ok"}


async def test_a_link_refuses_at_once_after_a_failure() -> None:
    calls = 0

    async def connect() -> Client:
        nonlocal calls
        calls += 1
        raise RuntimeError("refused")

    link = TemporalLink(connect, pause_seconds=60)
    for _ in range(5):
        with pytest.raises(TemporalDown):
            await link.client()
    assert calls == 1 and link.paused


def test_the_relay_process_is_light() -> None:
    modules = "import api.relay, api.chainer, api.watch, sys"
    script = f"{modules}; print([m for m in ('fastapi', 'sqlmodel', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_one_round_of_an_empty_outbox_moves_nothing(relay_database: Database) -> None:
    async def send(_: Client, each: OutboxMessage) -> None:
        raise AssertionError(each)

    assert await Relay(relay_database, TemporalLink(a_client), send).round() == 0
