"""Reads what a statement says: the wallet from the ledger, the investments from their timelines."""

from typing import Final

from domain.errors import Conflict
from domain.statement import MAX_LINES, Holding, Movement, Period, Statement, Trade
from infra.database import Tx, fetch_one
from models.investment import MONEY_MOVED
from models.user import get_user

# One statement, so that the opening balance and the movements are of one moment. A hold moves nothing; its `post` does.
# Within a day in the order of the journal: clocks of two processes may differ by a moment, and no balance was ever below zero.
_WALLET: Final = """
with moved as (
    select t.id, t.part, t.event, t.key, t.effective_at, t.amount_minor as minor, t.phase
      from ledger_accounts a join ledger_transfers t on t.credit_id = a.id where a.code = %(code)s
    union all
    select t.id, t.part, t.event, t.key, t.effective_at, -t.amount_minor, t.phase
      from ledger_accounts a join ledger_transfers t on t.debit_id = a.id where a.code = %(code)s
), final as (
    select * from moved where phase in ('single', 'post', 'reversal') and effective_at < %(ends)s
)
(select 0 as place, null::date as day, null as event, null as key, null as at, coalesce(sum(minor), 0)::bigint as minor, 0 as id
   from final where effective_at < %(begins)s)
union all
(select 1, (effective_at at time zone %(zone)s)::date, event, key, effective_at, sum(minor)::bigint, id
   from final where effective_at >= %(begins)s group by id, event, key, effective_at
  order by 2, id limit %(limit)s)
order by place, day, id
"""
_TRADES: Final = f"""
select m.id, c.title, m.at, m.event, m.minor
  from ({MONEY_MOVED}) m join campaigns c on c.id = m.campaign_id
 where m.currency = %(currency)s and m.at >= %(begins)s and m.at < %(ends)s
 order by m.at, m.id, m.seq limit %(limit)s
"""  # noqa: S608 - constant text
_HOLDINGS: Final = f"""
select c.id, c.title, -sum(m.minor)::bigint as minor
  from ({MONEY_MOVED}) m join campaigns c on c.id = m.campaign_id
 where m.currency = %(currency)s and m.at < %(ends)s
 group by c.id, c.title having sum(m.minor) < 0 order by c.title, c.id limit %(limit)s
"""  # noqa: S608 - constant text


async def statement_of(tx: Tx, user_id: str, currency: str, period: Period, *, limit: int = MAX_LINES) -> Statement:
    """The user's statement. Raises Conflict `statement_too_long` when a part of it has more than `limit` lines."""
    institution = await fetch_one(tx, "select name from tenants")
    holder = await get_user(tx, user_id)
    assert institution is not None and holder is not None
    params = {
        "code": f"wallet:{user_id}:{currency}", "holder": user_id, "currency": currency, "limit": limit + 1,
        "begins": period.begins_at, "ends": period.ends_at, "zone": period.zone,
    }  # fmt: skip
    opening, *moved = await (await tx.execute(_WALLET, params)).fetchall()
    trades = await (await tx.execute(_TRADES, params)).fetchall()
    holdings = await (await tx.execute(_HOLDINGS, params)).fetchall()
    if any(len(part) > limit for part in (moved, trades, holdings)):
        raise Conflict("statement_too_long", f"More than {limit} lines: ask for a shorter period.", field="to")
    return Statement(
        holder=holder.name,
        institution=institution["name"],
        currency=currency,
        period=period,
        opening_minor=opening["minor"],
        movements=[Movement(row["at"], row["event"], row["key"], row["minor"]) for row in moved],
        trades=[Trade(row["at"], row["event"], row["id"], row["title"], row["minor"]) for row in trades],
        holdings=[Holding(row["id"], row["title"], row["minor"]) for row in holdings],
    )
