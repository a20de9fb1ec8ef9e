"""What the feed of campaigns is sorted by and moves with money and time, worked out afterwards: progress, investors, score.

The score says who is shown first under `sort=recommended`. It is a sum of whole points, 1,000 at most, and nothing for a
campaign that takes no pledges now:

    progress    up to 400   held and captured money, as a part of the goal
    investors   up to 250   50 each for 1, 3, 7, 15 and 31 people whose money is held or captured
    time_left   up to 200   50 within 30 days of the deadline, 100 within 14, 150 within 7, 200 within 3
    news        up to 150   150 for a week after the owner's last update, 100 for the second, 50 until the thirtieth day

The same rows always make the same points. `rescore_at` is when time alone will have changed them, to the next full hour: were it
to the second, a large feed would be another one every few seconds for the sake of a few points. No table classes here: the
relay's process, which does this, loads none.
"""

from dataclasses import dataclass
from typing import Final

from contracts.base import Mode, Scope
from infra.database import Tx, fetch_one

_BATCH: Final = 5_000

_AT_WORK: Final = """
select distinct tenant_id, mode from feed_changes
union
select distinct tenant_id, mode from campaign_feed where rescore_at <= now()
union
select distinct tenant_id, mode from campaign_health where look_at <= now()
limit 1000
"""
_OWN: Final = """
insert into feed_versions (tenant_id, mode)
values (nullif(current_setting('app.tenant', true), '')::uuid, current_setting('app.mode', true)) on conflict do nothing
"""
_TAKE: Final = """
with gone as (
    delete from feed_changes
    where id <= (select max(id) from (select id from feed_changes order by id limit %s) first) returning campaign_id
)
select count(*) as taken, array_agg(distinct campaign_id) filter (where campaign_id is not null) as ids from gone
"""
_COUNT: Final = "update feed_versions set version = version + %s"
_SCORE: Final = """
with clock as (
    select coalesce((select now_at from test_clocks), now()) as now_at
), wanted as (
    select campaign_id from campaign_feed where campaign_id = any(%(ids)s)
    union
    select due.campaign_id from (
        select f.campaign_id from campaign_feed f, clock where f.rescore_at <= clock.now_at
        order by f.rescore_at limit %(batch)s) due
), facts as (
    select c.id, c.status = 'live' as open, c.goal_minor, c.held_minor + c.captured_minor as raised_minor,
        c.deadline_at, clock.now_at,
        case when c.held_minor + c.captured_minor = 0 then 0 else (
            select count(distinct i.investor_id) from investments i
            where i.campaign_id = c.id and i.status in ('held', 'captured')) end as investors,
        (select max(u.created_at) from campaign_updates u where u.campaign_id = c.id) as news_at
    from wanted w join campaigns c on c.id = w.campaign_id cross join clock
), parts as (
    select id, investors,
        least(div(raised_minor::numeric * 10000, goal_minor), 1000000000)::bigint as progress_bps,
        case when open then least(div(raised_minor::numeric * 400, goal_minor), 400) else 0 end as progress,
        case when not open or investors < 1 then 0 when investors < 3 then 50 when investors < 7 then 100
            when investors < 15 then 150 when investors < 31 then 200 else 250 end as backers,
        case when not open or deadline_at <= now_at then 0
            when deadline_at - now_at <= interval '3 days' then 200 when deadline_at - now_at <= interval '7 days' then 150
            when deadline_at - now_at <= interval '14 days' then 100
            when deadline_at - now_at <= interval '30 days' then 50 else 0 end as time_left,
        case when not open or news_at is null then 0 when now_at - news_at < interval '7 days' then 150
            when now_at - news_at < interval '14 days' then 100 when now_at - news_at < interval '30 days' then 50
            else 0 end as news,
        case when open then (
            select date_trunc('hour', min(step)) + interval '1 hour' from (values
                (deadline_at - interval '30 days'), (deadline_at - interval '14 days'), (deadline_at - interval '7 days'),
                (deadline_at - interval '3 days'), (deadline_at), (news_at + interval '7 days'),
                (news_at + interval '14 days'), (news_at + interval '30 days')) steps(step)
            where step > now_at) end as rescore_at
    from facts
), changed as (
    update campaign_feed f set progress_bps = p.progress_bps, investors = p.investors, score_progress = p.progress,
        score_investors = p.backers, score_time_left = p.time_left, score_news = p.news, rescore_at = p.rescore_at
    from parts p
    where f.campaign_id = p.id and (f.progress_bps, f.investors, f.score_progress, f.score_investors, f.score_time_left,
        f.score_news, f.rescore_at)
        is distinct from (p.progress_bps, p.investors, p.progress, p.backers, p.time_left, p.news, p.rescore_at)
    returning 1
)
select count(*) as changed, (select count(*) from wanted) as looked_at from changed
"""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one round over a tenant's feed did. `more`: as much as fits in a round was there, so there may be more.
    `ids`: the campaigns that were changed."""

    changes: int
    rescored: int
    more: bool
    ids: tuple[str, ...] = ()


async def at_work(tx: Tx) -> list[Scope]:
    """Whose feeds have something to do, at most a thousand; asked by the relay's role, which sees every tenant."""
    rows = await (await tx.execute(_AT_WORK)).fetchall()
    return [Scope(tenant_id=row["tenant_id"], mode=Mode(row["mode"])) for row in rows]


async def refresh(tx: Tx, batch: int = _BATCH) -> Refreshed | None:
    """Fold what was changed into the feed's version, and score what it concerns, in the transaction's scope.

    None when another transaction is at it. The version of before, plus what was changed since, is the version after,
    plus one if anything shown is now another: whoever reads in between sees the one or the other.
    """
    if await fetch_one(tx, "select from feed_versions") is None:
        await tx.execute(_OWN)
    if await fetch_one(tx, "select from feed_versions for update skip locked") is None:
        return None
    taken = await fetch_one(tx, _TAKE, (batch,))
    assert taken is not None
    done = await fetch_one(tx, _SCORE, {"ids": taken["ids"] or [], "batch": batch})
    assert done is not None
    growth = taken["taken"] + (1 if done["changed"] else 0)
    if growth:
        await tx.execute(_COUNT, (growth,))
    more = taken["taken"] == batch or done["looked_at"] >= batch
    return Refreshed(taken["taken"], done["changed"], more, tuple(taken["ids"] or ()))
