"""Settlements: a campaign's outcome applied to every held or charged line, as rows, not workflows (DESIGN §2.16)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

from sqlmodel import Field

from contracts.base import Scope
from infra.database import Tx, fetch_one
from models.base import Scoped, by_id, read_all, update


class Settlement(Scoped, table=True):
    """One pass over a campaign's lines. `outcome`: capture (success), release (failure) or renew (authorizations)."""

    __tablename__: ClassVar[str] = "settlements"

    id: str = Field(primary_key=True)
    campaign_id: str
    outcome: str
    round: int
    status: str
    lines: int
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    created_at: datetime


class SettlementLine(Scoped, table=True):
    """One investment's part. `failed` is final; `unknown` and `pending` are looked up again at `next_action_at`."""

    __tablename__: ClassVar[str] = "settlement_lines"

    settlement_id: str = Field(primary_key=True)
    line_no: int = Field(primary_key=True)
    investment_id: str
    payment_id: str
    action: str
    status: str
    tries: int = 0
    error_code: str | None = None
    next_action_at: datetime | None = None
    dealt_with_at: datetime | None = None
    """When a person settled a failed line by another way."""


@dataclass(frozen=True)
class LineCounts:
    """How far a settlement is."""

    open: int
    done: int
    failed: int
    unsettled: int
    """Failed, and not dealt with by another way."""
    next_action_at: datetime | None


_PLAN = """
with chosen as (
    select i.id as investment_id, i.payment_id, row_number() over (order by i.created_at, i.id) as line_no,
        case when %(outcome)s = 'capture' then case
                  when u.kyc_level >= c.min_kyc_level and (c.countries is null or c.countries ? u.country) then 'capture'
                  else 'void' end
             when %(outcome)s = 'renew' then 'renew'
             when i.status = 'captured' then 'refund' else 'void' end as action
    from investments i
    join payments p on (p.tenant_id, p.mode, p.id) = (i.tenant_id, i.mode, i.payment_id)
    join users u on (u.tenant_id, u.mode, u.id) = (i.tenant_id, i.mode, i.investor_id)
    join campaigns c on (c.tenant_id, c.mode, c.id) = (i.tenant_id, i.mode, i.campaign_id)
    where i.campaign_id = %(campaign)s and (
        (%(outcome)s = 'capture' and i.status = 'held')
        or (%(outcome)s = 'release' and i.status in ('held', 'captured'))
        or (%(outcome)s = 'renew' and i.status = 'held' and p.authorized_until - case
                when p.instrument is null then interval '0' else %(margin)s end <= %(as_of)s))
), planned as (
    insert into settlement_lines (tenant_id, mode, settlement_id, line_no, investment_id, payment_id, action, status)
    select %(tenant)s, %(mode)s, %(id)s, line_no, investment_id, payment_id, action, 'queued' from chosen
    returning 1
) select count(*)::int as lines from planned
"""

_TELL_RELEASED = """
insert into timeline (tenant_id, mode, entity_id, at, event, detail)
select tenant_id, mode, investment_id, %(as_of)s, 'investor_not_eligible', jsonb_build_object('settlement_id', settlement_id)
  from settlement_lines where settlement_id = %(id)s and action = 'void' order by line_no
"""


async def plan_settlement(
    tx: Tx,
    scope: Scope,
    *,
    settlement_id: str,
    campaign_id: str,
    outcome: str,
    round_no: int,
    margin: timedelta,
    as_of: datetime,
) -> int:
    """Write the settlement and its lines in one statement each; returns the number of lines (with none it is complete).

    The pledge of whoever is not eligible any more (`domain.eligibility.may_invest`) is voided where others are captured. One that
    was charged back has its line where others are refunded: whoever carries it out sees that nothing goes back.

    `margin`: for `renew`, how long before it lapses an authorization with a saved instrument is taken.
    """
    params = {"tenant": scope.tenant_id, "mode": scope.mode, "id": settlement_id, "campaign": campaign_id,
              "outcome": outcome, "margin": margin, "round": round_no, "as_of": as_of}  # fmt: skip
    await tx.execute(
        """insert into settlements (tenant_id, mode, id, campaign_id, outcome, round, status, lines, created_at)
           values (%(tenant)s, %(mode)s, %(id)s, %(campaign)s, %(outcome)s, %(round)s, 'running', 0, %(as_of)s)""",
        params,
    )
    row = await (await tx.execute(_PLAN, params)).fetchone()
    assert row is not None
    if outcome == "capture":
        await tx.execute(_TELL_RELEASED, params)
    await tx.execute(
        "update settlements set lines = %(n)s, status = case when %(n)s = 0 then 'completed' else status end where id = %(id)s",
        {"n": row["lines"], "id": settlement_id},
    )
    return int(row["lines"])


async def get_settlement(tx: Tx, settlement_id: str, *, lock: bool = False) -> Settlement | None:
    """One settlement."""
    return await by_id(tx, Settlement, settlement_id, lock=lock)


async def settlements_of(tx: Tx, campaign_id: str) -> list[Settlement]:
    """A campaign's settlements, oldest first."""
    return await read_all(
        tx, Settlement, "select * from settlements where campaign_id = %s order by created_at, round", (campaign_id,)
    )


async def settlement_rounds(tx: Tx, campaign_id: str, outcome: str) -> int:
    """How many settlements of that kind the campaign has had: the next one's ordinal."""
    row = await (
        await tx.execute(
            "select count(*)::int as n from settlements where campaign_id = %s and outcome = %s", (campaign_id, outcome)
        )
    ).fetchone()
    return int(row["n"]) if row else 0


