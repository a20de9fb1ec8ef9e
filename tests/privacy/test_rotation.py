"""Payload keys rotate under running processes; what the right key is missing for stands still, unharmed (RELIABILITY F5)."""

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from cli.stack.stack import Stack
from infra.settings import Settings
from infra.temporal import connect
from tests.fixtures.replay import replay_all, replayer
from tests.fixtures.stage import Stage
from tests.privacy.rotating import Rotating

FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


def new_key() -> SecretStr:
    return SecretStr(base64.b64encode(os.urandom(32)).decode())


def rotated(settings: Settings) -> Settings:
    """The new key encrypts, the old one still reads."""
    keys = {**settings.payload_keys, "next": new_key()}
    return settings.model_copy(update={"payload_keys": keys, "payload_key": "next"})


def without_old(settings: Settings) -> Settings:
    return settings.model_copy(update={"payload_keys": {"next": settings.payload_keys["next"]}})


def with_wrong_old(settings: Settings) -> Settings:
    return settings.model_copy(update={"payload_keys": {**settings.payload_keys, "local": new_key()}})


def worker(client: Client, queue: str) -> Worker:
    return Worker(client, task_queue=queue, workflows=[Rotating], max_cached_workflows=0)


def key_id(payload: Payload) -> str:
    return payload.metadata["encryption-key-id"].decode()


async def history(handle: WorkflowHandle[Rotating, list[str]]) -> list[HistoryEvent]:
    return [event async for event in handle.fetch_history_events()]


async def until(good: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(600):
        if await good():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("waited a minute")


async def test_a_process_lives_through_a_rotation(talkative: Stack) -> None:
    old = talkative.settings
    both = rotated(old)
    before, after = await connect(old), await connect(both)
    queue, name = f"rotation-{uuid4().hex}", f"rotating-{uuid4().hex}"

    async with worker(before, queue):
        handle = await before.start_workflow(Rotating.run, "begun under the old key", id=name, task_queue=queue)
        await handle.signal(Rotating.say, "old")
        await until(lambda: has(handle, COMPLETED))
    await after.get_workflow_handle(name).signal("say", "new")
    async with worker(await connect(without_old(both)), queue):
        await until(lambda: has(handle, FAILED))
    async with worker(after, queue):
        result = await after.get_workflow_handle_for(Rotating.run, name).result()
    assert result == ["begun under the old key", "old", "new"]

    events = await history(handle)
    started = events[0].workflow_execution_started_event_attributes.input.payloads
    signals = [event.workflow_execution_signaled_event_attributes.input.payloads for event in events if
               event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]  # fmt: skip
    ended = events[-1].workflow_execution_completed_event_attributes.result.payloads
    assert [key_id(each[0]) for each in (started, *signals, ended)] == ["local", "local", "next", "next"]

    recorded = await handle.fetch_history()
    await replayer(both, [Rotating]).replay_workflow(recorded)
    for wrong in (without_old(both), with_wrong_old(both)):
        with pytest.raises(Exception, match=r"completion failed.*Encoded failure"):
            await replayer(wrong, [Rotating]).replay_workflow(recorded)


async def has(handle: WorkflowHandle[Rotating, list[str]], kind: EventType.ValueType) -> bool:
    return any(event.event_type == kind for event in await history(handle))


async def test_histories_of_money_replay_after_a_rotation(observed: Stage, decrypting: Client) -> None:
    """Real processes, recorded under the old key, on today's code with the new one."""
    ada = await observed.person()
    await observed.deposit(ada, 70_000)
    both = rotated(observed.stack.settings)
    scope = observed.seeded.scope
    assert await replay_all(decrypting, both, scope, expected=observed.workflow_ids) >= 1
    with pytest.raises(AssertionError, match="does not replay"):
        await replay_all(decrypting, without_old(both), scope, expected=observed.workflow_ids)
