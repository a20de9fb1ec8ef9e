"""The limits a run of ours keeps (RELIABILITY D3, D4), noticed where they are crossed.

Temporal's own limits are much higher, and some of them are traps: a workflow task that asks for one pending activity or
one kilobyte too many fails for ever, with the workflow shown as running. So we stay far below, and find out early:

* a run's history: 4,000 events and 2 MB, seen at every activity, child, signal and update;
* activities and children under way: 500 of each;
* one payload, before encryption: 256 kB, whoever sends it (client, workflow or activity);
* workflow and activity ids: 200 characters.

Enforcing (`CHAMA_WORKFLOW_LIMITS=raise`, as every test does), the guard raises an ApplicationError of the type
`limit_exceeded`, non-retryable: the workflow or the call fails at once, by name. Reporting, it logs a warning and counts
`chama_limit_exceeded`: in production a process that is too long had better go on, and be looked at.
"""

from typing import Any, Final

import structlog
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    HandleSignalInput,
    HandleUpdateInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker import Interceptor as WorkerInterceptor

log = structlog.get_logger(__name__)

EVENTS_MAX: Final = 4_000
HISTORY_BYTES_MAX: Final = 2_000_000
PENDING_MAX: Final = 500
PAYLOAD_BYTES_MAX: Final = 256_000
ID_CHARS_MAX: Final = 200
EXCEEDED: Final = "limit_exceeded"
"""The type of the error."""


def exceeded(limit: str, found: int, most: int, *, enforce: bool) -> None:
    """One limit was crossed: raise, or (outside of replays) tell. `limit` is a short code; no ids, no contents."""
    if enforce:
        raise ApplicationError(f"{limit}: {found}, at most {most}", type=EXCEEDED, non_retryable=True)
    if not workflow.in_workflow():
        log.warning("limit.exceeded", limit=limit, found=found, most=most)
    elif not workflow.unsafe.is_replaying():
        workflow.metric_meter().create_counter("chama_limit_exceeded").add(1, {"limit": limit})
        workflow.logger.warning("limit exceeded: %s: %s, at most %s", limit, found, most)


class ReportedPayloads(PydanticPayloadConverter):
    """Pydantic's converter, which also weighs what it makes. Inside a workflow it runs as part of the command's call, so
    an error is the workflow's own instead of a task that fails for ever."""

    enforce = False

    def to_payloads(self, values: Any) -> list[Payload]:
        """Values to payloads."""
        made = super().to_payloads(values)
        for payload in made:
            size = payload.ByteSize()
            if size > PAYLOAD_BYTES_MAX:
                exceeded("payload_bytes", size, PAYLOAD_BYTES_MAX, enforce=self.enforce)
        return made


class EnforcedPayloads(ReportedPayloads):
    """The same, and raises."""

    enforce = True


def payload_converter(*, enforce: bool) -> type[PayloadConverter]:
    """The converter class that goes with the guard."""
    return EnforcedPayloads if enforce else ReportedPayloads


class LimitsGuard(ClientInterceptor, WorkerInterceptor):
    """Counts at the border between workflow code and the SDK; on the client it checks the ids of starts."""

    def __init__(self, *, enforce: bool) -> None:
        self._enforce = enforce

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Wrap the client's calls."""
        return _Client(next, self._enforce)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Wrap every workflow."""
        return _Enforcing if self._enforce else _Reporting


def _check_id(limit: str, value: str | None, *, enforce: bool) -> None:
    if value is not None and len(value) > ID_CHARS_MAX:
        exceeded(limit, len(value), ID_CHARS_MAX, enforce=enforce)


class _Client(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, enforce: bool) -> None:
        super().__init__(next)
        self._enforce = enforce

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        _check_id("workflow_id_chars", input.id, enforce=self._enforce)
        return await super().start_workflow(input)


class _Reporting(WorkflowInboundInterceptor):
    enforce = False

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._history = _History(self.enforce)
        super().init(_Outbound(outbound, self._history))

    async def handle_signal(self, input: HandleSignalInput) -> None:
        self._history.check()
        await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        self._history.check()
        return await super().handle_update_handler(input)


class _Enforcing(_Reporting):
    enforce = True


class _History:
    """The length and size of this run so far; told once a run when it only reports."""

    def __init__(self, enforce: bool) -> None:
        self.enforce = enforce
        self._told = set[str]()

    def check(self) -> None:
        info = workflow.info()
        self._most("history_events", info.get_current_history_length(), EVENTS_MAX)
        self._most("history_bytes", info.get_current_history_size(), HISTORY_BYTES_MAX)

    def _most(self, limit: str, found: int, most: int) -> None:
        if found > most and limit not in self._told:
            self._told.add(limit)
            exceeded(limit, found, most, enforce=self.enforce)


class _Pending:
    """What of one kind is under way. Finished handles are let go only when the number would matter."""

    def __init__(self, limit: str, enforce: bool) -> None:
        self._limit, self._enforce = limit, enforce
        self._handles: list[Any] = []
        self.starting = 0

    def one_more(self) -> None:
        """Raises or tells when one more is too many."""
        if len(self._handles) + self.starting >= PENDING_MAX:
            self._handles = [handle for handle in self._handles if not handle.done()]
            found = len(self._handles) + self.starting + 1
            if found > PENDING_MAX:
                exceeded(self._limit, found, PENDING_MAX, enforce=self._enforce)

    def add(self, handle: Any) -> None:
        self._handles.append(handle)


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, history: _History) -> None:
        super().__init__(next)
        self._history, self._enforce = history, history.enforce
        self._activities = _Pending("pending_activities", self._enforce)
        self._children = _Pending("pending_children", self._enforce)

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        self._history.check()
        _check_id("activity_id_chars", input.activity_id, enforce=self._enforce)
        self._activities.one_more()
        handle = super().start_activity(input)
        self._activities.add(handle)
        return handle

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        self._history.check()
        return super().start_local_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        self._history.check()
        _check_id("workflow_id_chars", input.id, enforce=self._enforce)
        self._children.one_more()
        self._children.starting += 1
        try:
            handle = await super().start_child_workflow(input)
        finally:
            self._children.starting -= 1
        self._children.add(handle)
        return handle
