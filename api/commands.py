"""The one way to change anything over HTTP (DESIGN §2.2): check the key, run the handler, keep the answer; one
transaction. Then hand the handler's messages to Temporal, quickly or not at all: the relay has them.

    same key, same request      the first answer again, with `Idempotent-Replayed: true`
                                (after 72 hours: 409 already_done, or what the first made as it is now)
    same key, other request     422 idempotency_key_reused
    same key, still running     409 request_in_flight
    no key                      400 idempotency_key_missing

A handler that raises leaves nothing behind: no row, no key, no message.
"""

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
import structlog
from fastapi import Request
from psycopg.errors import DeadlockDetected, SerializationFailure, UniqueViolation
from psycopg_pool import PoolTimeout
from pydantic import BaseModel
from starlette.responses import JSONResponse
from temporalio.service import RPCError

from api.auth import Principal
from api.envelope import envelope
from api.errors import request_id_of
from contracts import visibility
from contracts.base import Message, Scope
from contracts.ids import derive_id
from contracts.outbox import OutboxKind, OutboxMessage
from domain.errors import AlreadyDone, BadRequest, Conflict, InvalidRequest
from infra.database import Database, Tx
from infra.delivery import TemporalDown, TemporalLink, deliver
from models import command, outbox, timeline

log = structlog.get_logger(__name__)

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_TRIES: Final = 5
_INLINE_SECONDS: Final = 2
_SWEEP_ONE_IN: Final = 100
_SWEEP_ROWS: Final = 500
"""One command in a hundred also drops up to so many answers of its tenant whose 72 hours are over."""
_GRACE: Final = timedelta(seconds=3)
"""The relay leaves a fresh message to its own request for so long: longer than the inline attempt may take."""


@dataclass(frozen=True)
class Reply:
    """What a handler answers: 200, 201 or 202, and the thing."""

    status: int
    data: dict[str, Any] | BaseModel


@dataclass
class Unit:
    """One command at work. All of it commits together, or none. `as_of` is the business time of the command."""

    tx: Tx
    scope: Scope
    principal: Principal
    operation: str
    key: str
    request_hash: str
    request_id: str
    as_of: datetime
    messages: list[OutboxMessage] = field(default_factory=list)
    blocked: bool = False
    """Whether an older message of the same order key still waits: then the relay must deliver, in order."""
    made_ids: bool = False
    """Whether `new_id` was asked: then a row that is there already is this request's own, from long ago."""

    def new_id(self, prefix: str) -> str:
        """The id of what this command creates: derived from its key and its request.

        A repeat finds the first for ever; another request under a key that is forgotten finds nothing.
        """
        self.made_ids = True
        return derive_id(prefix, self.scope, self.principal.user_id, self.operation, self.key, self.request_hash)

    async def audit(self, action: str, entity: str, entity_id: str, **detail: Any) -> None:
        """Append to the audit log."""
        await command.audit(
            self.tx,
            self.scope,
            actor=self.principal.user_id,
            action=action,
            entity=entity,
            entity_id=entity_id,
            request_id=self.request_id,
            detail=detail,
        )

    async def timeline(self, entity_id: str, event: str, **detail: Any) -> None:
        """Append to the entity's timeline, at business time."""
        await timeline.record(self.tx, self.scope, [entity_id], event, self.as_of, detail)

    async def start(
        self,
        workflow_type: str,
        workflow_id: str,
        input: Message,
        *,
        task_queue: str = visibility.TaskQueue.MAIN,
        search_attributes: Mapping[str, str | datetime] | None = None,
        summary: str = "",
    ) -> None:
        """Start a workflow once the command has committed; one that runs or ran under that id is left alone."""
        await self._enqueue(
            OutboxKind.START,
            workflow_id,
            workflow_type=workflow_type,
            task_queue=str(task_queue),
            payload=input.model_dump(mode="json"),
            search_attributes=self._attributes(search_attributes),
            static_summary=summary,
        )

    async def signal(self, workflow_id: str, signal_name: str, arg: Message | None = None) -> None:
        """Signal a workflow once the command has committed; one that has ended has nothing left to hear."""
        await self._enqueue(OutboxKind.SIGNAL, workflow_id, signal_name=signal_name, signal_payload=_dump(arg))

    async def signal_with_start(
        self,
        workflow_type: str,
        workflow_id: str,
        input: Message,
        signal_name: str,
        arg: Message | None = None,
        *,
        task_queue: str = visibility.TaskQueue.MAIN,
        search_attributes: Mapping[str, str | datetime] | None = None,
        summary: str = "",
    ) -> None:
        """Signal, and start the workflow first if it never ran: one step on the server."""
        await self._enqueue(
            OutboxKind.SIGNAL_WITH_START,
            workflow_id,
            workflow_type=workflow_type,
            task_queue=str(task_queue),
            payload=input.model_dump(mode="json"),
            signal_name=signal_name,
            signal_payload=_dump(arg),
            search_attributes=self._attributes(search_attributes),
            static_summary=summary,
        )

    def _attributes(self, given: Mapping[str, str | datetime] | None) -> dict[str, str]:
        """Tenant and mode always; times as ISO text. An attribute outside the registry fails here, not at delivery."""
        values: dict[str, str | datetime] = {
            visibility.TENANT.name: str(self.scope.tenant_id),
            visibility.MODE.name: str(self.scope.mode),
            **(given or {}),
        }
        visibility.typed(values)
        return {
            name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in values.items()
        }

    async def _enqueue(self, kind: OutboxKind, workflow_id: str, **fields: Any) -> None:
        message = OutboxMessage(
            id=0,
            scope=self.scope,
            order_key=workflow_id,
            kind=kind,
            workflow_id=workflow_id,
            request_id=self.request_id,
            **fields,
        )
        row_id = await outbox.enqueue(self.tx, message, grace=_GRACE)
        if not any(earlier.order_key == workflow_id for earlier in self.messages):
            self.blocked |= not await outbox.is_first(self.tx, workflow_id, row_id)
        self.messages.append(message.model_copy(update={"id": row_id}))


