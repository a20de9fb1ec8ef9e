"""Distribution lines that are paid out through a provider: where holders want their profit, and what a line was sent by.

Columns with constant defaults, so nothing is rewritten.
"""

from alembic import op

from migrations.helpers import secure

revision = "0015"
down_revision = "0014"

PREFERENCES = """
create table payout_preferences (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    user_id text not null,
    beneficiary_id text,
    created_at timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, mode, user_id),
    foreign key (tenant_id, mode, user_id) references users (tenant_id, mode, id),
    foreign key (tenant_id, mode, beneficiary_id) references beneficiaries (tenant_id, mode, id)
);
"""

COLUMNS = """
alter table distributions
    add column pay_to text not null default 'wallet' check (pay_to in ('wallet', 'preference')),
    add column woken boolean not null default false;
create trigger distributions_pay_to_fixed before update of pay_to on distributions
    for each row execute function distribution_fixed();
alter table distribution_lines
    add column rail text,
    add column beneficiary_id text,
    add column payout_id text,
    add column payouts int not null default 0 check (payouts >= 0),
    add constraint distribution_lines_destination check ((rail is null) = (beneficiary_id is null));
create index payouts_of_run on payouts (tenant_id, mode, subject_id, next_action_at)
    where reason = 'distribution' and status in ('approved', 'sending', 'unknown', 'pending');
"""

# Whoever moves a payout, its line says the same: the run's own process, a single look-up, an owner who cancels. A row at a time,
# by the whole of a unique key: a join with a statement's rows is planned once, when there are no lines yet, and reads them all.
FOLLOW = """
create function distribution_line_follow() returns trigger language plpgsql as $$
declare
    told text := case when new.status in ('approved', 'sending', 'pending') then 'sending'
                      when new.status = 'succeeded' then 'paid'
                      when new.status in ('unknown', 'returned') then new.status else 'failed' end;
begin
    update distribution_lines
       set status = told, error_code = coalesce(new.error_code, new.blocked_reason), updated_at = now()
     where tenant_id = new.tenant_id and mode = new.mode and distribution_id = new.subject_id and holder_id = new.owner_id
       and payout_id = new.id and status in ('sending', 'unknown', 'paid') and status <> told;
    return null;
end $$;
create trigger payouts_line_follow after update of status on payouts for each row
    when (new.reason = 'distribution' and new.status is distinct from old.status) execute function distribution_line_follow();
"""


def upgrade() -> None:
    for sql in (PREFERENCES, COLUMNS, FOLLOW):
        op.execute(sql)
    for statement in secure("payout_preferences"):
        op.execute(statement)
