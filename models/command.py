"""What every command leaves behind: its idempotency key with the answer, the audit record, and the outbox's table."""

import json
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from sqlalchemy import JSON, Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from contracts.base import Scope
from infra.database import Tx, fetch_one
from models.base import Scoped

KEEP_KEYS = timedelta(hours=72)
"""How long an answer is replayed; ids derived from the key and its request stay unique for ever."""


class IdempotencyKey(Scoped, table=True):
    """One answered command. `body_hash` tells a repeat from another request under the same key."""

    __tablename__: ClassVar[str] = "idempotency_keys"

    principal: str = Field(primary_key=True)
    operation: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    body_hash: str
    response_status: int
    response_body: dict[str, Any] = Field(sa_column=Column(JSON))
    created_at: datetime
    expires_at: datetime


class AuditRecord(Scoped, table=True):
    """Who did what to which entity, in which request. Append-only."""

    __tablename__: ClassVar[str] = "audit_log"

    id: int = Field(primary_key=True)
    at: datetime
    actor: str
    action: str
    entity: str
    entity_id: str
    request_id: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB))


class OutboxRow(SQLModel, table=True):
    """A message to Temporal (see `models/outbox.py` for its statements)."""

    __tablename__: ClassVar[str] = "outbox"

    id: int = Field(primary_key=True)
    tenant_id: UUID
    mode: str
    order_key: str
    kind: str
    workflow_type: str | None = None
    workflow_id: str
    task_queue: str | None = None
    signal_name: str | None = None
    payload: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    signal_payload: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    search_attributes: dict[str, Any] = Field(sa_column=Column(JSONB))
    static_summary: str
    request_id: str
    attempts: int
    next_attempt_at: datetime
    last_error: str | None = None
    delivered_at: datetime | None = None
    created_at: datetime


_STORE = """
insert into idempotency_keys
    (tenant_id, mode, principal, operation, key, body_hash, response_status, response_body, expires_at)
values (%(tenant)s, %(mode)s, %(principal)s, %(operation)s, %(key)s, %(hash)s, %(status)s, %(body)s, now() + %(keep)s)
on conflict (tenant_id, mode, principal, operation, key) do update set
    body_hash = excluded.body_hash, response_status = excluded.response_status,
    response_body = excluded.response_body, created_at = now(), expires_at = excluded.expires_at
where idempotency_keys.expires_at <= now()
"""


async def try_lock(tx: Tx, scope: Scope, principal: str, operation: str, key: str) -> bool:
    """Whether this transaction alone works on the key now; never waits. Gone with the transaction."""
    name = "".join(f"{len(part)}:{part}" for part in (str(scope), principal, operation, key))
    row = await fetch_one(tx, "select pg_try_advisory_xact_lock(hashtextextended(%s, 72)) as mine", (name,))
    return row is not None and bool(row["mine"])


async def find_answer(tx: Tx, principal: str, operation: str, key: str) -> DictRow | None:
    """body_hash, response_status and response_body (the JSON text as first sent) of an answered key still kept."""
    return await fetch_one(
        tx,
        """select body_hash, response_status, response_body::text as response_body from idempotency_keys
        where principal = %s and operation = %s and key = %s and expires_at > now()
          and tenant_id = nullif(current_setting('app.tenant', true), '')::uuid
          and mode = current_setting('app.mode', true)""",
        (principal, operation, key),
    )


async def store_answer(
    tx: Tx, scope: Scope, *, principal: str, operation: str, key: str, body_hash: str, status: int, body: bytes
) -> bool:
    """Keep the answer for KEEP_KEYS. False when another transaction stored one meanwhile: this one must not commit."""
    cursor = await tx.execute(
        _STORE,
        {
            "tenant": scope.tenant_id,
            "mode": str(scope.mode),
            "principal": principal,
            "operation": operation,
            "key": key,
            "hash": body_hash,
            "status": status,
            "body": body.decode(),
            "keep": KEEP_KEYS,
        },
    )
    return cursor.rowcount == 1


async def forget_expired(tx: Tx, limit: int = 1000) -> int:
    """Drop up to `limit` answers whose time is over, in this scope; returns how many went."""
    cursor = await tx.execute(
        """delete from idempotency_keys where ctid = any(array(
            select ctid from idempotency_keys where expires_at <= now() limit %s))""",
        (limit,),
    )
    return cursor.rowcount


async def audit(
    tx: Tx,
    scope: Scope,
    *,
    actor: str,
    action: str,
    entity: str,
    entity_id: str,
    request_id: str,
    detail: dict[str, Any],
) -> None:
    """Append one audit record. `detail` holds ids, enums and amounts, no personal data."""
    await tx.execute(
        """insert into audit_log (tenant_id, mode, actor, action, entity, entity_id, request_id, detail)
        values (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (scope.tenant_id, str(scope.mode), actor, action, entity, entity_id, request_id, _jsonb(detail)),
    )


def _jsonb(detail: dict[str, Any]) -> Jsonb:
    return Jsonb(detail, dumps=lambda value: json.dumps(value, default=str))
