"""Investments. A change of status moves the campaign's counters in the same statement list: they cannot drift apart."""

from datetime import datetime
from typing import ClassVar, LiteralString

from sqlmodel import Field

from domain.investment import COMMITTED, INVESTMENT, InvestmentStatus, RefundTo, bucket
from domain.states import Machine
from infra.database import Tx
from models.base import Scoped, by_id, insert, move
from models.campaign import shift


class Investment(Scoped, table=True):
    """One pledge of one investor. `amount_minor` in minor units of `currency`; `created_at` is business time.
    From `charged_back_at` on it counts for no distribution, and nothing of it is given back (`models/chargeback.py`)."""

    __tablename__: ClassVar[str] = "investments"

    id: str = Field(primary_key=True)
    campaign_id: str
    investor_id: str
    payment_id: str
    provider: str
    amount_minor: int
    currency: str
    status: InvestmentStatus
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    charged_back_at: datetime | None = None
    refund_to: RefundTo = RefundTo.SOURCE
    created_at: datetime


async def add_investment(tx: Tx, investment: Investment) -> None:
    """Insert it and count it. The campaign's row must be locked by the caller, which has checked the limits."""
    await insert(tx, investment)
    await shift(tx, investment.campaign_id, investment.amount_minor, None, bucket(investment.status))


async def move_investment(
    tx: Tx, investment: Investment, target: InvestmentStatus, *, wanted: bool = False,
    machine: Machine[InvestmentStatus] = INVESTMENT,
) -> bool:  # fmt: skip
    """Change status and counters together; False (and nothing changed) when the present status forbids it.

    `investment` must have been read under lock in this transaction; it is updated in place. `wanted`: see `shift`.
    """
    if not await move(tx, Investment, machine, investment.id, target):
        return False
    source = bucket(investment.status)
    await shift(tx, investment.campaign_id, investment.amount_minor, source, bucket(target), wanted=wanted)
    investment.status = target
    return True


async def get_investment(tx: Tx, investment_id: str, *, lock: bool = False) -> Investment | None:
    """One investment."""
    return await by_id(tx, Investment, investment_id, lock=lock)


async def committed_by(tx: Tx, campaign_id: str, investor_id: str) -> int:
    """What this investor already has in the campaign, in minor units. Exact under the campaign's lock."""
    row = await (
        await tx.execute(
            """select coalesce(sum(amount_minor), 0)::bigint as total from investments
               where campaign_id = %s and investor_id = %s and status = any(%s)""",
            (campaign_id, investor_id, [str(s) for s in COMMITTED]),
        )
    ).fetchone()
    return int(row["total"]) if row else 0


MONEY_MOVED: LiteralString = """
select i.id, i.campaign_id, i.currency, s.at, s.seq, s.event,
       case s.event when 'investment_captured' then -i.amount_minor else i.amount_minor end as minor
  from investments i
 cross join lateral (
       select t.at, t.seq, t.event, lag(t.event) over (order by t.seq) as before
         from timeline t
        where (t.tenant_id, t.mode, t.entity_id) = (i.tenant_id, i.mode, i.id)
          and t.event in ('investment_captured', 'investment_refunded', 'investment_credited_to_wallet',
                          'investment_charged_back')) s
 where i.investor_id = %(holder)s and s.event is distinct from s.before
union all
select h.vote_id, v.campaign_id, c.currency, h.credited_at, h.line_no, 'milestone_returned', t.amount_minor
  from milestone_holders h
  join ledger_transfers t on (t.tenant_id, t.mode, t.key) = (h.tenant_id, h.mode, 'return/' || h.vote_id || '/' || h.line_no)
  join milestone_votes v on (v.tenant_id, v.mode, v.id) = (h.tenant_id, h.mode, h.vote_id)
  join campaigns c on (c.tenant_id, c.mode, c.id) = (v.tenant_id, v.mode, v.campaign_id)
 where h.holder_id = %(holder)s and h.status = 'credited'
"""
"""When the holder's money went into which campaign (negative) and came back, from a pledge or, under the vote's id, from what a
missed milestone left: as much of a line as came into the wallet. A refund that failed leaves it where it was: the pledge is
captured once more in its timeline, and not a second time here."""