Handler = Callable[[Unit], Awaitable[Reply]]
"""Runs inside the transaction; may run again from the start after a deadlock, so it keeps no state outside."""


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    replayed: bool
    messages: tuple[OutboxMessage, ...] = ()


class _Rendered(JSONResponse):
    """An answer whose JSON text is ready: the replay is the first answer to the byte."""

    def render(self, content: bytes) -> bytes:
        """The text as it is."""
        return content


@dataclass(frozen=True)
class _Command:
    """One request to change something, before it has run."""

    principal: Principal
    operation: str
    key: str
    keyed: bool
    body_hash: str
    id_hash: str
    request_id: str
    business_now: Callable[[Tx], Awaitable[datetime]]


async def execute(
    request: Request,
    principal: Principal,
    operation: str,
    body: BaseModel | None,
    handler: Handler,
    *,
    key_required: bool = True,
    database: Database | None = None,
) -> JSONResponse:
    """Run a command once per key and answer it as often as asked (the module's docstring has the rules).

    `operation` names the endpoint; key, principal, tenant and mode make the rest of the identity. `database` is another
    role's pool than the app's (sign-up). Raises what the handler raises.
    """
    state = request.app.state
    key = _read_key(request, required=key_required)
    task = _Command(
        principal,
        operation,
        key or f"once-{uuid4().hex}",
        key is not None,
        _body_hash(operation, request.path_params, body),
        _body_hash(operation, request.path_params, body, defaults=False),
        request_id_of(request),
        state.business_now,
    )
    pool: Database = database or state.database
    answer = await _run_with_retries(pool, task, handler)
    await _deliver_inline(pool, state.temporal, principal.scope, answer.messages)
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
    return _Rendered(answer.body, answer.status, headers)


async def run_unit(
    request: Request, scope: Scope, actor: str, operation: str, work: Callable[[Unit], Awaitable[None]]
) -> None:
    """One transaction with its messages, for a caller that has no key of its own (a provider's webhook).

    `work` must be idempotent by what it stores.
    """
    state = request.app.state
    pool: Database = state.database
    async with pool.transaction(scope) as tx:
        as_of = await state.business_now(tx)
        unit = Unit(tx, scope, Principal(actor, None, scope), operation, "", "", request_id_of(request), as_of)
        await work(unit)
    await _deliver_inline(pool, state.temporal, scope, () if unit.blocked else tuple(unit.messages))


