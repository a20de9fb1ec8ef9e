"""The release of a funded campaign's money: plans, tranches, investors' votes, and what goes back to the holders.

Campaigns get three terms. Those that are funded already get a plan of one tranche, without a fee: their owners ask for it.
"""

from alembic import op

from migrations.helpers import secure

revision = "0013"
down_revision = "0012"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"
OF_CAMPAIGN = "foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id)"

TERMS = """
alter table tenant_settings
    add column platform_fee_bps int not null default 0 check (platform_fee_bps between 0 and 5000);
alter table campaigns
    add column milestones jsonb
        check (jsonb_typeof(milestones) = 'array' and jsonb_array_length(milestones) between 2 and 20),
    add column platform_fee_bps int not null default 0 check (platform_fee_bps between 0 and 5000),
    add column profit_until date;
create trigger campaigns_release_fixed before update of milestones, profit_until on campaigns for each row
    when (old.status not in ('draft', 'changes_requested')
        and (old.milestones, old.profit_until) is distinct from (new.milestones, new.profit_until))
    execute function campaign_terms_fixed();
create trigger campaigns_fee_fixed before update of platform_fee_bps on campaigns for each row
    when (old.status not in ('draft', 'submitted', 'changes_requested') and old.platform_fee_bps <> new.platform_fee_bps)
    execute function campaign_terms_fixed();
"""

TABLES = f"""
create table milestone_plans (
    {SCOPE},
    id text not null,
    currency text not null,
    amount_minor bigint not null check (amount_minor between 1 and 9007199254740991),
    fee_bps int not null check (fee_bps between 0 and 5000),
    fee_rounding text not null check (fee_rounding in ('floor', 'half_even')),
    remainder text not null check (remainder = 'largest_remainder_by_id'),
    status text not null check (status in ('working', 'waiting')),
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, id) references campaigns (tenant_id, mode, id)
);
create index milestone_plans_due on milestone_plans (tenant_id, mode, next_action_at) where next_action_at is not null;
create index milestone_plans_at_work on milestone_plans (tenant_id, mode) where status = 'working';

create table tranches (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    number int not null check (number between 1 and 20),
    title text not null,
    share_bps int not null check (share_bps between 1 and 10000),
    currency text not null,
    amount_minor bigint not null check (amount_minor between 0 and 9007199254740991),
    fee_minor bigint not null check (fee_minor between 0 and amount_minor),
    due_at timestamptz,
    extensions int not null default 0 check (extensions >= 0),
    status text not null check (status in ('open', 'submitted', 'released', 'missed', 'returning', 'returned')),
    destination text,
    evidence text,
    evidence_url text,
    submitted_by text,
    submitted_at timestamptz,
    decided_by text,
    decided_at timestamptz,
    note text,
    released_at timestamptz,
    credited_at timestamptz,
    payout_id text,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, campaign_id, number),
    {OF_CAMPAIGN},
    foreign key (tenant_id, mode, payout_id) references payouts (tenant_id, mode, id),
    check (decided_by is null or decided_by is distinct from submitted_by),
    check ((status = 'released') = (released_at is not null))
);

create table milestone_votes (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    tranche_id text not null,
    electorate_minor bigint not null check (electorate_minor >= 0),
    extend_minor bigint not null default 0 check (extend_minor >= 0),
    refund_minor bigint not null default 0 check (refund_minor >= 0),
    closes_at timestamptz not null,
    outcome text check (outcome in ('extend', 'refund')),
    decided_at timestamptz,
    pot_minor bigint not null default 0 check (pot_minor >= 0),
    lines int not null default 0 check (lines >= 0),
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    {OF_CAMPAIGN},
    foreign key (tenant_id, mode, tranche_id) references tranches (tenant_id, mode, id),
    check (extend_minor + refund_minor <= electorate_minor),
    check ((outcome is null) = (decided_at is null))
);
create index milestone_votes_of on milestone_votes (tenant_id, mode, campaign_id, created_at, id);

-- Who held what when the vote opened; afterwards, where the money goes back, its lines.
create table milestone_holders (
    tenant_id uuid not null,
    mode text not null,
    vote_id text not null,
    line_no int not null check (line_no > 0),
    holder_id text not null,
    weight_minor bigint not null check (weight_minor > 0),
    may_vote boolean not null,
    choice text check (choice in ('extend', 'refund')),
    voted_at timestamptz,
    share_minor bigint not null default 0 check (share_minor >= 0),
    status text check (status in ('queued', 'credited')),
    credited_at timestamptz,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, vote_id, line_no),
    unique (tenant_id, mode, holder_id, vote_id),
    foreign key (tenant_id, mode, vote_id) references milestone_votes (tenant_id, mode, id),
    check (choice is null or may_vote),
    check ((status is null) = (share_minor = 0)),
    check ((credited_at is not null) = (status is not distinct from 'credited'))
) with (fillfactor = 70);
"""

FIXED = """
create function milestone_fixed() returns trigger language plpgsql as $$
begin
    raise exception 'what was planned, frozen or paid in % is fixed', tg_table_name using errcode = 'check_violation';
end $$;
create trigger tranches_amounts_fixed before update of campaign_id, number, title, share_bps, currency, amount_minor, fee_minor
    on tranches for each row execute function milestone_fixed();
create trigger tranches_settled_fixed before update of status on tranches for each row
    when (old.status in ('released', 'returned') and new.status <> old.status) execute function milestone_fixed();
create trigger milestone_votes_decided_fixed before update of outcome on milestone_votes for each row
    when (old.outcome is not null and new.outcome is distinct from old.outcome) execute function milestone_fixed();
create trigger milestone_holders_frozen before update of vote_id, line_no, holder_id, weight_minor, may_vote
    on milestone_holders for each row execute function milestone_fixed();
create trigger milestone_holders_paid before update of share_minor, status on milestone_holders for each row
    when (old.status = 'credited' or (old.status = 'queued' and new.share_minor <> old.share_minor))
    execute function milestone_fixed();
"""

BEFORE = """
alter table campaigns no force row level security;
insert into milestone_plans (tenant_id, mode, id, currency, amount_minor, fee_bps, fee_rounding, remainder, status, created_at)
select tenant_id, mode, id, currency, captured_minor, 0, 'floor', 'largest_remainder_by_id', 'waiting', created_at
  from campaigns where status = 'funded' and captured_minor > 0;
insert into tranches (tenant_id, mode, id, campaign_id, number, title, share_bps, currency, amount_minor, fee_minor, status,
                      created_at)
select tenant_id, mode, 'trn_' || md5(concat_ws('/', tenant_id, mode, id)), id, 1, 'Everything that was raised', 10000, currency,
       captured_minor, 0, 'open', created_at
  from campaigns where status = 'funded' and captured_minor > 0;
alter table campaigns force row level security;
"""


def upgrade() -> None:
    for sql in (TERMS, TABLES, FIXED, BEFORE):
        op.execute(sql)
    for table in ("milestone_plans", "tranches", "milestone_votes", "milestone_holders"):
        for statement in secure(table):
            op.execute(statement)
