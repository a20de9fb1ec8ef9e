"""What Temporal knows about running workflows: who runs, and what each of them is waiting for. Reads only.

Lists come from visibility, which is eventually consistent; what a workflow waits for comes from the server's own state.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState, PendingWorkflowTaskState, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryReverseRequest,
)
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.base import Scope
from contracts.visibility import ENTITY, MODE, NEXT_ACTION_AT, TENANT
from infra.crypto import CryptoError

_PROBLEMS: Final = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
"""Set by the server itself when a workflow's tasks fail one after the other (and unset when one succeeds): see
`system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute` in its dynamic configuration."""
_PAGE: Final = 200
_RPC: Final = timedelta(seconds=5)
_TAIL_EVENTS: Final = 5
_YOUNG: Final = timedelta(seconds=20)
"""Nothing but a failing task can be wrong with a workflow so soon, and most are over by then."""
_CODES_ONLY: Final = "rail_not_sent"
"""Failures of this type carry a code of ours as their message (activities/errors.py); any other message may name a person."""


@dataclass(frozen=True, slots=True)
class OpenWorkflow:
    """A running workflow as visibility lists it. `tenant_id`, `mode`, `entity` are None when it does not say whose it is."""

    workflow_id: str
    run_id: str
    kind: str
    tenant_id: str | None
    mode: str | None
    entity: str | None
    next_action_at: datetime | None
    started_at: datetime


@dataclass(frozen=True, slots=True)
class PendingTask:
    """A workflow task on offer, or with a worker (`taken`). `failed_with`: why an earlier attempt failed, if one did."""

    attempt: int
    taken: bool
    since: datetime
    failed_with: str | None


@dataclass(frozen=True, slots=True)
class PendingActivity:
    """An activity that has not ended. `since`: when it was first wanted, or None; `failed_with`: why its last try failed."""

    name: str
    attempt: int
    taken: bool
    since: datetime | None
    start_to_close: timedelta
    heartbeat: timedelta
    failed_with: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one workflow waits for."""

    task: PendingTask | None
    activities: tuple[PendingActivity, ...]


async def open_workflows(
    client: Client, scope: Scope | None, *, now: datetime, limit: int
) -> AsyncIterator[OpenWorkflow]:
    """Running workflows (of `scope`, or all of the namespace), at most `limit`, each once, the suspicious first.

    First those whose tasks the server reports as failing, then those whose next action is past, then those that have none,
    then those that wait for a time to come. A list cut short therefore leaves out what has the best excuse.
    """
    mine = f" AND {TENANT.name} = '{scope.tenant_id}' AND {MODE.name} = '{scope.mode}'" if scope else ""
    instant, old = _text(now), f" AND StartTime < '{_text(now - _YOUNG)}'"
    groups = (
        f"{_PROBLEMS.name} IS NOT NULL",
        f"{NEXT_ACTION_AT.name} < '{instant}'{old}",
        f"{NEXT_ACTION_AT.name} IS NULL{old}",
        f"{NEXT_ACTION_AT.name} >= '{instant}'{old}",
    )
    seen: set[str] = set()
    for group in groups:
        query = f"ExecutionStatus = 'Running'{mine} AND {group}"
        async for each in client.list_workflows(query, page_size=_PAGE, rpc_timeout=_RPC):
            if each.run_id in seen:
                continue
            if len(seen) >= limit:
                return
            seen.add(each.run_id)
            says = each.typed_search_attributes
            yield OpenWorkflow(
                workflow_id=each.id,
                run_id=each.run_id,
                kind=each.workflow_type,
                tenant_id=says.get(TENANT),
                mode=says.get(MODE),
                entity=says.get(ENTITY),
                next_action_at=says.get(NEXT_ACTION_AT),
                started_at=each.start_time,
            )


async def waiting_for(client: Client, workflow: OpenWorkflow, *, failing: int) -> Waiting | None:
    """What the workflow waits for; None when it has ended meanwhile.

    Why its task fails is read from its history's tail once the task's attempt is later than `failing`. Raises RPCError.
    """
    execution = WorkflowExecution(workflow_id=workflow.workflow_id, run_id=workflow.run_id)
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
    try:
        seen = await client.workflow_service.describe_workflow_execution(request, timeout=_RPC)
        task = seen.pending_workflow_task if seen.HasField("pending_workflow_task") else None
        cause = await _cause(client, execution) if task and task.attempt > failing else None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    activities = await asyncio.gather(*(_activity(client, each) for each in seen.pending_activities))
    return Waiting(_task(task, cause) if task else None, tuple(activities))


async def _cause(client: Client, execution: WorkflowExecution) -> str | None:
    """Why the workflow's newest task failed. Only the first of a row of failures is an event; it is at the end."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace, execution=execution, maximum_page_size=_TAIL_EVENTS
    )
    tail = await client.workflow_service.get_workflow_execution_history_reverse(request, timeout=_RPC)
    for event in tail.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            return "timed_out"
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            name = WorkflowTaskFailedCause.Name(event.workflow_task_failed_event_attributes.cause)
            return re.sub("^WORKFLOW_TASK_FAILED_CAUSE_(WORKFLOW_WORKER_)?", "", name).lower()
    return None


def _task(task: PendingWorkflowTaskInfo, cause: str | None) -> PendingTask:
    return PendingTask(
        attempt=task.attempt,
        taken=task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED,
        since=_moment(task.original_scheduled_time) or _moment(task.scheduled_time) or datetime.now(UTC),
        failed_with=cause,
    )


async def _activity(client: Client, info: PendingActivityInfo) -> PendingActivity:
    options = info.activity_options
    expires, lifetime = _moment(info.expiration_time), _span(options.schedule_to_close_timeout)
    first = expires - lifetime if expires and lifetime else _moment(info.scheduled_time)
    return PendingActivity(
        name=info.activity_type.name,
        attempt=info.attempt,
        taken=info.state != PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
        since=first,
        start_to_close=_span(options.start_to_close_timeout),
        heartbeat=_span(options.heartbeat_timeout),
        failed_with=await _code(client, info.last_failure) if info.HasField("last_failure") else None,
    )


async def _code(client: Client, failure: Failure) -> str:
    """The kind of failure; of our own "nothing was sent" the code, which is encrypted like every message."""
    if failure.HasField("timeout_failure_info"):
        return "timed_out"
    kind = failure.application_failure_info.type
    if kind != _CODES_ONLY:
        return kind or "unhandled_failure"
    copy = Failure()
    copy.CopyFrom(failure)
    try:
        error = await client.data_converter.decode_failure(copy)
    except CryptoError:
        return kind
    return error.message if isinstance(error, ApplicationError) else kind


def _text(instant: datetime) -> str:
    """An instant as a visibility query writes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(stamp: Timestamp) -> datetime | None:
    """A timestamp that was set; the server's zero is none."""
    return stamp.ToDatetime(UTC) if stamp.seconds > 0 else None


def _span(duration: Duration) -> timedelta:
    return duration.ToTimedelta()
