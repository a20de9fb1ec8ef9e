"""A campaign's money, from its investors to its owner or back: rows held against the ledger. For the audit role; changes nothing.

Each check is one statement, and so sees one instant: rows and money change in one transaction, and agree at every one.
"""

from typing import Final

from infra.database import Tx
from models.chargeback import LEFT_ESCROW

LIMIT: Final = 1_000

_HELD: Final = """
held as (
    select a.tenant_id, a.mode, a.code, -sum(b.posted_minor) as minor
      from ledger_accounts a
      join ledger_balances b on b.tenant_id = a.tenant_id and b.mode = a.mode and b.account_id = a.id
     where a.code like 'escrow:%' or a.code like 'proceeds:%' group by 1, 2, 3
)
"""

# Escrow = captured - refunded - charged back - released - returned. A refund moves its investment and the money together.
_ESCROW: Final = f"""
with {_HELD}, captured as (
    select tenant_id, mode, campaign_id, sum(amount_minor) as minor from investments i
     where status in ('captured', 'refunding') and not {LEFT_ESCROW} group by 1, 2, 3
), released as (
    select tenant_id, mode, campaign_id, sum(amount_minor) as minor from tranches where status = 'released' group by 1, 2, 3
), returned as (
    select v.tenant_id, v.mode, v.campaign_id, sum(h.share_minor) as minor
      from milestone_votes v
      join milestone_holders h on h.tenant_id = v.tenant_id and h.mode = v.mode and h.vote_id = v.id and h.status = 'credited'
     group by 1, 2, 3
)
select c.tenant_id || '/' || c.mode || ' escrow of campaign ' || c.id as subject,
       'captured ' || coalesce(i.minor, 0) || ' less released ' || coalesce(t.minor, 0) || ' and returned '
       || coalesce(r.minor, 0) || ', the ledger holds ' || coalesce(h.minor, 0) as detail
  from campaigns c
  left join captured i on i.tenant_id = c.tenant_id and i.mode = c.mode and i.campaign_id = c.id
  left join released t on t.tenant_id = c.tenant_id and t.mode = c.mode and t.campaign_id = c.id
  left join returned r on r.tenant_id = c.tenant_id and r.mode = c.mode and r.campaign_id = c.id
  left join held h on h.tenant_id = c.tenant_id and h.mode = c.mode and h.code = 'escrow:' || c.id || ':' || c.currency
 where coalesce(i.minor, 0) - coalesce(t.minor, 0) - coalesce(r.minor, 0) <> coalesce(h.minor, 0)
"""  # noqa: S608  constant text

_PROCEEDS: Final = f"""
with {_HELD}, owed as (
    select tenant_id, mode, 'proceeds:' || campaign_id || ':' || currency as code,
           sum(amount_minor - fee_minor) filter (where credited_at is null) as minor
      from tranches where status = 'released' group by 1, 2, 3
), sent as (
    select tenant_id, mode, source_account as code, sum(amount_minor) as minor from payouts
     where source_account like 'proceeds:%' and status = 'succeeded' group by 1, 2, 3
), kept as (
    select * from held where code like 'proceeds:%'
)
select concat_ws('/', coalesce(o.tenant_id, k.tenant_id), coalesce(o.mode, k.mode)) || ' ' || coalesce(o.code, k.code) as subject,
       'released and not in the wallet ' || coalesce(o.minor, 0) || ' less sent ' || coalesce(s.minor, 0)
       || ', the ledger holds ' || coalesce(k.minor, 0) as detail
  from owed o
  full join kept k on k.tenant_id = o.tenant_id and k.mode = o.mode and k.code = o.code
  left join sent s on s.tenant_id = coalesce(o.tenant_id, k.tenant_id) and s.mode = coalesce(o.mode, k.mode)
       and s.code = coalesce(o.code, k.code)
 where coalesce(o.minor, 0) - coalesce(s.minor, 0) <> coalesce(k.minor, 0)
"""  # noqa: S608  constant text

# Tranche by tranche: what left the escrow, and the fee of it.
_RELEASED: Final = """
with booked as (
    select t.tenant_id, t.mode, split_part(t.key, '/', 2) as id, sum(t.amount_minor) as amount,
           coalesce(sum(t.amount_minor) filter (where c.code like 'platform_fees:%'), 0) as fee
      from ledger_transfers t
      join ledger_accounts c on c.tenant_id = t.tenant_id and c.mode = t.mode and c.id = t.credit_id
     where t.event = 'tranche_released' group by 1, 2, 3
), released as (
    select * from tranches where status = 'released' and amount_minor > 0
)
select concat_ws('/', coalesce(r.tenant_id, b.tenant_id), coalesce(r.mode, b.mode)) || ' tranche ' || coalesce(r.id, b.id)
           as subject,
       case when r.id is null then 'is not released' else 'releases ' || r.amount_minor || ', fee ' || r.fee_minor end
       || ', the ledger ' || case when b.id is null then 'nothing' else b.amount || ', fee ' || b.fee end as detail
  from released r full join booked b on b.tenant_id = r.tenant_id and b.mode = r.mode and b.id = r.id
 where (r.amount_minor, r.fee_minor) is distinct from (b.amount, b.fee)
"""

