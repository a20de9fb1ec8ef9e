"""The inbox of provider webhooks: stored raw and unique before anything is done with them, and the refusals beside it."""

import hashlib
from datetime import datetime
from typing import ClassVar

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field

from contracts.base import Scope
from infra.database import Tx, fetch_one
from models.base import Scoped, read_all

_RECEIVED = ("tenant_id", "mode", "account_id", "provider", "event_id", "kind", "reference", "provider_id", "raw")
_RECEIVE = """
insert into webhook_inbox (tenant_id, mode, account_id, provider, event_id, kind, reference, provider_id, raw, status)
values (%(tenant_id)s, %(mode)s, %(account_id)s, %(provider)s, %(event_id)s, %(kind)s, %(reference)s, %(provider_id)s,
        %(raw)s, 'received')
on conflict do nothing returning id
"""


class InboxEvent(Scoped, table=True):
    """One authentic event. `orphaned`: it names nothing of ours yet, and is tried again until it expires."""

    __tablename__: ClassVar[str] = "webhook_inbox"

    id: int | None = Field(default=None, primary_key=True)
    account_id: str
    provider: str
    event_id: str
    kind: str
    reference: str | None = None
    provider_id: str | None = None
    raw: bytes = Field(sa_column=Column(LargeBinary))
    status: str = "received"
    tries: int = 0
    error_code: str | None = None
    next_attempt_at: datetime | None = None
    received_at: datetime | None = None


async def receive(tx: Tx, event: InboxEvent) -> int | None:
    """Store an event; its row id, or None when this event was stored before."""
    values = event.model_dump(include={*_RECEIVED})
    row = await (await tx.execute(_RECEIVE, values)).fetchone()
    return int(row["id"]) if row else None


async def refuse(tx: Tx, scope: Scope, *, account_id: str, reason: str, raw: bytes) -> None:
    """Keep that something was refused, and its fingerprint; never its contents."""
    await tx.execute(
        """insert into webhook_refusals (tenant_id, mode, account_id, reason, body_sha256, body_bytes)
           values (%s, %s, %s, %s, %s, %s)""",
        (scope.tenant_id, scope.mode, account_id, reason, hashlib.sha256(raw).digest(), len(raw)),
    )


async def due_events(tx: Tx, limit: int) -> list[InboxEvent]:
    """Events that want processing now, oldest first, leased to the caller for five seconds.

    As long as Temporal takes to notice that a caller died: its successor finds them due again.
    """
    return await read_all(
        tx,
        InboxEvent,
        # Not a subquery in the condition: see `models.notification.claim_queued`.
        """with due as materialized (
               select id from webhook_inbox where status in ('received', 'orphaned') and next_attempt_at <= now()
               order by id limit %s for update skip locked),
           leased as (
               update webhook_inbox e set next_attempt_at = now() + interval '5 seconds' from due where e.id = due.id
               returning e.*)
           select * from leased order by id""",
        (limit,),
    )


async def seconds_to_next_event(tx: Tx) -> int | None:
    """How long until the next stored event wants work, rounded up; None when there is none."""
    row = await (
        await tx.execute(
            """select ceil(extract(epoch from min(next_attempt_at) - now()))::int as seconds from webhook_inbox
               where status in ('received', 'orphaned')"""
        )
    ).fetchone()
    return None if row is None or row["seconds"] is None else max(int(row["seconds"]), 0)


async def settle_event(
    tx: Tx, event_row: int, *, status: str, error_code: str | None = None, retry_seconds: int = 0
) -> None:
    """Record what became of an event; `retry_seconds` sets when an orphan is tried again."""
    await tx.execute(
        """update webhook_inbox set status = %s, error_code = %s, tries = tries + 1,
           next_attempt_at = now() + make_interval(secs => %s),
           processed_at = case when %s in ('processed', 'expired', 'failed') then now() end
           where id = %s and status in ('received', 'orphaned')""",
        (status, error_code, retry_seconds, status, event_row),
    )


async def newest_waiting(tx: Tx, reference: str) -> int:
    """The row id of the newest event about an attempt that waits to be answered; 0 where none does."""
    row = await fetch_one(
        tx,
        "select max(id) as id from webhook_inbox where reference = %s and status in ('received', 'orphaned')",
        (reference,),
    )
    return int(row["id"] or 0) if row is not None else 0


async def settle_events_of(tx: Tx, reference: str, provider_id: str | None, newest: int) -> None:
    """Waiting events about an attempt are answered by a look-up, up to the `newest` that waited before it was made: what a
    later one announces the look-up need not have seen. What is about another payment under the reference is left."""
    if newest:
        await tx.execute(
            """update webhook_inbox set status = 'processed', processed_at = now(), tries = tries + 1
               where reference = %s and id <= %s and status in ('received', 'orphaned')
                 and (provider_id = %s) is not false""",
            (reference, newest, provider_id),
        )


async def others_wait(tx: Tx, reference: str, provider_id: str | None) -> bool:
    """Whether events wait that name an attempt's reference, and are about another payment of the provider's."""
    row = await fetch_one(
        tx,
        """select 1 from webhook_inbox
            where reference = %s and provider_id <> %s and status in ('received', 'orphaned') limit 1""",
        (reference, provider_id),
    )
    return row is not None
