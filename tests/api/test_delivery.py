"""Delivery to a real Temporal server: repeated, inline, and by the relay after a crash."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from api.main import create_app
from api.relay import run_relay
from contracts import visibility
from contracts.base import Scope
from contracts.outbox import OutboxKind, OutboxMessage
from infra.database import Database
from infra.delivery import deliver
from tests.fixtures.api import Edge, add_toys, edge_settings, no_temporal
from tests.fixtures.postgres import free_port, role_url


@pytest.fixture(scope="module")
async def temporal() -> AsyncIterator[Client]:
    """A development server in memory, with our search attributes."""
    port = free_port()
    binary = Path(sys.executable).parent / "temporal"
    attributes = [arg for name, kind in visibility.registration() for arg in ("--search-attribute", f"{name}={kind}")]
    command = [
        str(binary),
        "server",
        "start-dev",
        "--headless",
        "--port",
        str(port),
        "--log-level",
        "error",
        *attributes,
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)  # noqa: ASYNC220 - starting is quick
    try:
        yield await _connected(f"127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait()


async def _connected(address: str, server: subprocess.Popen[bytes]) -> Client:
    """A client of a server that knows its namespace: it listens before it does."""
    for _ in range(1_200):
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(RuntimeError, RPCError):
            client = await Client.connect(address)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
            return client
        await asyncio.sleep(0.05)
    raise AssertionError("no Temporal server after a minute")


def start(scope: Scope, workflow_id: str, **changes: object) -> OutboxMessage:
    values = {
        "id": 1, "scope": scope, "order_key": workflow_id, "kind": OutboxKind.START, "workflow_id": workflow_id,
        "workflow_type": "ToyWorkflow", "task_queue": "chama", "payload": {"toy_id": "toy_1"}, "request_id": "req_1",
        "search_attributes": {"ChamaEntity": "toy_1", "ChamaNextActionAt": "2026-01-01T00:00:00+00:00"},
        "static_summary": "a toy",
    }  # fmt: skip
    return OutboxMessage.model_validate(values | changes)


def signal(scope: Scope, workflow_id: str, row_id: int) -> OutboxMessage:
    return start(
        scope, workflow_id, id=row_id, kind=OutboxKind.SIGNAL, signal_name="poke", signal_payload={"n": row_id}
    )


async def events(client: Client, workflow_id: str) -> list[str]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [event.WhichOneof("attributes") for event in history.events]


SIGNALED = "workflow_execution_signaled_event_attributes"


async def test_a_repeated_start_is_one_workflow(temporal: Client, scope: Scope) -> None:
    workflow_id = f"toy/{scope}/one"
    for _ in range(3):
        await deliver(temporal, start(scope, workflow_id))
    handle = temporal.get_workflow_handle(workflow_id)
    described = await handle.describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert described.typed_search_attributes.get(visibility.ENTITY) == "toy_1"
    await handle.terminate()
    await deliver(temporal, start(scope, workflow_id))
    assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED


async def test_a_repeated_signal_is_heard_once(temporal: Client, scope: Scope) -> None:
    workflow_id = f"toy/{scope}/signal"
    await deliver(temporal, start(scope, workflow_id))
    for row_id in (7, 7, 8, 7):
        await deliver(temporal, signal(scope, workflow_id, row_id))
    assert (await events(temporal, workflow_id)).count(SIGNALED) == 2


async def test_a_signal_to_nobody_is_done(temporal: Client, scope: Scope) -> None:
    await deliver(temporal, signal(scope, f"toy/{scope}/never", 9))


async def test_signal_with_start_is_one_step_and_runs_again_after_the_end(temporal: Client, scope: Scope) -> None:
    workflow_id = f"toy/{scope}/both"
    both = start(scope, workflow_id, kind=OutboxKind.SIGNAL_WITH_START, signal_name="poke", signal_payload={"n": 1})
    await deliver(temporal, both)
    assert SIGNALED in await events(temporal, workflow_id)
    handle = temporal.get_workflow_handle(workflow_id)
    first = await handle.describe()
    await handle.terminate()
    await deliver(temporal, both)
    again = await handle.describe()
    assert again.status is WorkflowExecutionStatus.RUNNING and again.run_id != first.run_id
    assert SIGNALED in await events(temporal, workflow_id)


async def test_a_command_starts_its_workflow_inline(temporal: Client, edge: Edge) -> None:
    async def connect() -> Client:
        return temporal

    app = create_app(edge.settings, temporal=connect)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        inline = Edge(app, http, edge.owner_url, edge.scope, edge.settings)
        add_toys(inline)
        answer = await inline.toy(edge.user(), "inline", kind="start")
        assert (await http.get("/readyz")).json()["temporal"] == "up"
    workflow_id = f"toy/{edge.scope}/{answer.json()['data']['id']}"
    described = await temporal.get_workflow_handle(workflow_id).describe()
    assert described.typed_search_attributes.get(visibility.TENANT) == str(edge.scope.tenant_id)
    assert edge.count("outbox", "order_key = %s and delivered_at is not null", workflow_id) == 1


async def test_what_a_dead_api_left_the_relay_delivers(temporal: Client, edge: Edge) -> None:
    """The toy app has no Temporal at all: as if it died between commit and delivery, 20 times."""
    user = edge.user()
    answers = [await edge.toy(user, f"left-{n}", kind="start") for n in range(20)]
    assert {answer.status_code for answer in answers} == {202}
    database = Database(role_url(edge.owner_url, "chama_relay"), name="relay test", max_size=3)
    await database.open()
    stop = asyncio.Event()

    async def connect() -> Client:
        return temporal

    relay = asyncio.create_task(run_relay(database, connect, stop))
    ids = [f"toy/{edge.scope}/{answer.json()['data']['id']}" for answer in answers]
    async with asyncio.timeout(20):
        while edge.count("outbox", "order_key = any(%s) and delivered_at is null", ids):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    stop.set()
    await relay
    await database.close()
    for workflow_id in ids:
        assert (await temporal.get_workflow_handle(workflow_id).describe()).status is WorkflowExecutionStatus.RUNNING


async def test_the_api_starts_and_accepts_without_temporal(edge: Edge) -> None:
    app = create_app(edge_settings(edge.owner_url), temporal=no_temporal)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        other = Edge(app, http, edge.owner_url, edge.scope, edge.settings)
        add_toys(other)
        for n in range(5):
            assert (await other.toy(edge.user(), f"down-{n}", kind="start")).status_code == 202