async def open_lines(tx: Tx, settlement_id: str, first: int, last: int, as_of: datetime) -> list[SettlementLine]:
    """The lines of a range that want work now."""
    return await read_all(
        tx,
        SettlementLine,
        """select * from settlement_lines where settlement_id = %s and line_no between %s and %s
             and status in ('queued', 'unknown', 'pending') and (next_action_at is null or next_action_at <= %s)
           order by line_no""",
        (settlement_id, first, last, as_of),
    )


async def lines_page(tx: Tx, settlement_id: str, *, after: int, limit: int) -> list[SettlementLine]:
    """Lines in order, for the operator."""
    return await read_all(
        tx,
        SettlementLine,
        "select * from settlement_lines where settlement_id = %s and line_no > %s order by line_no limit %s",
        (settlement_id, after, limit),
    )


NOT_COVERED: Final = "not_covered"
"""The blocked reason of a settlement whose refunds are more than the campaign's escrow has."""


async def refunds_to_come(tx: Tx, settlement_id: str) -> int:
    """What the settlement's lines will give back and have not reserved yet, in minor units; nothing for what was charged back."""
    row = await fetch_one(
        tx,
        """select coalesce(sum(i.amount_minor), 0)::bigint as minor
             from settlement_lines l
             join investments i on (i.tenant_id, i.mode, i.id) = (l.tenant_id, l.mode, l.investment_id)
            where l.settlement_id = %s and l.action = 'refund' and l.status = 'queued' and i.status = 'captured'
              and i.charged_back_at is null""",
        (settlement_id,),
    )
    return int(row["minor"]) if row else 0


async def block_settlement(tx: Tx, settlement_id: str, reason: str | None) -> None:
    """Say why the settlement stands still, or that it does so no longer."""
    await update(tx, Settlement, {"id": settlement_id}, {"blocked_reason": reason})


async def postpone_lines(tx: Tx, settlement_id: str, numbers: Sequence[int], *, code: str, until: datetime) -> None:
    """Leave queued lines for a later pass, untried."""
    await tx.execute(
        """update settlement_lines set error_code = %s, next_action_at = %s, updated_at = now()
           where settlement_id = %s and line_no = any(%s) and status = 'queued'""",
        (code, until, settlement_id, list(numbers)),
    )


async def change_line(
    tx: Tx, line: SettlementLine, *, status: str, error_code: str | None = None, next_action_at: datetime | None = None
) -> None:
    """Move one line on; a final line never changes again."""
    await tx.execute(
        """update settlement_lines set status = %s, error_code = %s, next_action_at = %s, tries = tries + 1, updated_at = now()
           where settlement_id = %s and line_no = %s and status in ('queued', 'unknown', 'pending')""",
        (status, error_code, next_action_at, line.settlement_id, line.line_no),
    )


async def finish_lines(tx: Tx, settlement_id: str, numbers: Sequence[int]) -> None:
    """These lines are done, as `change_line` does it."""
    await tx.execute(
        """update settlement_lines set status = 'done', error_code = null, next_action_at = null, tries = tries + 1,
                  updated_at = now()
           where settlement_id = %s and line_no = any(%s) and status in ('queued', 'unknown', 'pending')""",
        (settlement_id, list(numbers)),
    )


async def requeue_failed(tx: Tx, settlement_id: str) -> list[str]:
    """Put failed lines back in the queue, under the same numbers; returns their payments. Not those that somebody has dealt
    with by another way: their money would go out twice.
    """
    done = await tx.execute(
        """update settlement_lines set status = 'queued', error_code = null, next_action_at = null, updated_at = now()
            where settlement_id = %s and status = 'failed' and dealt_with_at is null returning payment_id""",
        (settlement_id,),
    )
    return [row["payment_id"] for row in await done.fetchall()]


async def count_lines(tx: Tx, settlement_id: str) -> LineCounts:
    """Open, done, failed and unsettled, and when the next open line wants work."""
    row = await (
        await tx.execute(
            """select count(*) filter (where status in ('queued', 'unknown', 'pending'))::int as open,
                      count(*) filter (where status = 'done')::int as done,
                      count(*) filter (where status = 'failed')::int as failed,
                      count(*) filter (where status = 'failed' and dealt_with_at is null)::int as unsettled,
                      min(next_action_at) filter (where status in ('queued', 'unknown', 'pending')) as next
               from settlement_lines where settlement_id = %s""",
            (settlement_id,),
        )
    ).fetchone()
    assert row is not None
    return LineCounts(row["open"], row["done"], row["failed"], row["unsettled"], row["next"])


async def change_settlement(
    tx: Tx, settlement_id: str, *, status: str, next_action_at: datetime | None, blocked_reason: str | None = None
) -> None:
    """Record how the settlement stands."""
    changes = {"status": status, "next_action_at": next_action_at, "blocked_reason": blocked_reason}
    await update(tx, Settlement, {"id": settlement_id}, changes)


async def wake_lines(tx: Tx, payment_id: str) -> list[str]:
    """Make the open lines about a payment due at once; returns their settlements, to be woken."""
    rows = await (
        await tx.execute(
            """update settlement_lines set next_action_at = null, updated_at = now()
               where payment_id = %s and status in ('unknown', 'pending') returning settlement_id""",
            (payment_id,),
        )
    ).fetchall()
    return sorted({row["settlement_id"] for row in rows})
