"""A run's lines, set by set: calculated, queued, paid, counted. No statement here costs more than its lines.

`LINES` is the arithmetic of `domain/distribution.py` in SQL, as it stands on the page `docs/distributions.md`; a test holds
the three together.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, LiteralString

from psycopg.rows import DictRow
from sqlmodel import Field

from domain.distribution import Line, LineStatus
from infra.database import Tx, fetch_one
from models.base import Scoped, read_all
from models.distribution import LATEST, Distribution

LINES: Final[LiteralString] = """
with counted as (
    select h.holder_id, h.amount_minor::numeric as amount, (h.since at time zone t.zone)::date as since, t.*
      from holdings h cross join terms t
     where (h.since at time zone t.zone)::date <= t.record_date
       and (h.until is null or (h.until at time zone t.zone)::date > t.record_date)
), weights as (
    select holder_id, sum(amount * case rule when 'by_amount' then 1 else
               greatest(0, least(period_end, record_date) - greatest(period_start, since) + 1) end) as weight
      from counted group by holder_id
), measured as (
    select w.*, portion(t.declared_profit_minor, t.profit_share_bps, t.share_rounding) as pot,
           greatest(1, sum(w.weight) over ()) as whole
      from weights w cross join terms t
), floored as (
    select *, div(pot * weight, whole) as floored, mod(pot * weight, whole) as remainder from measured
), shares as (
    select holder_id, weight, floored
           + (row_number() over (order by remainder desc, holder_id collate "C") <= pot - sum(floored) over ())::int as share
      from floored
), dues as (
    select holder_id, coalesce(weight, 0) as weight, coalesce(share, 0) as share,
           coalesce(e.carried_in_minor, 0)::numeric as carried_in, coalesce(e.adjustment_minor, 0)::numeric as adjustment,
           coalesce(share, 0) + coalesce(e.carried_in_minor, 0) + coalesce(e.adjustment_minor, 0) as due
      from shares full join earlier e using (holder_id)
), priced as (
    select d.*, portion(due, t.tax_bps, t.tax_rounding) as tax,
           portion(due, t.platform_fee_bps, t.platform_fee_rounding) as platform_fee,
           t.provider_fee_minor::numeric as provider_fee, greatest(1, t.minimum_payout_minor) as minimum
      from dues d cross join terms t
), decided as (
    select *, (due > 0 and due - tax - platform_fee - provider_fee >= minimum)::int as paid from priced
)
select holder_id, weight, share, carried_in, adjustment, due * paid as gross, tax * paid as tax,
       platform_fee * paid as platform_fee, provider_fee * paid as provider_fee,
       (due - tax - platform_fee - provider_fee) * paid as net, due * (1 - paid) as carried_out
  from decided order by holder_id collate "C"
"""

# A holding ends when its money goes back: the refund was asked for, or a chargeback was recorded. It is `settled` when that is
# certain: a refund that is under way may fail.
_HOLDINGS: Final[LiteralString] = """
    select i.id, i.investor_id as holder_id, i.amount_minor, i.created_at as since, i.status <> 'refunding' as settled,
           least(i.charged_back_at, case when i.status <> 'captured' then r.at end) as until
      from investments i
      left join (select payment_id, min(created_at) as at from refunds where status <> 'failed' group by payment_id) r
        on r.payment_id = i.payment_id
     where i.campaign_id = %(campaign)s and i.status in ('captured', 'refunding', 'refunded', 'credited_to_wallet')
