"""Reads what dashboards show: an investor's flows and what comes next, an owner's campaigns, a tenant's counts.

What happened is taken from timelines and the ledger, so days are business days of the tenant's zone.
"""

from typing import Any, Final

from domain.dashboard import Flow
from domain.payout import NOT_SENT
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
select 'vote', v.campaign_id, c.title, v.closes_at, h.weight_minor, c.currency
  from milestone_holders h
  join milestone_votes v on (v.tenant_id, v.mode, v.id) = (h.tenant_id, h.mode, h.vote_id)
  join campaigns c on (c.tenant_id, c.mode, c.id) = (v.tenant_id, v.mode, v.campaign_id)
 where h.holder_id = %(user)s and h.may_vote and v.outcome is null
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
_NOT_SENT: Final = [str(status) for status in sorted(NOT_SENT)]
# Released and neither in the wallet nor sent nor on its way (`models.milestone.is_sent`).
_UNSENT: Final = """case when t.status = 'released' and t.credited_at is null and
    (p.id is null or p.status = any(%(not_sent)s)) then t.amount_minor - t.fee_minor else 0 end"""
_PAYOUT: Final = "left join payouts p on (p.tenant_id, p.mode, p.id) = (t.tenant_id, t.mode, t.payout_id)"
_OWNED: Final = f"""
select c.id, c.title, c.status, c.currency, c.goal_minor, c.pledged_minor, c.held_minor, c.captured_minor, c.deadline_at,
       s.investors, s.sources,
       array(select w.kind from campaign_warnings w where w.campaign_id = c.id and w.cleared_at is null order by 1) as warnings,
       coalesce(r.in_escrow, c.captured_minor) as in_escrow_minor, coalesce(r.released, 0) as released_minor,
       coalesce(r.returned, 0) as returned_minor, coalesce(r.unsent, 0) as unsent_minor
  from campaigns c
 cross join lateral (
       select sum(case when t.status in ('released', 'returned') then 0 else t.amount_minor end)::bigint as in_escrow,
              sum(case when t.status = 'released' then t.amount_minor else 0 end)::bigint as released,
              sum(case when t.status = 'returned' then t.amount_minor else 0 end)::bigint as returned,
              sum({_UNSENT})::bigint as unsent
         from tranches t {_PAYOUT}
        where (t.tenant_id, t.mode, t.campaign_id) = (c.tenant_id, c.mode, c.id)) r
 cross join lateral (
       select coalesce(sum(g.investors), 0)::int as investors,
              coalesce(jsonb_object_agg(g.provider, g.minor) filter (where g.provider is not null), '{{}}') as sources
         from (select i.provider, count(distinct i.investor_id) as investors, sum(i.amount_minor) as minor
                 from investments i
                where (i.tenant_id, i.mode, i.campaign_id) = (c.tenant_id, c.mode, c.id) and i.status in ('held', 'captured')
                group by i.provider) g) s
 where c.owner_id = %(user)s order by c.created_at desc, c.id desc limit %(limit)s
"""  # noqa: S608 - constant text
_TRANCHES: Final = f"""
select c.id as campaign_id, c.title as campaign, t.number, t.title, t.status, t.due_at, t.amount_minor, t.currency,
       {_UNSENT} as unsent_minor
  from campaigns c join tranches t on (t.tenant_id, t.mode, t.campaign_id) = (c.tenant_id, c.mode, c.id) {_PAYOUT}
 where c.owner_id = %(user)s and (t.status not in ('released', 'returned') or {_UNSENT} > 0)
 order by t.due_at nulls last, c.id, t.number limit %(limit)s
"""  # noqa: S608 - constant text
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
       (select coalesce(jsonb_object_agg(kind, n), '{}') from (select kind, count(*) as n from campaign_warnings
           where cleared_at is null group by kind) x) as warnings,
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
    """What will happen to the user's money: payments to finish, decisions, votes, distributions. Soonest first."""
    return await (await tx.execute(_UPCOMING, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def owned_by(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The user's campaigns: counters, investors whose money counts, and how much came from which source."""
    return await (await tx.execute(_OWNED, {"user": user_id, "limit": MAX_CAMPAIGNS, "not_sent": _NOT_SENT})).fetchall()


async def tranches_of(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The tranches of the user's campaigns that still want something: not released or returned, or not sent. Soonest first."""
    return await (
        await tx.execute(_TRANCHES, {"user": user_id, "limit": MAX_CAMPAIGNS, "not_sent": _NOT_SENT})
    ).fetchall()


async def obligations_of(tx: Tx, user_id: str) -> list[dict[str, Any]]:
    """The distributions the user's campaigns have promised, and that nobody has funded."""
    return await (await tx.execute(_OBLIGATIONS, {"user": user_id, "limit": MAX_CAMPAIGNS})).fetchall()


async def tenant_counts(tx: Tx) -> dict[str, Any]:
    """The tenant's things by state, and its campaigns' money by currency."""
    row = await fetch_one(tx, _TENANT)
    assert row is not None
    return row
