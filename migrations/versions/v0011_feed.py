# ruff: noqa: S608 - put together from constants of this file
"""The feed of campaigns: what lists are filtered, sorted and searched by, beside the campaigns; slugs; covers.

A pledge changes its campaign's row, and must not pay for the feed's indexes. So what changes seldom is copied here by
triggers at once, and what moves with the money is worked out afterwards (`models/feed.py`), from the rows of
`feed_changes` that every change of a campaign leaves. What was ever changed is counted: `feed_versions.version` and the
rows of `feed_changes` together grow with each commit that changes something a list shows, and folding one into the
other does not change their sum. That sum is the feed's ETag; no transaction waits for another to move it.
"""

from alembic import op

from migrations.helpers import SCOPE_CHECK, secure

revision = "0011"
down_revision = "0010"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"

# What is told of a campaign by other means than the API has a slug, too: then it is the id's.
SLUGS = """
alter table campaigns add column slug text;
alter table campaigns no force row level security;
update campaigns set slug = coalesce(nullif(trim(both '-' from
    left(regexp_replace(lower(title), '[^a-z0-9]+', '-', 'g'), 48)), ''), 'campaign') || '-' || right(lower(id), 12);
alter table campaigns force row level security;
alter table campaigns alter column slug set not null;
create unique index campaigns_by_slug on campaigns (tenant_id, mode, slug);
create function campaign_slug_given() returns trigger language plpgsql as $$
begin
    new.slug := replace(lower(new.id), '_', '-');
    return new;
end $$;
create trigger campaigns_slug before insert on campaigns for each row when (new.slug is null)
    execute function campaign_slug_given();
"""

# No foreign keys to the campaigns: only the triggers below write here, and the check of each row of a large insert costs
# more than the row.
TABLES = f"""
create table campaign_feed (
    {SCOPE},
    campaign_id text not null,
    owner_id text not null,
    public boolean not null,
    status text not null,
    kind text not null,
    currency text not null,
    goal_minor bigint not null,
    deadline_at timestamptz not null,
    created_at timestamptz not null,
    progress_bps bigint not null default 0,
    investors int not null default 0,
    score_progress smallint not null default 0,
    score_investors smallint not null default 0,
    score_time_left smallint not null default 0,
    score_news smallint not null default 0,
    score smallint generated always as (score_progress + score_investors + score_time_left + score_news) stored,
    rescore_at timestamptz,
    primary key (tenant_id, mode, campaign_id)
);
create index campaign_feed_newest on campaign_feed (tenant_id, mode, public, created_at desc, campaign_id desc);
create index campaign_feed_funded on campaign_feed (tenant_id, mode, public, progress_bps desc, campaign_id desc);
create index campaign_feed_scored on campaign_feed (tenant_id, mode, public, score desc, campaign_id desc);
create index campaign_feed_ending on campaign_feed (tenant_id, mode, deadline_at, campaign_id) where status = 'live';
create index campaign_feed_owners on campaign_feed (tenant_id, mode, owner_id, created_at desc, campaign_id desc);
create index campaign_feed_hidden on campaign_feed (tenant_id, mode, owner_id) where not public;
create index campaign_feed_due on campaign_feed (rescore_at) where rescore_at is not null;
create table feed_versions (
    {SCOPE},
    version bigint not null default 0,
    primary key (tenant_id, mode)
);
create table feed_changes (
    {SCOPE},
    id bigint generated always as identity,
    campaign_id text,
    primary key (tenant_id, mode, id)
);
"""

# A policy's conditions come before all others, but for those that cannot leak (a function that says so is the superuser's
# to make); `@@` is none, so under a policy no index for words is ever used. The words are therefore behind a function,
# which filters by the transaction's scope itself. Nobody but the owner may read the table.
WORDS = f"""
create extension if not exists btree_gin;
create table campaign_words (
    {SCOPE},
    campaign_id text not null,
    words tsvector not null,
    primary key (tenant_id, mode, campaign_id)
);
create index campaign_words_found on campaign_words using gin (tenant_id, mode, words);
alter table campaign_words enable row level security;
create function campaigns_matching(wanted text) returns setof text language sql stable security definer
    set search_path = public, pg_temp as $$
    select campaign_id from campaign_words where {SCOPE_CHECK} and words @@ websearch_to_tsquery('simple', wanted)
$$;
create function campaign_tsvector(title text, description text) returns tsvector language sql immutable as $$
    select setweight(to_tsvector('simple', title), 'A') || to_tsvector('simple', description)
$$;
create function campaign_public(status text, go_live_at timestamptz) returns boolean language sql immutable as $$
    select status not in ('draft', 'submitted', 'changes_requested', 'rejected')
        and (go_live_at is not null or status not in ('canceled', 'refunding', 'closed_failed'))
$$;
"""