"""
# What was set aside keeps its tax and fees for the day it is paid; only what is above zero lies on the payable account.
_CALCULATE: Final[LiteralString] = f"""
with terms as (
    select declared_profit_minor, profit_share_bps, share_rounding, rule, period_start, period_end, record_date, zone,
           tax_bps, tax_rounding, platform_fee_bps, platform_fee_rounding, provider_fee_minor, minimum_payout_minor
      from distributions where id = %(id)s
), holdings as materialized ({_HOLDINGS}
), earlier as materialized (
    select holder_id, sum(carried)::bigint as carried_in_minor, sum(adjusted)::bigint as adjustment_minor,
           sum(greatest(0, carried))::bigint as kept_in_minor
      from (select holder_id, gross_minor + carried_out_minor as carried, 0 as adjusted
              from distribution_lines where distribution_id = any(%(sources)s) and carried_into = %(id)s
             union all
            select holder_id, 0, amount_minor from distribution_adjustments where distribution_id = %(id)s) e
     group by holder_id
), calculated as ({LINES}
), inserted as (
    insert into distribution_lines
           (tenant_id, mode, distribution_id, line_no, holder_id, weight, share_minor, carried_in_minor, kept_in_minor,
            adjustment_minor, gross_minor, tax_minor, platform_fee_minor, provider_fee_minor, net_minor, carried_out_minor,
            status)
    select %(tenant)s::uuid, %(mode)s::text, %(id)s::text, row_number() over (order by c.holder_id collate "C"),
           c.holder_id, c.weight, c.share, c.carried_in, coalesce(e.kept_in_minor, 0), c.adjustment, c.gross, c.tax,
           c.platform_fee, c.provider_fee, c.net, c.carried_out, 'calculated'
      from calculated c left join earlier e on e.holder_id = c.holder_id
    returning *, gross_minor + greatest(0, carried_out_minor) - kept_in_minor - share_minor as from_campaign
)
select count(*)::int as lines, coalesce(sum(weight), 0) as weight,
       count(*) filter (where share_minor <> 0 or carried_in_minor <> 0 or adjustment_minor <> 0)::int as telling,
       coalesce(sum(share_minor), 0)::bigint as share_minor, coalesce(sum(carried_in_minor), 0)::bigint as carried_in_minor,
       coalesce(sum(adjustment_minor), 0)::bigint as adjustment_minor, coalesce(sum(gross_minor), 0)::bigint as gross_minor,
       coalesce(sum(tax_minor), 0)::bigint as tax_minor, coalesce(sum(platform_fee_minor), 0)::bigint as platform_fee_minor,
       coalesce(sum(provider_fee_minor), 0)::bigint as provider_fees_minor, coalesce(sum(net_minor), 0)::bigint as net_minor,
       coalesce(sum(carried_out_minor), 0)::bigint as carried_out_minor,
       coalesce(sum(greatest(0, carried_out_minor)), 0)::bigint as kept_minor,
       coalesce(sum(greatest(0, -from_campaign)), 0)::bigint as recovered_minor,
       coalesce(sum(greatest(0, from_campaign)), 0)::bigint as added_minor
  from inserted
"""  # noqa: S608  constant text

# Of an investment that a run counted and that ended after its record date: the part of the holder's share that was its own.
_ADJUST: Final[LiteralString] = f"""
with holdings as materialized ({_HOLDINGS}
), ended as (
    select h.*, d.id as source_id, (h.since at time zone d.zone)::date as day, d.rule, d.period_start, d.period_end, d.record_date
      from holdings h
      join distributions d on d.campaign_id = %(campaign)s and not d.dry_run and d.status = any(%(funded)s)
     where h.settled and (h.until at time zone d.zone)::date > d.record_date
       and (h.since at time zone d.zone)::date <= d.record_date
), due as (
    select e.id, e.holder_id, e.source_id, div(l.share_minor * e.amount_minor * case e.rule when 'by_amount' then 1 else
               greatest(0, least(e.period_end, e.record_date) - greatest(e.period_start, e.day) + 1) end, l.weight) as minor
      from ended e
      join distribution_lines l on l.holder_id = e.holder_id and l.distribution_id = e.source_id and l.weight > 0
)
insert into distribution_adjustments
       (tenant_id, mode, id, campaign_id, holder_id, investment_id, source_id, amount_minor, created_at)
select %(tenant)s::uuid, %(mode)s::text,
       'adj_' || substr(encode(sha256(convert_to(concat_ws('/', %(tenant)s::uuid, %(mode)s::text, source_id, id), 'utf8')),
                               'hex'), 1, 32),
       %(campaign)s::text, holder_id, id, source_id, -minor, %(as_of)s::timestamptz
  from due where minor > 0
    on conflict (tenant_id, mode, source_id, investment_id) do nothing
