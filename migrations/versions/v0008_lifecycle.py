"""A campaign's life before its outcome: drafts, reviews that are kept, schedules, pauses, moved deadlines, updates.

What the API promises is also the database's word: only a draft can be deleted, and the money terms of an approved
campaign cannot be changed by any statement of ours.
"""

from alembic import op

from migrations.helpers import append_only, secure

revision = "0008"
down_revision = "0007"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"

COLUMNS = """
alter table campaigns
    add column close_when_funded boolean not null default false,
    add column go_live_at timestamptz,
    add column deadline_extensions int not null default 0 check (deadline_extensions >= 0),
    add column goal_reached_at timestamptz,
    add column paused_by text;
alter table campaigns no force row level security;
update campaigns set go_live_at = verified_at where verified_at is not null and status <> 'rejected';
alter table campaigns force row level security;
"""

TABLES = f"""
create table campaign_reviews (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    reviewer_id text not null,
    decision text not null check (decision in ('approve', 'reject', 'request_changes')),
    note text check (note is not null or decision = 'approve'),
    created_at timestamptz not null,
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id),
    foreign key (tenant_id, mode, reviewer_id) references users (tenant_id, mode, id)
);
create index campaign_reviews_of on campaign_reviews (tenant_id, mode, campaign_id, created_at, id);
create table campaign_updates (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    author_id text not null,
    title text not null,
    body text not null,
    created_at timestamptz not null,
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id),
    foreign key (tenant_id, mode, author_id) references users (tenant_id, mode, id)
);
create index campaign_updates_of on campaign_updates (tenant_id, mode, campaign_id, created_at desc, id desc);
"""

TERMS = (
    "kind", "currency", "goal_minor", "cap_minor", "min_ticket_minor", "max_per_investor_minor", "profit_share_bps",
    "success_floor_bps", "waiting_seconds", "close_when_funded",
)  # fmt: skip

# The trigger looks at statements that name a term only: the counters, which move with every pledge, cost nothing.
FIXED = f"""
create function campaign_terms_fixed() returns trigger language plpgsql as $$
begin
    raise exception 'the terms of campaign % are fixed', old.id using errcode = 'check_violation';
end $$;
create trigger campaigns_terms_fixed before update of {", ".join(TERMS)} on campaigns for each row
    when (old.status not in ('draft', 'changes_requested')
        and ({", ".join(f"old.{term}" for term in TERMS)}) is distinct from ({", ".join(f"new.{term}" for term in TERMS)}))
    execute function campaign_terms_fixed();
"""

DRAFTS = """
grant delete on campaigns to chama_app;
create policy campaigns_delete_drafts on campaigns as restrictive for delete to chama_app, current_user
    using (status = 'draft');
"""


def upgrade() -> None:
    for sql in (COLUMNS, TABLES, FIXED, DRAFTS):
        op.execute(sql)
    for table in ("campaign_reviews", "campaign_updates"):
        for statement in [*secure(table, app="select, insert"), *append_only(table)]:
            op.execute(statement)
