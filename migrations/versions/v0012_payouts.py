"""Money out: beneficiaries, payouts from any ledger account, and from which amount on a second person approves.

A beneficiary's number is sealed by the vault; in clear are its last digits only.
"""

from alembic import op

from migrations.helpers import secure

revision = "0012"
down_revision = "0011"

SCOPE = "tenant_id uuid not null references tenants, mode text not null check (mode in ('test', 'live'))"

BENEFICIARIES = f"""
create table beneficiaries (
    {SCOPE},
    id text not null,
    owner_id text not null,
    provider text not null,
    kind text not null check (kind in ('bank', 'mobile_money')),
    currency text not null,
    bank_code text not null,
    name text not null check (length(name) between 1 and 200),
    sealed_number text not null,
    number_end text not null check (length(number_end) <= 4),
    holder_name text,
    recipient text,
    status text not null,
    error_code text,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    foreign key (tenant_id, mode, owner_id) references users (tenant_id, mode, id),
    check (status <> 'verified' or recipient is not null)
);
create index beneficiaries_of_owner on beneficiaries (tenant_id, mode, owner_id, created_at desc, id desc);
create index beneficiaries_unchecked on beneficiaries (tenant_id, mode) where status = 'pending';
"""

PAYOUTS = f"""
create table payouts (
    {SCOPE},
    id text not null,
    reference text not null,
    owner_id text not null,
    beneficiary_id text not null,
    reason text not null,
    subject_id text not null,
    source_account text not null,
    provider text not null,
    provider_id text,
    recipient text not null,
    amount_minor bigint not null check (amount_minor between 1 and 9007199254740991),
    fee_minor bigint not null default 0 check (fee_minor >= 0),
    currency text not null,
    status text not null,
    requested_by text not null,
    decided_by text,
    decided_at timestamptz,
    note text,
    checks int not null default 0,
    error_code text,
    blocked_reason text,
    next_action_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, reference),
    unique (tenant_id, mode, provider, provider_id),
    foreign key (tenant_id, mode, owner_id) references users (tenant_id, mode, id),
    foreign key (tenant_id, mode, beneficiary_id) references beneficiaries (tenant_id, mode, id),
    check (decided_by is distinct from requested_by)
);
create index payouts_of_owner on payouts (tenant_id, mode, owner_id, created_at desc, id desc);
create index payouts_of_source on payouts (tenant_id, mode, source_account, created_at);
create index payouts_due on payouts (tenant_id, mode, next_action_at) where next_action_at is not null;
create index payouts_at_work on payouts (tenant_id, mode) where status in ('approved', 'sending') and next_action_at is null;
"""

CASES = """
alter table cases drop constraint cases_kind_check;
alter table cases add constraint cases_kind_check check (kind in (
    'late_success', 'amount_mismatch', 'unknown_outcome', 'failed_line', 'failed_refund',
    'beneficiary_mismatch', 'provider_balance', 'payout_mismatch', 'late_payout'));
"""

SETTINGS = """
alter table tenant_settings
    add column payout_approval_minor bigint not null default 10000000 check (payout_approval_minor >= 0);
"""


def upgrade() -> None:
    for sql in (BENEFICIARIES, PAYOUTS, CASES, SETTINGS):
        op.execute(sql)
    for table in ("beneficiaries", "payouts"):
        for statement in secure(table):
            op.execute(statement)