_PLANS: Final = """
select p.tenant_id || '/' || p.mode || ' plan of campaign ' || p.id as subject,
       'plans ' || p.amount_minor || ', its tranches ' || coalesce(sum(t.amount_minor), 0) as detail
  from milestone_plans p
  left join tranches t on t.tenant_id = p.tenant_id and t.mode = p.mode and t.campaign_id = p.id
 group by p.tenant_id, p.mode, p.id, p.amount_minor having p.amount_minor <> coalesce(sum(t.amount_minor), 0)
"""

# What of a line was of charged-back pledges is nobody's but their providers'.
_RETURNED: Final = """
with booked as (
    select t.tenant_id, t.mode, split_part(t.key, '/', 2) as vote_id, split_part(t.key, '/', 3)::int as line_no,
           max(split_part(c.code, ':', 2)) filter (where t.event = 'escrow_returned') as holder_id,
           sum(t.amount_minor)::bigint as share_minor
      from ledger_transfers t
      join ledger_accounts c on c.tenant_id = t.tenant_id and c.mode = t.mode and c.id = t.credit_id
     where t.event in ('escrow_returned', 'pledge_charged_back') and t.key like 'return/%' group by 1, 2, 3, 4
), credited as (
    select * from milestone_holders where status = 'credited'
)
select concat_ws('/', coalesce(l.tenant_id, b.tenant_id), coalesce(l.mode, b.mode)) || ' vote '
       || coalesce(l.vote_id, b.vote_id) || ' line ' || coalesce(l.line_no, b.line_no) as subject,
       case when l.line_no is null then 'is not returned' else 'returns ' || l.share_minor || ' to ' || l.holder_id end
       || ', the ledger ' || coalesce(b.share_minor || ' to ' || coalesce(b.holder_id, 'no holder'), 'nothing') as detail
  from credited l
  full join booked b on b.tenant_id = l.tenant_id and b.mode = l.mode and b.vote_id = l.vote_id and b.line_no = l.line_no
 where (l.holder_id, l.share_minor) is distinct from (coalesce(b.holder_id, l.holder_id), b.share_minor)
union all
select v.tenant_id || '/' || v.mode || ' vote ' || v.id, 'returns ' || v.pot_minor || ', its lines '
       || coalesce(sum(h.share_minor), 0)
  from milestone_votes v
  left join milestone_holders h on h.tenant_id = v.tenant_id and h.mode = v.mode and h.vote_id = v.id
 group by v.tenant_id, v.mode, v.id, v.pot_minor having v.pot_minor <> coalesce(sum(h.share_minor), 0)
"""

# Pledge by pledge: before the funding all of it, out of what goes back at most that; against the provider it was paid through.
_CHARGED_BACK: Final = """
with booked as (
    select t.tenant_id, t.mode, t.amount_minor, d.code as source, c.code as target, t.key like 'chargeback/%' as whole,
           split_part(t.key, '/', case when t.key like 'chargeback/%' then 2 else 4 end) as id
      from ledger_transfers t
      join ledger_accounts d on d.tenant_id = t.tenant_id and d.mode = t.mode and d.id = t.debit_id
      join ledger_accounts c on c.tenant_id = t.tenant_id and c.mode = t.mode and c.id = t.credit_id
     where t.event = 'pledge_charged_back'
)
select b.tenant_id || '/' || b.mode || ' chargeback of investment ' || b.id as subject,
       'the ledger moves ' || b.amount_minor || ' from ' || b.source || ' to ' || b.target || ', the investment '
       || case when i.id is null then 'is not there' else 'of ' || i.amount_minor || ' is ' || i.status
               || case when i.charged_back_at is null then ', not charged back' else '' end end as detail
  from booked b
  left join investments i on i.tenant_id = b.tenant_id and i.mode = b.mode and i.id = b.id
 where (i.status = 'captured' and i.charged_back_at is not null and b.amount_minor <= i.amount_minor
        and (b.amount_minor = i.amount_minor or not b.whole) and b.source = 'escrow:' || i.campaign_id || ':' || i.currency
        and b.target = case i.provider when 'wallet' then 'suspense:' else 'provider:' || i.provider || ':' end || i.currency)
       is not true
"""


async def wrong_releases(tx: Tx) -> list[str]:
    """Campaigns, tranches, votes and lines that differ from the ledger or from each other; in words, at most LIMIT a check."""
    found = []
    for check in (_ESCROW, _PROCEEDS, _RELEASED, _PLANS, _RETURNED, _CHARGED_BACK):
        rows = await (await tx.execute(f"{check} limit {LIMIT}")).fetchall()
        found += [f"{row['subject']}: {row['detail']}" for row in rows]
    return found