"""  # noqa: S608  constant text


NOBODY: Final = "unclaimed"
"""In `carried_into`: no later run will take it."""


class DistributionLine(Scoped, table=True):
    """What one holder gets in one run, in minor units of its currency; see `domain.distribution.Line`.

    `kept_in_minor`: the part of what was carried in that lies on the payable account. `carried_into`: the later run that took
    what this one carried forward. `rail`, `beneficiary_id`: where it is paid out to, None for the wallet; `payout_id` is the
    newest of its `payouts` attempts.
    """

    __tablename__: ClassVar[str] = "distribution_lines"

    distribution_id: str = Field(primary_key=True)
    line_no: int = Field(primary_key=True)
    holder_id: str
    weight: Decimal
    share_minor: int
    carried_in_minor: int
    kept_in_minor: int
    adjustment_minor: int
    gross_minor: int
    tax_minor: int
    platform_fee_minor: int
    provider_fee_minor: int
    net_minor: int
    carried_out_minor: int
    status: LineStatus
    error_code: str | None = None
    carried_into: str | None = None
    rail: str | None = None
    beneficiary_id: str | None = None
    payout_id: str | None = None
    payouts: int = 0
    updated_at: datetime


async def calculate_lines(tx: Tx, run: Distribution, as_of: datetime) -> dict[str, Any]:
    """Write the run's lines anew from who held what at its record date; the totals by column, with `weight` and `telling`
    (the sum of the weights, and how many lines have any figure at all).

    Takes along what earlier runs carry, and what their holders had too much.
    """
    values = {"id": run.id, "campaign": run.campaign_id, "tenant": run.tenant_id, "mode": run.mode, "as_of": as_of,
              "funded": ["paying", "partially_paid", "paid"]}  # fmt: skip
    await release_taken(tx, run)
    await tx.execute("delete from distribution_lines where distribution_id = %(id)s", values)
    await tx.execute(_ADJUST, values)
    sources = await (
        await tx.execute(
            """select coalesce(array_agg(id), '{}') as ids from distributions
               where campaign_id = %(campaign)s and not dry_run and status in ('partially_paid', 'paid')""",
            values,
        )
    ).fetchone()
    values["sources"] = sources["ids"] if sources else []
    await tx.execute(
        """update distribution_lines set carried_into = %(id)s, updated_at = now()
           where distribution_id = any(%(sources)s) and status = 'carried_forward' and carried_into is null
             and gross_minor + carried_out_minor <> 0""",
        values,
    )
    await tx.execute(
        """update distribution_adjustments set distribution_id = %(id)s, updated_at = now()
           where campaign_id = %(campaign)s and distribution_id is null""",
        values,
    )
    row = await fetch_one(tx, _CALCULATE, values)
    assert row is not None
    return dict(row)


async def release_taken(tx: Tx, run: Distribution) -> None:
    """Give back what the run took along: it will not pay it, or is calculated anew. Also to a run that pays again meanwhile."""
    await tx.execute(
        """update distribution_lines set carried_into = null, updated_at = now()
           where carried_into = %(id)s and distribution_id = any(array(
               select id from distributions where campaign_id = %(campaign)s))""",
        {"id": run.id, "campaign": run.campaign_id},
    )
    await tx.execute(
        "update distribution_adjustments set distribution_id = null, updated_at = now() where distribution_id = %s",
        (run.id,),
    )


async def set_aside(tx: Tx, distribution_id: str, target: LineStatus) -> tuple[int, int]:
    """Close what could not be paid as carried_forward or unclaimed: how many lines, and their gross in minor units."""
    row = await fetch_one(
        tx,
        """with changed as (
               update distribution_lines set status = %s, updated_at = now()
                where distribution_id = %s and status in ('held', 'failed', 'returned') returning gross_minor)
           select count(*)::int as n, coalesce(sum(gross_minor), 0)::bigint as minor from changed""",
        (str(target), distribution_id),
    )
    return (row["n"], row["minor"]) if row else (0, 0)


async def give_up_carried(tx: Tx, distribution_id: str) -> tuple[int, int]:
    """What the run's lines carry and no later run has taken over goes to nobody: how many lines, and minor units.

    A debt that is carried stays: it is nobody's claim.
    """
    row = await fetch_one(
        tx,
        """with changed as (
               update distribution_lines set carried_into = %s, updated_at = now()
                where distribution_id = %s and status = 'carried_forward' and carried_into is null
                  and gross_minor + carried_out_minor > 0 returning gross_minor + carried_out_minor as minor)
           select count(*)::int as n, coalesce(sum(minor), 0)::bigint as minor from changed""",
        (NOBODY, distribution_id),
    )
    return (row["n"], row["minor"]) if row else (0, 0)


async def queued_lines(tx: Tx, distribution_id: str, first: int, last: int, limit: int) -> list[tuple[int, Line]]:
    """The next lines of a range that are queued for wallets, with their numbers, held until the transaction ends."""
    rows = await (
        await tx.execute(
            """select line_no, holder_id, weight, share_minor, carried_in_minor, adjustment_minor, gross_minor, tax_minor,
                      platform_fee_minor, provider_fee_minor, net_minor, carried_out_minor
                 from distribution_lines
                where distribution_id = %s and line_no between %s and %s and status = 'queued' and rail is null
                order by line_no limit %s for update""",
            (distribution_id, first, last, limit),
        )
    ).fetchall()
    return [(row.pop("line_no"), Line(**row | {"weight": int(row["weight"])})) for row in rows]


_TOLD: Final[LiteralString] = """
insert into notifications (tenant_id, mode, id, subject_id, user_id, template, params, status, created_at)
select tenant_id, mode,
       'ntf_' || substr(encode(sha256(convert_to(concat_ws('/', tenant_id, mode, distribution_id, holder_id, status), 'utf8')),
                               'hex'), 1, 32),
       distribution_id, holder_id, 'distribution_' || status,
       jsonb_build_object('campaign', %(campaign)s::text, 'currency', %(currency)s::text,
                          'amount_minor', case when net_minor > 0 then net_minor else carried_out_minor end),
       'queued', %(as_of)s::timestamptz
  from distribution_lines where distribution_id = %(id)s and line_no between %(first)s and %(last)s
   and status = %(status)s and (net_minor > 0 or carried_out_minor > 0)
