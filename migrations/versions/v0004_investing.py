"""Campaigns, investments, payments, refunds, effects, settlements, webhooks, notifications, cases, test clocks.

Every key leads with tenant and mode, and so does every foreign key: one tenant's row can never point at another's.
"""

from alembic import op

from migrations.helpers import append_only, secure

revision = "0004"
down_revision = "0003"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"
AMOUNT = "bigint not null check ({0} between 1 and 9007199254740991)"

CLOCKS_AND_ACCOUNTS = f"""
create table test_clocks (
    {SCOPE},
    now_at timestamptz not null,
    target_at timestamptz not null,
    status text not null check (status in ('ready', 'advancing', 'failed')),
    advance_number int not null default 0,
    error text,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode),
    check (mode = 'test')
);
create table provider_accounts (
    {SCOPE},
    id text not null unique,
    provider text not null,
    base_url text not null,
    sealed_secret_key text not null,
    sealed_webhook_secret text,
    currencies text[] not null,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, provider)
);
"""

CAMPAIGNS = f"""
create table campaigns (
    {SCOPE},
    id text not null,
    owner_id text not null,
    title text not null,
    description text not null,
    kind text not null check (kind in ('all_or_nothing', 'keep_what_you_raise')),
    currency text not null,
    goal_minor {AMOUNT.format("goal_minor")},
    cap_minor {AMOUNT.format("cap_minor")},
    min_ticket_minor {AMOUNT.format("min_ticket_minor")},
    max_per_investor_minor bigint check (max_per_investor_minor >= min_ticket_minor),
    profit_share_bps int not null check (profit_share_bps between 0 and 10000),
    success_floor_bps int not null check (success_floor_bps between 0 and 10000),
    waiting_seconds int not null check (waiting_seconds between 0 and 2592000),
    status text not null,
    deadline_at timestamptz not null,
    pledged_minor bigint not null default 0 check (pledged_minor >= 0),
    held_minor bigint not null default 0 check (held_minor >= 0),
    captured_minor bigint not null default 0 check (captured_minor >= 0),
    verified_by text,
    verified_at timestamptz,
    outcome text,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, owner_id) references users (tenant_id, mode, id),
    check (goal_minor <= cap_minor),
    check (pledged_minor + held_minor + captured_minor <= cap_minor)
);
create index campaigns_by_age on campaigns (tenant_id, mode, created_at desc, id);
create table investments (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    investor_id text not null,
    payment_id text not null,
    provider text not null,
    amount_minor {AMOUNT.format("amount_minor")},
    currency text not null,
    status text not null,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, payment_id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id),
    foreign key (tenant_id, mode, investor_id) references users (tenant_id, mode, id)
);
create index investments_of_campaign on investments (tenant_id, mode, campaign_id, investor_id);
create index investments_of_investor on investments (tenant_id, mode, investor_id, created_at desc, id);
"""

PAYMENTS = f"""
create table payments (
    {SCOPE},
    id text not null,
    purpose text not null check (purpose in ('investment', 'deposit')),
    subject_id text not null,
    payer_id text not null,
    provider text not null,
    amount_minor {AMOUNT.format("amount_minor")},
    currency text not null,
    capture text not null check (capture in ('immediate', 'deferred')),
    status text not null,
    next_action jsonb,
    return_url text,
    instrument text,
    customer text,
    authorized_until timestamptz,
    expires_at timestamptz,
    captured_minor bigint not null default 0 check (captured_minor between 0 and amount_minor),
    refunded_minor bigint not null default 0 check (refunded_minor between 0 and captured_minor),
    attempts int not null default 0,
    checks int not null default 0,
    cancel_reason text,
    error_code text,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, payer_id) references users (tenant_id, mode, id)
);
create index payments_of_payer on payments (tenant_id, mode, payer_id, created_at desc, id);
create table payment_attempts (
    {SCOPE},
    reference text not null,
    payment_id text not null,
    ordinal int not null,
    provider text not null,
    provider_id text,
    status text not null,
    amount_minor {AMOUNT.format("amount_minor")},
    currency text not null,
    reported_minor bigint,
    reported_currency text,
    captured_minor bigint not null default 0 check (captured_minor >= 0),
    refunded_minor bigint not null default 0 check (refunded_minor between 0 and captured_minor),
    held boolean not null default false,
    decline_code text,
    started_at timestamptz not null,
    sent_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, reference),
    unique (tenant_id, mode, payment_id, ordinal),
    unique (tenant_id, mode, provider, provider_id),
    foreign key (tenant_id, mode, payment_id) references payments (tenant_id, mode, id)
);
create table refunds (
    {SCOPE},
    id text not null,
    payment_id text not null,
    attempt_reference text not null,
    provider text not null,
    provider_id text,
    amount_minor {AMOUNT.format("amount_minor")},
    currency text not null,
    reason text not null,
    source_account text not null,
    status text not null,
    checks int not null default 0,
    error_code text,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, payment_id) references payments (tenant_id, mode, id),
    foreign key (tenant_id, mode, attempt_reference) references payment_attempts (tenant_id, mode, reference)
);
create index refunds_of_payment on refunds (tenant_id, mode, payment_id);
create table effects (
    {SCOPE},
    key text not null,
    provider text not null,
    operation text not null,
    request_hash bytea not null,
    status text not null check (status in ('claimed', 'done', 'failed', 'unknown', 'unsent')),
    result jsonb,
    error_code text,
    tries int not null default 1,
    claimed_at timestamptz not null default now(),
    sent_at timestamptz not null default now(),
    settled_at timestamptz,
    primary key (tenant_id, mode, key)
);
"""

