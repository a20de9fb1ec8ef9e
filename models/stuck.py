"""What is stuck in the rows: messages, webhooks, provider calls, blocked and overdue things. Reads only.

The app role sees its own tenant, the audit role all of them. Machines' delays are measured in real time; a next action is
business time, so a tenant on a test clock is compared with that. Plain rows, so that the relay stays light.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from domain import stuck
from domain.stuck import StuckKind
from infra.database import Tx

_SECONDS: Final = 5
"""For each statement: the monitor must not become the load."""

# A message waits behind the first of its key: only the first is reported, it is the cause.
_MESSAGES = """
select o.tenant_id, o.mode, 'message' as noun, o.id::text as subject, o.workflow_id, o.created_at as since,
       o.last_error as code, o.attempts, count(*) over () as total
  from outbox o
 where o.delivered_at is null and o.created_at < now() - %(message)s and not exists (
       select 1 from outbox e where e.tenant_id = o.tenant_id and e.mode = o.mode and e.order_key = o.order_key
          and e.id < o.id and e.delivered_at is null)
 order by o.id limit %(limit)s
"""

# An orphan (it names nothing of ours) is tried for three days by design, and then expires.
_WEBHOOKS = """
select tenant_id, mode, 'webhook' as noun, coalesce(reference, event_id) as subject, null as workflow_id,
       received_at as since, error_code as code, tries as attempts, count(*) over () as total
  from webhook_inbox where status = 'received' and received_at < now() - %(webhook)s
 order by id limit %(limit)s
"""

# An effect's row may stay open although the look-up told long ago: the attempt, the refund or the payout says whether it matters.
# Whose call it was is worked out before it is joined: behind a policy an index is not asked with a function's result.
_CALLS = """
with e as materialized (
    select *, split_part(key, '/', 2) as about from effects
     where (status = 'claimed' and sent_at < now() - %(claimed)s) or (status = 'unknown' and claimed_at < now() - %(unknown)s)
)
select e.tenant_id, e.mode, e.operation as noun, coalesce(a.payment_id, r.id, p.id) as subject, null as workflow_id,
       e.claimed_at as since, case when e.status = 'claimed' then 'claimed' else coalesce(e.error_code, 'unknown') end as code,
       e.tries as attempts, count(*) over () as total
  from e
  left join payment_attempts a on a.tenant_id = e.tenant_id and a.mode = e.mode and e.key like 'attempt/%%'
       and a.reference = e.about
  left join refunds r on r.tenant_id = e.tenant_id and r.mode = e.mode and e.key like 'refund/%%' and r.id = e.about
  left join payouts p on p.tenant_id = e.tenant_id and p.mode = e.mode and e.key like 'payout/%%' and p.id = e.about
 where a.status in ('started', 'unknown') or (a.status = 'authorized' and e.operation <> 'start' and e.status = 'claimed')
       or r.status in ('requested', 'unknown') or p.status in ('sending', 'unknown')
 order by e.claimed_at, e.key limit %(limit)s