_FEED_ROW = """insert into campaign_feed
        (tenant_id, mode, campaign_id, owner_id, public, status, kind, currency, goal_minor, deadline_at, created_at)
    select tenant_id, mode, id, owner_id, campaign_public(status, go_live_at), status, kind, currency, goal_minor,
        deadline_at, created_at from {};"""
_WORDS_ROW = """insert into campaign_words (tenant_id, mode, campaign_id, words)
    select tenant_id, mode, id, campaign_tsvector(title, description) from {};"""
_CHANGE_ROW = "insert into feed_changes (tenant_id, mode, campaign_id) select tenant_id, mode, id from {};"

TRIGGERS = f"""
create function feed_campaign_added() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    {_FEED_ROW.format("added")}
    {_WORDS_ROW.format("added")}
    {_CHANGE_ROW.format("added")}
    return null;
end $$;
create function feed_campaign_shown() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    update campaign_feed set owner_id = new.owner_id, public = campaign_public(new.status, new.go_live_at),
        status = new.status, kind = new.kind, currency = new.currency, goal_minor = new.goal_minor,
        deadline_at = new.deadline_at
    where (tenant_id, mode, campaign_id) = (new.tenant_id, new.mode, new.id);
    if (old.title, old.description) is distinct from (new.title, new.description) then
        update campaign_words set words = campaign_tsvector(new.title, new.description)
        where (tenant_id, mode, campaign_id) = (new.tenant_id, new.mode, new.id);
    end if;
    return null;
end $$;
create function feed_changed() returns trigger language plpgsql as $$
begin
    insert into feed_changes (tenant_id, mode, campaign_id) values (new.tenant_id, new.mode, new.id);
    return null;
end $$;
create function feed_campaign_gone() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    delete from campaign_feed where (tenant_id, mode, campaign_id) = (old.tenant_id, old.mode, old.id);
    delete from campaign_words where (tenant_id, mode, campaign_id) = (old.tenant_id, old.mode, old.id);
    insert into feed_changes (tenant_id, mode) values (old.tenant_id, old.mode);
    return null;
end $$;
create function feed_news() returns trigger language plpgsql as $$
begin
    insert into feed_changes (tenant_id, mode, campaign_id) values (new.tenant_id, new.mode, new.campaign_id);
    return null;
end $$;
create function feed_time_moved() returns trigger language plpgsql as $$
begin
    insert into feed_changes (tenant_id, mode) values (new.tenant_id, new.mode);
    return null;
end $$;
create trigger campaigns_feed_added after insert on campaigns referencing new table as added for each statement
    execute function feed_campaign_added();
create trigger campaigns_feed_shown
    after update of owner_id, title, description, status, kind, currency, goal_minor, deadline_at, go_live_at on campaigns
    for each row execute function feed_campaign_shown();
create trigger campaigns_feed_changed after update on campaigns for each row execute function feed_changed();
create trigger campaigns_feed_gone after delete on campaigns for each row execute function feed_campaign_gone();
create trigger campaign_updates_feed after insert on campaign_updates for each row execute function feed_news();
create trigger test_clocks_feed after insert or update of now_at on test_clocks for each row
    execute function feed_time_moved();
"""

BEFORE = f"""
alter table campaigns no force row level security;
{_FEED_ROW.format("campaigns")}
{_WORDS_ROW.format("campaigns")}
{_CHANGE_ROW.format("campaigns")}
alter table campaigns force row level security;
"""

SECURED = [
    *secure("campaign_feed", app="select"),
    "grant update (progress_bps, investors, score_progress, score_investors, score_time_left, score_news, rescore_at)"
    " on campaign_feed to chama_app",
    *secure("feed_versions"),
    *secure("feed_changes", app="select, insert, delete"),
    # The relay finds whose feed has something to do; the doing is the app role's, tenant by tenant.
    *(
        statement
        for table, columns in (("campaign_feed", "tenant_id, mode, rescore_at"), ("feed_changes", "tenant_id, mode"))
        for statement in (
            f"grant select ({columns}) on {table} to chama_relay",
            f"create policy {table}_relay on {table} for select to chama_relay using (true)",
        )
    ),
    "revoke execute on function campaigns_matching from public",
    "grant execute on function campaigns_matching to chama_app",
]


def upgrade() -> None:
    for sql in (SLUGS, TABLES, WORDS, TRIGGERS, BEFORE, *SECURED):
        op.execute(sql)