SETTLEMENTS = f"""
create table settlements (
    {SCOPE},
    id text not null,
    campaign_id text not null,
    outcome text not null check (outcome in ('capture', 'release', 'renew')),
    round int not null,
    status text not null check (status in ('running', 'completed')),
    lines int not null,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, campaign_id) references campaigns (tenant_id, mode, id)
);
create table settlement_lines (
    {SCOPE},
    settlement_id text not null,
    line_no int not null,
    investment_id text not null,
    payment_id text not null,
    action text not null check (action in ('capture', 'void', 'refund', 'renew')),
    status text not null check (status in ('queued', 'unknown', 'pending', 'done', 'failed')),
    tries int not null default 0,
    error_code text,
    next_action_at timestamptz,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, settlement_id, line_no),
    unique (tenant_id, mode, settlement_id, investment_id),
    foreign key (tenant_id, mode, settlement_id) references settlements (tenant_id, mode, id)
);
create index settlement_lines_open on settlement_lines (tenant_id, mode, settlement_id, line_no)
    where status in ('queued', 'unknown', 'pending');
create index settlement_lines_of_payment on settlement_lines (tenant_id, mode, payment_id);
"""

MESSAGES = f"""
create table webhook_inbox (
    {SCOPE},
    id bigint generated always as identity,
    account_id text not null,
    provider text not null,
    event_id text not null,
    kind text not null,
    reference text,
    provider_id text,
    raw bytea not null,
    status text not null check (status in ('received', 'processed', 'orphaned', 'expired', 'failed')),
    tries int not null default 0,
    error_code text,
    next_attempt_at timestamptz not null default now(),
    received_at timestamptz not null default now(),
    processed_at timestamptz,
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, account_id, event_id)
);
create index webhook_inbox_open on webhook_inbox (tenant_id, mode, next_attempt_at) where status in ('received', 'orphaned');
create table webhook_refusals (
    {SCOPE},
    id bigint generated always as identity,
    account_id text not null,
    reason text not null,
    body_sha256 bytea not null,
    body_bytes int not null,
    refused_at timestamptz not null default now(),
    primary key (tenant_id, mode, id)
);
create table notifications (
    {SCOPE},
    id text not null,
    subject_id text not null,
    user_id text not null,
    template text not null,
    params jsonb not null,
    status text not null check (status in ('queued', 'sending', 'sent', 'failed')),
    tries int not null default 0,
    error_code text,
    created_at timestamptz not null,
    sent_at timestamptz,
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, user_id) references users (tenant_id, mode, id)
);
create index notifications_queued on notifications (tenant_id, mode, subject_id) where status in ('queued', 'sending');
create table cases (
    {SCOPE},
    id text not null,
    kind text not null check (kind in ('late_success', 'amount_mismatch', 'unknown_outcome', 'failed_line', 'failed_refund')),
    subject_id text not null,
    status text not null check (status in ('open', 'resolved')),
    detail jsonb not null,
    resolution text,
    opened_at timestamptz not null,
    resolved_at timestamptz,
    primary key (tenant_id, mode, id)
);
create index cases_open on cases (tenant_id, mode, opened_at) where status = 'open';
"""


def upgrade() -> None:
    for sql in (CLOCKS_AND_ACCOUNTS, CAMPAIGNS, PAYMENTS, SETTLEMENTS, MESSAGES):
        op.execute(sql)
    tables = (
        "campaigns investments payments payment_attempts refunds effects settlements settlement_lines "
        "notifications cases"
    )
    statements = [statement for table in tables.split() for statement in secure(table)]
    statements += secure("test_clocks", auth="select")
    statements += secure("provider_accounts", app="select", auth="select")
    statements += secure("webhook_inbox", app="select, insert, update")
    statements += secure("webhook_refusals", app="select, insert")
    statements += append_only("webhook_refusals")
    for statement in statements:
        op.execute(statement)
