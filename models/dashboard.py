"""Reads what dashboards show: an investor's flows and what comes next, an owner's campaigns, a tenant's counts.

What happened is taken from timelines and the ledger, so days are business days of the tenant's zone.
"""

from typing import Any, Final

from domain.dashboard import Flow
from infra.database import Tx, fetch_one
from models.investment import MONEY_MOVED

MAX_CAMPAIGNS: Final = 200
"""How many campaigns a dashboard lists, newest first; its sums are of all."""

_FLOWS: Final = f"""
with zone as (select zone from tenants)
select m.campaign_id, m.currency, (m.at at time zone zone.zone)::date as day, true as capital, sum(m.minor)::bigint as minor
  from zone cross join ({MONEY_MOVED}) m
 group by 1, 2, 3, m.event
union all
select d.campaign_id, d.currency, (t.effective_at at time zone zone.zone)::date, false, sum(l.net_minor)::bigint
  from zone cross join distribution_lines l
  join distributions d on (d.tenant_id, d.mode, d.id) = (l.tenant_id, l.mode, l.distribution_id)
  join ledger_transfers t on (t.tenant_id, t.mode) = (l.tenant_id, l.mode) and t.part = 1
   and t.key = case l.status when 'paid' then 'payout/' || l.payout_id || '/post'
                    else 'distribution/' || l.distribution_id || '/' || l.line_no end
 where l.holder_id = %(holder)s and l.status in ('credited_to_wallet', 'paid') and not d.dry_run
 group by 1, 2, 3
 order by 3, 1
"""  # noqa: S608 - constant text
_TITLES: Final = """
select c.id, c.title, c.status from campaigns c
 where exists (select from investments i where (i.tenant_id, i.mode, i.campaign_id) = (c.tenant_id, c.mode, c.id)
                  and i.investor_id = %(user)s and i.status in ('held', 'captured', 'refunding'))
 order by c.created_at desc, c.id desc limit %(limit)s
"""
_UPCOMING: Final = """
select 'payment' as kind, i.campaign_id, c.title, p.expires_at as at, i.amount_minor as minor, i.currency
  from investments i
  join campaigns c on (c.tenant_id, c.mode, c.id) = (i.tenant_id, i.mode, i.campaign_id)
  join payments p on (p.tenant_id, p.mode, p.id) = (i.tenant_id, i.mode, i.payment_id)
 where i.investor_id = %(user)s and p.status = 'requires_action'
union all
select 'decision', i.campaign_id, c.title, c.deadline_at, sum(i.amount_minor)::bigint, i.currency
  from investments i
  join campaigns c on (c.tenant_id, c.mode, c.id) = (i.tenant_id, i.mode, i.campaign_id)
 where i.investor_id = %(user)s and i.status = 'held' and c.status in ('live', 'paused', 'waiting_funds')
 group by i.campaign_id, c.title, c.deadline_at, i.currency
union all
select 'distribution', d.campaign_id, c.title, null, l.net_minor, d.currency
  from distribution_lines l
  join distributions d on (d.tenant_id, d.mode, d.id) = (l.tenant_id, l.mode, l.distribution_id)
  join campaigns c on (c.tenant_id, c.mode, c.id) = (d.tenant_id, d.mode, d.campaign_id)
 where l.holder_id = %(user)s and l.net_minor > 0 and not d.dry_run
   and d.status in ('approved', 'funding', 'paying', 'partially_paid')
   and l.status in ('calculated', 'queued', 'held', 'sending', 'unknown', 'failed', 'returned')
 order by at nulls last, campaign_id limit %(limit)s
"""
_OWNED: Final = """
select c.id, c.title, c.status, c.currency, c.goal_minor, c.pledged_minor, c.held_minor, c.captured_minor, c.deadline_at,
       s.investors, s.sources
  from campaigns c
 cross join lateral (
       select coalesce(sum(g.investors), 0)::int as investors,
              coalesce(jsonb_object_agg(g.provider, g.minor) filter (where g.provider is not null), '{}') as sources
         from (select i.provider, count(distinct i.investor_id) as investors, sum(i.amount_minor) as minor
                 from investments i
                where (i.tenant_id, i.mode, i.campaign_id) = (c.tenant_id, c.mode, c.id) and i.status in ('held', 'captured')
                group by i.provider) g) s
 where c.owner_id = %(user)s order by c.created_at desc, c.id desc limit %(limit)s
"""
_OBLIGATIONS: Final = """
select d.id, d.campaign_id, c.title, d.status, d.currency, d.share_minor + d.added_minor as minor, d.period_end
  from distributions d
  join campaigns c on (c.tenant_id, c.mode, c.id) = (d.tenant_id, d.mode, d.campaign_id)
 where c.owner_id = %(user)s and not d.dry_run and d.status in ('approved', 'funding') and not d.hold_placed
 order by d.created_at, d.id limit %(limit)s
"""
_TENANT: Final = """
select (select coalesce(jsonb_object_agg(status, n), '{}') from (select status, count(*) as n from campaigns group by status) x)
           as campaigns,
       (select coalesce(jsonb_object_agg(status, n), '{}') from (select status, count(*) as n from distributions
           where not dry_run group by status) x) as distributions,
       (select coalesce(jsonb_object_agg(kind, n), '{}') from (select kind, count(*) as n from cases
           where status = 'open' group by kind) x) as cases,
       (select coalesce(jsonb_object_agg(currency, m), '{}') from (
           select currency, jsonb_build_object('pledged', sum(pledged_minor), 'held', sum(held_minor),
                                               'captured', sum(captured_minor)) as m
             from campaigns group by currency) x) as money,
       (select count(*)::int from users where role <> 'admin' and disabled_at is null) as people
"""


async def flows_of(tx: Tx, user_id: str) -> list[Flow]:
    """What campaigns took from the user and gave, summed by campaign and day, oldest first."""
    rows = await (await tx.execute(_FLOWS, {"holder": user_id})).fetchall()
    return [Flow(row["campaign_id"], row["currency"], row["day"], row["minor"], row["capital"]) for row in rows]


async def campaigns_of(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The campaigns the user has money in: id, title, status."""
    return await (await tx.execute(_TITLES, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def upcoming_of(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """What will happen to the user's money: payments to finish, decisions, distributions. Soonest first."""
    return await (await tx.execute(_UPCOMING, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def owned_by(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The user's campaigns: counters, investors whose money counts, and how much came from which source."""
    return await (await tx.execute(_OWNED, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def obligations_of(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The distributions the user's campaigns have promised, and that nobody has funded."""
    return await (await tx.execute(_OBLIGATIONS, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def tenant_counts(tx: Tx) -> dict[str, Any]:
    """The tenant's things by state, and its campaigns' money by currency."""
    row = await fetch_one(tx, _TENANT)
    assert row is not None
    return row
