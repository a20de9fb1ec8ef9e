"""Hands one outbox message to Temporal, any number of times with one effect.

Used by the request that wrote the message (inline, for speed) and by the relay (for certainty); both may deliver the
same message, so every kind is idempotent: a start by workflow id, a signal by Temporal's request id.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from contracts.outbox import OutboxKind, OutboxMessage
from contracts.visibility import typed

log = structlog.get_logger(__name__)

ClientFactory = Callable[[], Awaitable[Client]]
"""Connects to Temporal; raises while it is down."""

_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
"""How a server that is down, or going down, shows itself."""

_RPC_SECONDS = 5
"""For one message, repeats included: the SDK alone would go on for ten seconds while the server is down."""
_RPC_TIMEOUT = timedelta(seconds=_RPC_SECONDS)


class TemporalDown(Exception):
    """Temporal does not answer: nothing is wrong with the message, try any message later."""


class TemporalLink:
    """One shared client, connected when first needed. The client itself survives restarts of the server.

    After a failure the link stays open for `pause_seconds`: callers are refused at once instead of each waiting for
    its own timeout, so requests stay quick while Temporal is down.
    """

    def __init__(self, connect: ClientFactory, *, pause_seconds: int = 2) -> None:
        self._connect, self._pause_seconds = connect, pause_seconds
        self._client: Client | None = None
        self._lock = asyncio.Lock()
        self._down_until = time.monotonic()

    @property
    def paused(self) -> bool:
        """Whether a failure was seen moments ago."""
        return time.monotonic() < self._down_until

    def failed(self) -> None:
        """Tell the link that a call found Temporal down."""
        self._down_until = time.monotonic() + self._pause_seconds

    async def client(self) -> Client:
        """The connected client. Raises TemporalDown when it cannot be had now."""
        if self._client is None:
            async with self._lock:
                if self._client is None:
                    self._client = await self._open()
        return self._client

    async def _open(self) -> Client:
        if self.paused:
            raise TemporalDown("connection refused moments ago")
        try:
            return await asyncio.wait_for(self._connect(), _RPC_SECONDS)
        except (RuntimeError, OSError, TimeoutError, RPCError) as error:
            self.failed()
            raise TemporalDown(type(error).__name__) from error


async def deliver(client: Client, message: OutboxMessage) -> None:
    """Start or signal as `message` says. Returns when Temporal has it, now or from an earlier delivery.

    Raises TemporalDown when the server cannot be reached, RPCError when it refuses this very message.
    """
    try:
        with structlog.contextvars.bound_contextvars(request_id=message.request_id):
            async with asyncio.timeout(_RPC_SECONDS):
                await (_signal if message.kind is OutboxKind.SIGNAL else _start)(client, message)
    except TimeoutError as error:
        raise TemporalDown("no answer in time") from error
    except RPCError as error:
        if error.status in _AWAY:
            raise TemporalDown(error.status.name) from error
        raise


async def _start(client: Client, message: OutboxMessage) -> None:
    """Start, with the signal in the same server transaction if there is one.

    A plain start never makes a second run: a running workflow is success (USE_EXISTING), a finished one too. A start that
    carries a signal does run again after the end, because the signal says there is something new to do; such workflows
    begin by reading where their rows stand. The signal may arrive twice after a lost answer, as every signal may.
    """
    assert message.workflow_type and message.task_queue
    with_signal = message.kind is OutboxKind.SIGNAL_WITH_START
    reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if with_signal else WorkflowIDReusePolicy.REJECT_DUPLICATE
    try:
        await client.start_workflow(
            message.workflow_type,
            args=[] if message.payload is None else [message.payload],
            id=message.workflow_id,
            task_queue=message.task_queue,
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=typed(message.search_attributes),
            static_summary=message.static_summary or None,
            start_signal=message.signal_name if with_signal else None,
            start_signal_args=[message.signal_payload] if with_signal and message.signal_payload is not None else [],
            rpc_timeout=_RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        log.debug("outbox.already_started", workflow_id=message.workflow_id)


async def _signal(client: Client, message: OutboxMessage) -> None:
    """Signal under the row's own request id, which the SDK's handle cannot set; the server drops repeats by it.

    A workflow that has ended (or never was) has nothing left to hear: logged, and done.
    """
    assert message.signal_name
    request = SignalWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=message.workflow_id),
        signal_name=message.signal_name,
        identity=client.identity,
        request_id=f"outbox-{message.id}",
    )
    if message.signal_payload is not None:
        request.input.payloads.extend(await client.data_converter.encode([message.signal_payload]))
    try:
        await client.workflow_service.signal_workflow_execution(request, retry=False, timeout=_RPC_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND or _namespace_missing(error):
            raise
        log.info("outbox.signal_without_workflow", workflow_id=message.workflow_id, signal=message.signal_name)


def _namespace_missing(error: RPCError) -> bool:
    """Whether "not found" is about the namespace (a server half set up), which says nothing about the workflow."""
    details = error.grpc_status.details
    return bool(details) and details[0].Is(NamespaceNotFoundFailure.DESCRIPTOR)
