# ruff: noqa: S608 - put together from constants of this file
"""The campaign's page: what its business does and where, its cover, its health; and words that very many campaigns have.

A category and a country are copied into `campaign_feed` like the other filters, each with an index: of two hundred and
forty-nine countries most have few campaigns, and an order's own index would be walked to its end for them.
"""

from alembic import op

from migrations.helpers import SCOPE_CHECK, secure

revision = "0016"
down_revision = "0015"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"

COLUMNS = """
alter table campaigns
    add column category text check (length(category) between 1 and 40),
    add column country text check (country ~ '^[A-Z]{2}$');
alter table campaign_feed add column category text, add column country text;
create index campaign_feed_categories on campaign_feed
    (tenant_id, mode, category, created_at desc, campaign_id desc) where category is not null;
create index campaign_feed_countries on campaign_feed
    (tenant_id, mode, country, created_at desc, campaign_id desc) where country is not null;
create trigger campaigns_business_fixed before update of category, country on campaigns for each row
    when (old.status not in ('draft', 'changes_requested')
        and (old.category, old.country) is distinct from (new.category, new.country))
    execute function campaign_terms_fixed();
"""

TRIGGERS = """
create or replace function feed_campaign_added() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into campaign_feed
        (tenant_id, mode, campaign_id, owner_id, public, status, kind, currency, goal_minor, deadline_at, created_at,
         category, country)
    select tenant_id, mode, id, owner_id, campaign_public(status, go_live_at), status, kind, currency, goal_minor,
        deadline_at, created_at, category, country from added;
    insert into campaign_words (tenant_id, mode, campaign_id, words)
    select tenant_id, mode, id, campaign_tsvector(title, description) from added;
    insert into feed_changes (tenant_id, mode, campaign_id) select tenant_id, mode, id from added;
    return null;
end $$;
create or replace function feed_campaign_shown() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    update campaign_feed set owner_id = new.owner_id, public = campaign_public(new.status, new.go_live_at),
        status = new.status, kind = new.kind, currency = new.currency, goal_minor = new.goal_minor,
        deadline_at = new.deadline_at, category = new.category, country = new.country
    where (tenant_id, mode, campaign_id) = (new.tenant_id, new.mode, new.id);
    if (old.title, old.description) is distinct from (new.title, new.description) then
        update campaign_words set words = campaign_tsvector(new.title, new.description)
        where (tenant_id, mode, campaign_id) = (new.tenant_id, new.mode, new.id);
    end if;
    return null;
end $$;
drop trigger campaigns_feed_shown on campaigns;
create trigger campaigns_feed_shown
    after update of owner_id, title, description, status, kind, currency, goal_minor, deadline_at, go_live_at, category,
        country on campaigns
    for each row execute function feed_campaign_shown();
"""

# The pictures are beside the campaign, whose row every pledge writes anew; its version is enough there.
COVERS = f"""
alter table campaigns add column cover text check (cover ~ '^[0-9a-f]{{32}}$');
create table campaign_covers (
    {SCOPE},
    campaign_id text not null,
    version text not null check (version ~ '^[0-9a-f]{{32}}$'),
    width smallint not null check (width > 0),
    content bytea not null check (length(content) between 1 and 20000000),
    created_at timestamptz not null default now(),
    primary key (tenant_id, mode, campaign_id, version, width),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id) on delete cascade
);
alter table campaign_covers alter column content set storage external;
"""

# No index of investments says when money last came into a campaign, and no pledge should pay for one: who looks after every
# change sees the sum move, and remembers when.
HEALTH = f"""
create table campaign_health (
    {SCOPE},
    campaign_id text not null,
    committed_minor bigint not null,
    active_at timestamptz not null,
    look_at timestamptz,
    primary key (tenant_id, mode, campaign_id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id)
);
create index campaign_health_due on campaign_health (look_at) where look_at is not null;
create table campaign_warnings (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    kind text not null,
    created_at timestamptz not null,
    cleared_at timestamptz check (cleared_at >= created_at),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id)
);
create unique index campaign_warnings_open on campaign_warnings (tenant_id, mode, campaign_id, kind)
    where cleared_at is null;
create index campaign_warnings_newest on campaign_warnings (tenant_id, mode, created_at desc, id desc)
    where cleared_at is null;
alter table campaigns no force row level security;
insert into campaign_health (tenant_id, mode, campaign_id, committed_minor, active_at, look_at)
    select tenant_id, mode, id, pledged_minor + held_minor + captured_minor, now(), now() from campaigns
    where status in ('live', 'paused', 'successful', 'settling', 'funded');
alter table campaigns force row level security;
"""

# As `campaigns_matching`: behind a function, because under a policy no index for words is used, and by its scope.
WORDS = f"""
create function campaign_matches(campaign text, wanted text) returns boolean language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return exists (select from campaign_words where {SCOPE_CHECK} and campaign_id = campaign
        and words @@ websearch_to_tsquery('simple', wanted));
end $$;
"""

SECURED = [
    *secure("campaign_covers", app="select, insert, delete"),
    *secure("campaign_health"),
    "revoke execute on function campaign_matches from public",
    "grant execute on function campaign_matches to chama_app",
    *secure("campaign_warnings"),
    # As for the feed: the relay finds for whom there is something to do, and the doing is the app role's.
    "grant select (tenant_id, mode, look_at) on campaign_health to chama_relay",
    "create policy campaign_health_relay on campaign_health for select to chama_relay using (true)",
]


def upgrade() -> None:
    for sql in (COLUMNS, TRIGGERS, COVERS, HEALTH, WORDS, *SECURED):
        op.execute(sql)
