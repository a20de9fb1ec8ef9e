"""A run that grows beyond our limits fails at once and by name, instead of standing still for ever (RELIABILITY D3, D4)."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError
from temporalio.worker import Worker

from infra import limits_guard
from infra.settings import Settings
from infra.temporal import connect
from tests.fixtures.replay import replayer
from tests.safety.greedy import GreedyWorkflow, Want, give

QUEUE = "greedy"
SHORT_HISTORY = 60


@pytest.fixture(scope="module", autouse=True)
async def worker(client: Client) -> AsyncIterator[None]:
    async with Worker(client, task_queue=QUEUE, workflows=[GreedyWorkflow], activities=[give]):
        yield


async def start(client: Client, kind: str, n: int, **more: str) -> WorkflowHandle[GreedyWorkflow, str]:
    want = Want(kind=kind, n=n, **more)
    return await client.start_workflow(GreedyWorkflow.run, want, id=f"greedy/{secrets.token_hex(8)}", task_queue=QUEUE)


async def refused(handle: WorkflowHandle[GreedyWorkflow, str]) -> str:
    """Which limit the workflow failed at."""
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 60)
    cause = failed.value.cause
    while isinstance(cause, ActivityError | ChildWorkflowError):
        cause = cause.cause  # type: ignore[assignment]
    assert isinstance(cause, ApplicationError) and cause.type == limits_guard.EXCEEDED and cause.non_retryable, cause
    return cause.message.split(":")[0]


BEYOND = {
    "much_history": (12, "history_bytes"),
    "activities_at_once": (limits_guard.PENDING_MAX + 1, "pending_activities"),
    "children_at_once": (limits_guard.PENDING_MAX + 1, "pending_children"),
    "large_input": (limits_guard.PAYLOAD_BYTES_MAX, "payload_bytes"),
    "large_activity_result": (limits_guard.PAYLOAD_BYTES_MAX, "payload_bytes"),
    "large_result": (limits_guard.PAYLOAD_BYTES_MAX, "payload_bytes"),
    "large_child_input": (limits_guard.PAYLOAD_BYTES_MAX, "payload_bytes"),
    "long_child_id": (limits_guard.ID_CHARS_MAX + 1, "workflow_id_chars"),
    "long_activity_id": (limits_guard.ID_CHARS_MAX + 1, "activity_id_chars"),
}


@pytest.mark.parametrize("kind", BEYOND)
async def test_too_much_fails_by_name(client: Client, kind: str) -> None:
    n, limit = BEYOND[kind]
    assert await refused(await start(client, kind, n)) == limit


WITHIN = {
    "waves_of_twenty": 3,
    "large_input": limits_guard.PAYLOAD_BYTES_MAX - 200,
    "large_activity_result": limits_guard.PAYLOAD_BYTES_MAX - 200,
    "large_result": limits_guard.PAYLOAD_BYTES_MAX - 200,
    "long_child_id": limits_guard.ID_CHARS_MAX,
    "long_activity_id": limits_guard.ID_CHARS_MAX,
}


@pytest.mark.parametrize("kind", WITHIN)
async def test_just_enough_goes_through(client: Client, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_guard, "PENDING_MAX", 20)
    assert (await (await start(client, kind, WITHIN[kind])).result())[:4] in ("done", "xxxx")


async def test_a_long_history_fails_at_an_activity(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_guard, "EVENTS_MAX", SHORT_HISTORY)
    assert await refused(await start(client, "one_after_another", SHORT_HISTORY)) == "history_events"


async def test_a_long_history_fails_at_a_signal(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_guard, "EVENTS_MAX", SHORT_HISTORY)
    handle = await start(client, "listens", SHORT_HISTORY * 4)
    for _ in range(SHORT_HISTORY):
        await asyncio.gather(*(handle.signal(GreedyWorkflow.hear, "x") for _ in range(4)), return_exceptions=True)
        if (await handle.describe()).close_time is not None:
            break
    assert await refused(handle) == "history_events"


async def test_a_client_is_told_at_once(client: Client) -> None:
    for want, id in (
        (Want(filler="x" * limits_guard.PAYLOAD_BYTES_MAX), "greedy/large"),
        (Want(), "x" * (limits_guard.ID_CHARS_MAX + 1)),
    ):
        with pytest.raises(ApplicationError, match=r"payload_bytes|workflow_id_chars"):
            await client.start_workflow(GreedyWorkflow.run, want, id=id, task_queue=QUEUE)
    handle = await start(client, "listens", 1)
    with pytest.raises(ApplicationError, match="payload_bytes"):
        await handle.signal(GreedyWorkflow.hear, "x" * limits_guard.PAYLOAD_BYTES_MAX)
    await handle.signal(GreedyWorkflow.hear, "x")
    assert await handle.result() == "done"


async def test_reporting_only_tells(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in production: the process goes on, and its history replays under either setting."""
    monkeypatch.setattr(limits_guard, "EVENTS_MAX", SHORT_HISTORY)
    reporting = settings.model_copy(update={"workflow_limits": "report"})
    client = await connect(reporting)
    async with Worker(client, task_queue="reporting", workflows=[GreedyWorkflow], activities=[give]):
        handle = await client.start_workflow(
            GreedyWorkflow.run,
            Want(kind="one_after_another", n=SHORT_HISTORY, filler="x" * limits_guard.PAYLOAD_BYTES_MAX),
            id="greedy/reporting",
            task_queue="reporting",
        )
        assert await handle.result() == "done"
    told = [record.getMessage() for record in caplog.records if "limit exceeded" in record.getMessage()]
    assert len(told) == 1 and "history_events" in told[0], told
    await replayer(reporting, [GreedyWorkflow]).replay_workflow(await handle.fetch_history())
