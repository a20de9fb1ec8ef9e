"""The outbox: messages to Temporal, written with the business row and delivered afterwards.

Claiming takes a lease instead of holding a transaction open during the delivery: a relay that dies leaves its rows
to the next one. Plain rows only, so that the relay process stays light; the table is declared in `models/command.py`.
"""

import secrets
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from contracts.base import Scope
from contracts.outbox import OutboxKind, OutboxMessage
from infra.database import Tx

CHANNEL = "outbox"
"""NOTIFY on this channel says that a row is due now."""

STUCK_ATTEMPTS = 5
"""A row not delivered after so many attempts is shown to the operators."""

_BACKOFF_MAX_MS = 60_000
_ERROR_MAX = 300

# The lock makes ids of one key grow in the order of their commits: without it a later id could be delivered first,
# while the transaction that took the earlier one is still open.
_INSERT = """
with turn as materialized (
    select pg_advisory_xact_lock(hashtextextended('outbox/' || %(order_key)s, 0))
)
insert into outbox (tenant_id, mode, order_key, kind, workflow_type, workflow_id, task_queue, signal_name, payload,
    signal_payload, search_attributes, static_summary, request_id, next_attempt_at)
select %(tenant_id)s, %(mode)s, %(order_key)s, %(kind)s, %(workflow_type)s, %(workflow_id)s, %(task_queue)s,
    %(signal_name)s, %(payload)s, %(signal_payload)s, %(search_attributes)s, %(static_summary)s, %(request_id)s,
    now() + case when exists (
        select 1 from outbox earlier where earlier.tenant_id = %(tenant_id)s and earlier.mode = %(mode)s
          and earlier.order_key = %(order_key)s and earlier.delivered_at is null)
    then interval '0' else %(grace)s end
from turn
returning id
"""

# Whoever was waiting behind a delivered row may go now: tell the relay, which would otherwise find out by its poll.
_DELIVERED = """
with done as (
    update outbox set delivered_at = now() where id = any(%(ids)s) and delivered_at is null
    returning tenant_id, mode, order_key
)
select pg_notify(%(channel)s, '') from done where exists (
    select 1 from outbox next where next.tenant_id = done.tenant_id and next.mode = done.mode
      and next.order_key = done.order_key and next.delivered_at is null and next.id <> all(%(ids)s))
limit 1
"""

_EARLIER = """
select 1 from outbox where order_key = %s and id < %s and delivered_at is null limit 1
"""

_CLAIM = """
with due as materialized (
    select id from outbox o
    where delivered_at is null and next_attempt_at <= now()
      and not exists (
        select 1 from outbox earlier
        where earlier.tenant_id = o.tenant_id and earlier.mode = o.mode and earlier.order_key = o.order_key
          and earlier.id < o.id and earlier.delivered_at is null)
    order by next_attempt_at, id
    limit %(limit)s
    for update skip locked
)
update outbox set attempts = attempts + 1, next_attempt_at = now() + %(lease)s
from due where outbox.id = due.id
returning outbox.*, array(
    select later.id from outbox later
    where outbox.signal_name is not null and outbox.signal_payload is null
      and later.tenant_id = outbox.tenant_id and later.mode = outbox.mode and later.order_key = outbox.order_key
      and later.id > outbox.id and later.delivered_at is null
      and later.kind = outbox.kind and later.signal_name = outbox.signal_name and later.signal_payload is null
      and (later.payload - 'as_of') is not distinct from (outbox.payload - 'as_of')
    limit 1000) as covered
"""

_RELEASE = """
update outbox set last_error = %(error)s, next_attempt_at = now() + %(delay)s, attempts = attempts + %(count)s
where id = %(id)s and delivered_at is null
"""