async def _run_with_retries(pool: Database, task: _Command, handler: Handler) -> _Answer:
    """Deadlocks and serialization failures are nobody's fault: again, after a random pause."""
    for attempt in range(1, _TRIES + 1):
        try:
            async with pool.transaction(task.principal.scope) as tx:
                return await _run(tx, task, handler)
        except (SerializationFailure, DeadlockDetected):
            if attempt == _TRIES:
                raise
            await asyncio.sleep(secrets.randbelow(20 * 2**attempt) / 1000)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _run(tx: Tx, task: _Command, handler: Handler) -> _Answer:
    scope, who = task.principal.scope, task.principal.user_id
    if task.keyed:
        if not await command.try_lock(tx, scope, who, task.operation, task.key):
            raise _in_flight()
        known = await command.find_answer(tx, who, task.operation, task.key)
        if known is not None:
            if known["body_hash"] != task.body_hash:
                raise InvalidRequest("idempotency_key_reused", "This Idempotency-Key was used for another request.")
            return _Answer(known["response_status"], known["response_body"].encode(), replayed=True)
    as_of = await task.business_now(tx)
    unit = Unit(tx, scope, task.principal, task.operation, task.key, task.id_hash, task.request_id, as_of)
    try:
        reply = await handler(unit)
    except UniqueViolation as error:
        if unit.made_ids and str(error.diag.constraint_name).endswith("_pkey"):
            raise AlreadyDone from error
        raise
    body = json.dumps(
        envelope(task.request_id, reply.data), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()
    if task.keyed:
        stored = await command.store_answer(
            tx,
            scope,
            principal=who,
            operation=task.operation,
            key=task.key,
            body_hash=task.body_hash,
            status=reply.status,
            body=body,
        )
        if not stored:
            raise _in_flight()
        if secrets.randbelow(_SWEEP_ONE_IN) == 0:
            await command.forget_expired(tx, _SWEEP_ROWS)
    return _Answer(reply.status, body, replayed=False, messages=() if unit.blocked else tuple(unit.messages))


async def _deliver_inline(
    pool: Database, link: TemporalLink, scope: Scope, messages: tuple[OutboxMessage, ...]
) -> None:
    """Try each message once, in order, for two seconds in all. Never fails the request: it has committed."""
    if not messages or link.paused:
        return
    delivered: list[int] = []
    failure: Exception | None = None
    try:
        async with asyncio.timeout(_INLINE_SECONDS):
            client = await link.client()
            for message in messages:
                await deliver(client, message)
                delivered.append(message.id)
    except (TemporalDown, TimeoutError, RPCError) as error:
        failure = error
        if not isinstance(error, RPCError):
            link.failed()
    try:
        async with pool.transaction(scope) as tx:
            await outbox.mark_delivered(tx, delivered)
            if failure is not None:
                failed = messages[len(delivered)]
                log.info("outbox.left_to_relay", outbox_id=failed.id, reason=type(failure).__name__)
                reason = type(failure).__name__
                await outbox.release(tx, failed.id, reason, outbox.backoff(0), count_attempt=True)
    except (psycopg.OperationalError, PoolTimeout) as error:
        log.warning("outbox.not_marked", exc_info=error)


def _dump(message: Message | None) -> dict[str, Any] | None:
    return None if message is None else message.model_dump(mode="json")


def _in_flight() -> Conflict:
    return Conflict("request_in_flight", "A request with this Idempotency-Key is still running. Try again shortly.")


def _read_key(request: Request, *, required: bool) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if not given:
        if required:
            raise BadRequest("idempotency_key_missing", "This request needs an Idempotency-Key header.")
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        text = "The Idempotency-Key header must be one value of 1 to 255 visible ASCII characters."
        raise BadRequest("idempotency_key_malformed", text)
    return given[0]


def _body_hash(operation: str, path_params: Mapping[str, Any], body: BaseModel | None, *, defaults: bool = True) -> str:
    """SHA-256 of the canonical JSON of the validated request. Secret fields count as stars: no hash of a password.

    Without `defaults`, fields that are as they are unless said otherwise do not count: a release that adds one changes no id.
    """
    content = {
        "operation": operation,
        "path": {name: str(value) for name, value in path_params.items()},
        "body": None if body is None else body.model_dump(mode="json", exclude_defaults=not defaults),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
