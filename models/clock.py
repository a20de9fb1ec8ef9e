"""Business time: a test-mode tenant may have a clock of its own (DESIGN §2.18); everyone else has the real one."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import ClassVar, Final, LiteralString

from contracts.base import Scope
from infra.database import Database, Tx, fetch_one
from models.base import Scoped, read


class TestClock(Scoped, table=True):
    """The tenant's clock. It stands still at `now_at` between advances; `target_at` is where an advance is heading."""

    __tablename__: ClassVar[str] = "test_clocks"
    __test__ = False  # not a test class, whatever pytest thinks of its name

    now_at: datetime
    target_at: datetime
    status: str
    advance_number: int = 0
    error: str | None = None


@dataclass(frozen=True)
class DueAction:
    """The next thing that will happen by itself: which workflow acts, and when (business time)."""

    workflow_noun: str
    entity_id: str
    at: datetime


_OWN_CLOCK = """
select * from test_clocks
where tenant_id = nullif(current_setting('app.tenant', true), '')::uuid and mode = current_setting('app.mode', true)"""
"""Filtered here as well as by row-level security: the auth role, which sees every tenant, asks too (sign-up)."""


async def get_clock(tx: Tx, *, lock: bool = False) -> TestClock | None:
    """The scope's test clock, if it has one."""
    return await read(tx, TestClock, _OWN_CLOCK + " for update" if lock else _OWN_CLOCK)


async def business_now(tx: Tx) -> datetime:
    """The scope's business time, UTC."""
    clock = await get_clock(tx)
    return clock.now_at if clock is not None else datetime.now(UTC)


async def business_date(tx: Tx, as_of: datetime) -> tuple[str, date]:
    """The tenant's zone (IANA), and the day it is there."""
    row = await fetch_one(
        tx,
        """select zone, (%s::timestamptz at time zone zone)::date as day from tenants
           where id = nullif(current_setting('app.tenant', true), '')::uuid""",
        (as_of,),
    )
    assert row is not None
    return row["zone"], row["day"]


async def create_clock(tx: Tx, scope: Scope, now_at: datetime) -> bool:
    """Give the scope a clock; False when it has one."""
    done = await tx.execute(
        """insert into test_clocks (tenant_id, mode, now_at, target_at, status) values (%s, %s, %s, %s, 'ready')
           on conflict do nothing""",
        (scope.tenant_id, scope.mode, now_at, now_at),
    )
    return done.rowcount == 1


async def set_target(tx: Tx, target_at: datetime) -> int:
    """Begin an advance; returns its number. The caller holds the clock's lock and has checked that it is ready."""
    row = await (
        await tx.execute(
            """update test_clocks set target_at = %s, status = 'advancing', error = null, updated_at = now(),
               advance_number = advance_number + 1 returning advance_number""",
            (target_at,),
        )
    ).fetchone()
    assert row is not None
    return int(row["advance_number"])


async def set_now(tx: Tx, now_at: datetime) -> None:
    """Move the clock forward, never back."""
    await tx.execute("update test_clocks set now_at = greatest(now_at, %s), updated_at = now()", (now_at,))


_TABLES: Final[dict[str, LiteralString]] = {
    "campaign": "campaigns",
    "payment": "payments",
    "refund": "refunds",
    "settlement": "settlements",
    "distribution": "distributions",
    "payout": "payouts",
    "milestones": "milestone_plans",
}
_ACTS: Final = {noun: f"select next_action_at as at from {table} where id = $1" for noun, table in _TABLES.items()}  # noqa: S608


async def action_time(db: Database, scope: Scope, due: DueAction) -> datetime | None:
    """When the entity acts next, now. A transaction of its own."""
    row = await db.ask(scope, _ACTS[due.workflow_noun], (due.entity_id,))
    return row["at"] if row else None


async def note_trouble(tx: Tx, target_at: datetime, error: str, *, given_up: bool) -> None:
    """Write down what holds the advance to `target_at` up; once it is given up, the clock has failed."""
    await tx.execute(
        """update test_clocks set error = %s, status = case when %s then 'failed' else status end, updated_at = now()
            where status = 'advancing' and target_at = %s""",
        (error, given_up, target_at),
    )


async def finish_advance(tx: Tx, target_at: datetime) -> None:
    """The clock stands at its target and is ready again.

    A walk that died before its end was reported is walked again: it must not end the advance that came after it.
    """
    await tx.execute(
        """update test_clocks set status = 'ready', error = null, now_at = target_at, updated_at = now()
            where status = 'advancing' and target_at = %s""",
        (target_at,),
    )


_OWN_PROCESS: Final[dict[str, LiteralString]] = {
    "payout": "and reason <> 'distribution'",
    "refund": "and reason <> 'campaign_failed'",
}
"""A distribution's payouts and a settlement's refunds have no process of their own: the run and the settlement look after
them."""
_DUE: Final[LiteralString] = " union all ".join(
    f"select '{noun}' as noun, id, next_action_at as at from {table}"  # noqa: S608
    f" where next_action_at <= %(until)s {_OWN_PROCESS.get(noun, '')}"
    for noun, table in _TABLES.items()
)
_EARLIEST: Final[LiteralString] = (
    f"select noun, id, at from ({_DUE}) due where id <> all(%(passed_over)s) order by at, noun, id limit 1"  # noqa: S608
)


_BUSY: Final[LiteralString] = """
with clock as (select now_at from test_clocks)
select exists (select 1 from settlements where status = 'running'
               and (next_action_at is null or next_action_at <= (select now_at from clock)))
    or exists (select 1 from campaigns c where c.next_action_at is null
               and c.status not in ('draft', 'rejected', 'funded', 'completed', 'closed_failed')
               and not exists (select 1 from settlements s where s.campaign_id = c.id and s.status = 'running'))
    or exists (select 1 from payments where status in ('created', 'requires_action', 'processing') and next_action_at is null)
    or exists (select 1 from refunds where status = 'requested')
    or exists (select 1 from distributions where status in ('calculating', 'approved')
               or (status in ('draft', 'paying') and woken)
               or (status = 'draft' and calculate_on is not null and next_action_at is null and blocked_reason is null)
               or (status = 'funding' and next_action_at is null)
               or (status = 'paying' and (next_action_at is null or next_action_at <= (select now_at from clock))))
    or exists (select 1 from payouts where status in ('approved', 'sending') and next_action_at is null)
    or exists (select 1 from milestone_plans where status = 'working')
    or exists (select 1 from beneficiaries where status = 'pending')
    or exists (select 1 from outbox where delivered_at is null) as busy
"""


async def is_busy(db: Database, scope: Scope) -> bool:
    """Whether something that is due by the clock's time has not come to rest: it waits for that before it moves on.

    An open campaign without a next action, and without a settlement at work, is about to name one: its process has just
    been started, or has just seen its settlement end. A transaction of its own.
    """
    row = await db.ask(scope, _BUSY, ())
    return bool(row and row["busy"])


async def next_due(tx: Tx, until: datetime, passed_over: list[str]) -> DueAction | None:
    """The earliest action at or before `until`, over every kind of workflow that waits for a time.

    `passed_over`: entities whose workflow turned out not to be running.
    """
    row = await (await tx.execute(_EARLIEST, {"until": until, "passed_over": passed_over})).fetchone()
    return DueAction(row["noun"], row["id"], row["at"]) if row else None