async def enqueue(tx: Tx, message: OutboxMessage, *, grace: timedelta = timedelta(0)) -> int:
    """Write the message (its `id` and `attempts` are ignored); returns its id.

    With a `grace` the relay leaves it alone for so long: the caller promises to deliver it right after the commit. Behind
    an older message of its key it cannot be delivered by the caller, and is the relay's at once.
    """
    values: dict[str, Any] = message.model_dump(exclude={"id", "scope", "attempts"}) | {
        "tenant_id": message.scope.tenant_id,
        "mode": str(message.scope.mode),
        "kind": str(message.kind),
        "grace": grace,
        "payload": None if message.payload is None else Jsonb(message.payload),
        "signal_payload": None if message.signal_payload is None else Jsonb(message.signal_payload),
        "search_attributes": Jsonb(message.search_attributes),
    }
    row = await (await tx.execute(_INSERT, values)).fetchone()
    assert row is not None
    return int(row["id"])


async def is_first(tx: Tx, order_key: str, row_id: int) -> bool:
    """Whether no earlier message of that key still waits (only then may it be delivered inline)."""
    return await (await tx.execute(_EARLIER, (order_key, row_id))).fetchone() is None


class Leased(NamedTuple):
    """A message to deliver. `covered`: ids of later messages that this delivery makes superfluous.

    A signal without a payload says "look at the rows" (ADR 0015), so one that is sent after others of its kind were
    committed says it for them too: a backlog of a thousand webhooks is one wake-up. What they would start must be the
    same, but for its time.
    """

    message: OutboxMessage
    covered: list[int]


async def claim(tx: Tx, limit: int, lease: timedelta) -> list[Leased]:
    """Lease up to `limit` due messages, at most one per order key, oldest first. Safe among any number of relays."""
    rows = await (await tx.execute(_CLAIM, {"limit": limit, "lease": lease})).fetchall()
    return [Leased(_message(row), row["covered"]) for row in sorted(rows, key=lambda row: int(row["id"]))]


async def mark_delivered(tx: Tx, ids: list[int]) -> None:
    """Temporal has them. Marking twice is harmless."""
    await tx.execute(_DELIVERED, {"ids": ids, "channel": CHANNEL})


async def release(tx: Tx, row_id: int, error: str, delay: timedelta, *, count_attempt: bool = False) -> None:
    """Give a row back after a failed delivery, due again after `delay`. `count_attempt`: claim() did not count it."""
    await tx.execute(
        _RELEASE, {"id": row_id, "error": error[:_ERROR_MAX], "delay": delay, "count": 1 if count_attempt else 0}
    )


def backoff(attempts: int) -> timedelta:
    """How long to wait after the n-th failure: doubling from 0.5 s, at most 60 s, half of it random."""
    ceiling_ms = min(_BACKOFF_MAX_MS, 500 * 2 ** min(attempts, 10))
    return timedelta(milliseconds=ceiling_ms // 2 + secrets.randbelow(ceiling_ms // 2 + 1))


async def stuck(tx: Tx, *, after: int = 0, limit: int = 50) -> list[DictRow]:
    """Undelivered rows with at least STUCK_ATTEMPTS attempts, by id, without their payloads."""
    query = """
        select id, kind, workflow_id, workflow_type, signal_name, attempts, last_error, created_at, next_attempt_at,
            request_id
        from outbox where delivered_at is null and attempts >= %s and id > %s order by id limit %s
    """
    return await (await tx.execute(query, (STUCK_ATTEMPTS, after, limit))).fetchall()


async def lag(tx: Tx) -> tuple[int, int]:
    """Of all tenants (auth or relay role): how many messages wait, and for how many seconds the oldest has."""
    row = await (
        await tx.execute(
            """select count(*) as waiting, coalesce(extract(epoch from now() - min(created_at)), 0)::int as seconds
            from outbox where delivered_at is null"""
        )
    ).fetchone()
    assert row is not None
    return int(row["waiting"]), int(row["seconds"])


def _message(row: DictRow) -> OutboxMessage:
    return OutboxMessage(
        scope=Scope(tenant_id=row["tenant_id"], mode=row["mode"]),
        kind=OutboxKind(row["kind"]),
        **{name: row[name] for name in _COPIED},
    )


_COPIED = frozenset(OutboxMessage.model_fields) - {"scope", "kind"}