"""

_BLOCKED = """
select *, count(*) over () as total from (
    select tenant_id, mode, 'payment' as noun, id as subject, null as workflow_id, updated_at as since,
           blocked_reason as code, checks as attempts from payments where blocked_reason is not null
    union all
    select tenant_id, mode, 'refund', id, null, updated_at, blocked_reason, checks from refunds
     where blocked_reason is not null
    union all
    select tenant_id, mode, 'payout', id, null, updated_at, blocked_reason, checks from payouts
     where blocked_reason is not null
    union all
    select tenant_id, mode, 'settlement', id, null, updated_at, blocked_reason, null from settlements
     where blocked_reason is not null
    union all
    select tenant_id, mode, 'campaign', id, null, updated_at, blocked_reason, null from campaigns
     where blocked_reason is not null
    union all
    select tenant_id, mode, 'distribution', id, null, updated_at, blocked_reason, null from distributions
     where blocked_reason <> 'milestone'
) blocked order by since, subject limit %(limit)s
"""

# While a clock moves, the things on it are being driven to their time. A campaign's refunds are its settlement's to look up,
# and a distribution's payouts the run's.
_OVERDUE = """
with things as (
    select tenant_id, mode, 'payment' as noun, id, next_action_at, status, %(late)s as margin from payments
     where next_action_at is not null and status not in ('succeeded', 'failed', 'canceled', 'expired')
    union all
    select tenant_id, mode, 'refund', id, next_action_at, status, %(late)s from refunds
     where next_action_at is not null and status in ('requested', 'pending', 'unknown') and reason <> 'campaign_failed'
    union all
    select tenant_id, mode, 'payout', id, next_action_at, status, %(late)s from payouts
     where next_action_at is not null and status in ('approved', 'sending', 'unknown', 'pending') and reason <> 'distribution'
    union all
    select tenant_id, mode, 'settlement', id, next_action_at, status, %(late_settlement)s from settlements
     where next_action_at is not null and status = 'running'
    union all
    select tenant_id, mode, 'campaign', id, next_action_at, status, %(late)s from campaigns
     where next_action_at is not null and status not in ('funded', 'completed', 'closed_failed', 'rejected')
    union all
    select tenant_id, mode, 'distribution', id, next_action_at, status, %(late)s from distributions
     where next_action_at is not null and status in ('funding', 'paying')
    union all
    select tenant_id, mode, 'milestones', id, next_action_at, status, %(late)s from milestone_plans
     where next_action_at is not null
)
select t.tenant_id, t.mode, t.noun, t.id as subject, null as workflow_id, t.next_action_at as since, t.status as code,
       null::int as attempts, count(*) over () as total
  from things t left join test_clocks c on c.tenant_id = t.tenant_id and c.mode = t.mode
 where t.next_action_at < coalesce(c.now_at, now()) - t.margin and coalesce(c.status, '') <> 'advancing'
 order by t.next_action_at, t.id limit %(limit)s
"""

_CLOCKS = "select tenant_id, mode, now_at, status from test_clocks"

_QUERIES: Final[dict[StuckKind, LiteralString]] = {
    StuckKind.MESSAGE_UNDELIVERED: _MESSAGES,
    StuckKind.WEBHOOK_UNPROCESSED: _WEBHOOKS,
    StuckKind.CALL_UNSETTLED: _CALLS,
    StuckKind.BLOCKED: _BLOCKED,
    StuckKind.OVERDUE: _OVERDUE,
}


@dataclass(frozen=True, slots=True)
class StuckRow:
    """One row that should have moved. `noun`: what it is (of a call, the operation); `total`: how many its query met."""

    kind: StuckKind
    tenant_id: str
    mode: str
    noun: str
    subject: str
    workflow_id: str | None
    since: datetime
    code: str | None
    attempts: int | None
    total: int


ROW_KINDS: Final = tuple(_QUERIES)
"""The kinds that rows tell of."""


async def stuck_rows(tx: Tx, kind: StuckKind, *, limit: int) -> list[StuckRow]:
    """Everything of one kind that is stuck in the rows, the oldest `limit`.

    Raises psycopg.errors.QueryCanceled when that takes more than five seconds, and leaves the transaction of no more use.
    """
    await tx.execute("select set_config('statement_timeout', %s, true)", (f"{_SECONDS}s",))
    rows = await (await tx.execute(_QUERIES[kind], _values(limit))).fetchall()
    return [StuckRow(kind=kind, **row | {"tenant_id": str(row["tenant_id"])}) for row in rows]


def explained(kind: StuckKind) -> tuple[LiteralString, dict[str, Any]]:
    """The statement that asks how Postgres would find a kind, and its values."""
    return "explain " + _QUERIES[kind], _values(1)


def _values(limit: int) -> dict[str, Any]:
    return {
        "limit": limit,
        "message": stuck.MESSAGE_AFTER,
        "webhook": stuck.WEBHOOK_AFTER,
        "claimed": stuck.CLAIMED_AFTER,
        "unknown": stuck.UNKNOWN_AFTER,
        "late": stuck.LATE,
        "late_settlement": stuck.LATE_SETTLEMENT,
    }


async def clocks(tx: Tx) -> dict[tuple[str, str], datetime | None]:
    """(tenant, mode) → the business time of each test clock there is; None for one that is moving."""
    rows = await (await tx.execute(_CLOCKS)).fetchall()
    return {
        (str(row["tenant_id"]), row["mode"]): None if row["status"] == "advancing" else row["now_at"] for row in rows
    }