on conflict do nothing
"""


async def credit_lines(tx: Tx, run: Distribution, numbers: Sequence[int]) -> None:
    """Queued lines are paid into their holders' wallets. The caller posts the money in the same transaction."""
    await tx.execute(
        """update distribution_lines set status = 'credited_to_wallet', error_code = null, updated_at = now()
           where distribution_id = %s and line_no = any(%s) and status = 'queued'""",
        (run.id, list(numbers)),
    )


async def fail_line(tx: Tx, run: Distribution, number: int, code: str) -> None:
    """A rule refuses this one: it stands beside the others until somebody has mended the cause."""
    await tx.execute(
        """update distribution_lines set status = 'failed', error_code = %s, updated_at = now()
           where distribution_id = %s and line_no = %s and status = 'queued'""",
        (code, run.id, number),
    )


async def tell_holders(
    tx: Tx, run: Distribution, status: LineStatus, first: int, last: int, *, campaign: str, as_of: datetime
) -> None:
    """Queue a message to the holder of each line from `first` to `last` that stands so, once per line and status.

    `campaign` is its title. A line that carries a debt is nothing to write about.
    """
    await tx.execute(
        _TOLD,
        {"id": run.id, "status": str(status), "first": first, "last": last, "campaign": campaign, "as_of": as_of,
         "currency": run.currency},
    )  # fmt: skip


async def count_lines(tx: Tx, distribution_id: str) -> dict[LineStatus, tuple[int, int]]:
    """By status: how many lines, and their net in minor units."""
    rows = await (
        await tx.execute(
            """select status, count(*)::int as n, coalesce(sum(net_minor), 0)::bigint as minor
                 from distribution_lines where distribution_id = %s group by status""",
            (distribution_id,),
        )
    ).fetchall()
    return {LineStatus(row["status"]): (row["n"], row["minor"]) for row in rows}


async def lines_page(
    tx: Tx, distribution_id: str, *, status: LineStatus | None, after: int, limit: int
) -> list[DistributionLine]:
    """Lines after number `after`, in order."""
    return await read_all(
        tx,
        DistributionLine,
        """select * from distribution_lines where distribution_id = %s and line_no > %s
             and (%s::text is null or status = %s) order by line_no limit %s""",
        (distribution_id, after, status and str(status), status and str(status), limit),
    )


async def lines_of_holder(tx: Tx, holder_id: str, before: tuple[datetime, str] | None, limit: int) -> list[DictRow]:
    """A person's lines of runs that have begun to pay, newest first, with `campaign_id`, `currency`, the period and
    `created_at` of the run."""
    at, last = before or LATEST
    return await (
        await tx.execute(
            """select l.*, d.campaign_id, d.currency, d.period_start, d.period_end, d.record_date, d.created_at
                 from distribution_lines l
                 join distributions d on (d.tenant_id, d.mode, d.id) = (l.tenant_id, l.mode, l.distribution_id)
                where l.holder_id = %s and d.status in ('paying', 'partially_paid', 'paid')
                  and (d.created_at, d.id) < (%s, %s)
                order by d.created_at desc, d.id desc limit %s""",
            (holder_id, at, last, limit),
        )
    ).fetchall()
