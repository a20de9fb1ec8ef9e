"""One correlation id from the HTTP request to the provider: request → outbox → workflow → child → activity → call.

It travels in a Temporal header (never in inputs, so histories replay whatever it says) and stands as `request_id` on
every structured log line on the way. A workflow hands on the header it was started with.
"""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker import Interceptor as WorkerInterceptor

HEADER: Final = "chama-request-id"
_BOUND: Final = "request_id"


def current_id() -> str | None:
    """The request id bound to the present task, if one is."""
    return structlog.contextvars.get_contextvars().get(_BOUND)


def _with_header(headers: Mapping[str, Payload], payload: Payload | None) -> Mapping[str, Payload]:
    return headers if payload is None else {**headers, HEADER: payload}


class Correlation(ClientInterceptor, WorkerInterceptor):
    """Client side: sends the bound id with a start. Worker side: binds it around activities, hands it on in workflows."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Wrap the client's calls."""
        return _Client(next)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap every activity."""
        return _Activity(next)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Wrap every workflow."""
        return _Workflow


class _Client(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        bound = current_id()
        payload = Payload(metadata={"encoding": b"binary/plain"}, data=bound.encode()) if bound else None
        input.headers = _with_header(input.headers, payload)
        return await super().start_workflow(input)


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        found = input.headers.get(HEADER)
        if found is None:
            return await super().execute_activity(input)
        with structlog.contextvars.bound_contextvars(**{_BOUND: found.data.decode(errors="replace")}):
            return await super().execute_activity(input)


class _Workflow(WorkflowInboundInterceptor):
    """Remembers the header of the start; the outbound half copies it onto what the workflow starts."""

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._outbound = _Outbound(outbound)
        super().init(self._outbound)

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        self._outbound.payload = input.headers.get(HEADER)
        return await super().execute_workflow(input)


class _Outbound(WorkflowOutboundInterceptor):
    payload: Payload | None = None

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _with_header(input.headers, self.payload)
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = _with_header(input.headers, self.payload)
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        input.headers = _with_header(input.headers, self.payload)
        super().continue_as_new(input)
