"""Golden histories: real runs, kept in the repository in clear, that today's workflow code must be able to replay.

One file a workflow type and path, one event a line. They hold ids of made-up people and no secrets; what differs from
machine to machine (worker names, sticky queues, stack traces) is taken out when they are recorded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.history.v1 import History
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

HISTORIES = Path(__file__).with_name("histories")
CONTINUED = "continued"
"""In the name of a path recorded while runs continued as new after `CONTINUED_EVENTS`, so that histories stay short."""
CONTINUED_EVENTS = 60


def kept() -> list[Path]:
    """Every golden history."""
    return sorted(HISTORIES.glob("*/*.json"))


def load(file: Path) -> WorkflowHistory:
    """A golden history as the replayer takes it."""
    return WorkflowHistory.from_json(file.stem, file.read_text())


def save(history: WorkflowHistory, kind: str, path: str) -> Path:
    """Write a history that `in_clear` made; one event a line, so that a change can be read."""
    events = MessageToDict(History(events=history.events))["events"]
    lines = ",\n".join(json.dumps(event, ensure_ascii=False) for event in events)
    file = HISTORIES / kind / f"{path}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'{{"events": [\n{lines}\n]}}\n')
    return file


async def in_clear(history: WorkflowHistory, codec: PayloadCodec) -> WorkflowHistory:
    """The history with its payloads decrypted and without names of machines."""
    events = []
    for event in history.events:
        copy = type(event)()
        copy.CopyFrom(event)
        events.append(copy)
        for message in list(_messages(copy)):
            if isinstance(message, Payload):
                message.CopyFrom((await codec.decode([message]))[0])
                _drop_stack_trace(message)
            elif isinstance(message, TaskQueue) and message.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY:
                message.name = "sticky"
            elif getattr(message, "identity", ""):
                message.identity = "worker"  # type: ignore[attr-defined]
    return WorkflowHistory(history.workflow_id, events)


def _drop_stack_trace(payload: Payload) -> None:
    """A failure's encoded attributes hold the paths of the machine it happened on."""
    if b'"stack_trace"' in payload.data:
        payload.data = json.dumps({**json.loads(payload.data), "stack_trace": ""}).encode()


def _messages(message: Message) -> Iterator[Message]:
    """The message and all below it."""
    yield message
    for _, value in message.ListFields():
        if isinstance(value, Message):
            yield from _messages(value)
        elif hasattr(value, "values"):
            for each in value.values():
                if isinstance(each, Message):
                    yield from _messages(each)
        elif not isinstance(value, str | bytes) and hasattr(value, "__len__"):
            for each in value:
                if isinstance(each, Message):
                    yield from _messages(each)


@dataclass(frozen=True)
class Facts:
    """What a path is recognised by."""

    kind: str
    """The workflow type."""
    input: dict[str, Any]
    result: str = ""
    """The status it ended with; `continued` when it continued as new, `open` while it runs."""
    detail: dict[str, Any] = field(default_factory=dict)
    """The whole result, if it is an object."""
    signals: tuple[str, ...] = ()
    activities: tuple[str, ...] = ()
    timers: int = 0
    is_continuation: bool = False


def facts(history: WorkflowHistory) -> Facts:
    """Read a clear history."""
    started = history.events[0].workflow_execution_started_event_attributes
    last = history.events[-1]
    result: Any = "open"
    if last.HasField("workflow_execution_completed_event_attributes"):
        payloads = last.workflow_execution_completed_event_attributes.result.payloads
        result = json.loads(payloads[0].data) if payloads and payloads[0].data else "done"
    elif last.HasField("workflow_execution_continued_as_new_event_attributes"):
        result = CONTINUED
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    signaled = [event.workflow_execution_signaled_event_attributes for event in history.events]
    return Facts(
        kind=started.workflow_type.name,
        input=json.loads(started.input.payloads[0].data),
        result=str(result.get("status", "done")) if isinstance(result, dict) else str(result),
        detail=result if isinstance(result, dict) else {},
        signals=tuple(each.signal_name for each in signaled if each.signal_name),
        activities=tuple(each.activity_type.name for each in scheduled if each.activity_type.name),
        timers=sum(event.HasField("timer_started_event_attributes") for event in history.events),
        is_continuation=bool(started.continued_execution_run_id),
    )
