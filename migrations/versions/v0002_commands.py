"""Users, idempotency keys, outbox, audit log, timeline: what the HTTP edge needs before any product exists."""

from alembic import op

from migrations.helpers import append_only, secure

revision = "0002"
down_revision = "0001"

USERS = """
create table users (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    id text not null check (id ~ '^usr_[0-9a-f]{32}$'),
    email text not null check (email = lower(email) and length(email) <= 254),
    name text not null check (length(name) between 1 and 200),
    role text not null check (role in ('admin', 'business_owner', 'investor')),
    password_hash text not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz,
    primary key (tenant_id, mode, id),
    unique (tenant_id, mode, email)
);
"""

# `response_body` is json, not jsonb: it keeps the text as it was sent, so a replay is equal to the byte.
IDEMPOTENCY_KEYS = """
create table idempotency_keys (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    principal text not null,
    operation text not null,
    key text not null check (length(key) between 1 and 255),
    body_hash text not null,
    response_status int not null,
    response_body json not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (tenant_id, mode, principal, operation, key)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);
"""

# A row that its own request will deliver starts with `next_attempt_at` in the near future, and is not notified: NOTIFY
# takes a database-wide lock at commit, and the relay would only race the request for it.
OUTBOX = """
create table outbox (
    id bigint generated always as identity primary key,
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    order_key text not null,
    kind text not null check (kind in ('start', 'signal', 'signal_with_start')),
    workflow_type text,
    workflow_id text not null check (length(workflow_id) <= 200),
    task_queue text,
    signal_name text,
    payload jsonb,
    signal_payload jsonb,
    search_attributes jsonb not null default '{}',
    static_summary text not null default '',
    request_id text not null,
    attempts int not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_error text,
    delivered_at timestamptz,
    created_at timestamptz not null default now(),
    check (kind = 'signal' or (workflow_type is not null and task_queue is not null)),
    check (kind = 'start' or signal_name is not null)
);
create index outbox_due on outbox (next_attempt_at) where delivered_at is null;
create index outbox_order on outbox (tenant_id, mode, order_key, id) where delivered_at is null;
create function outbox_notify() returns trigger language plpgsql as $$
begin
    notify outbox;
    return null;
end $$;
create trigger outbox_inserted after insert on outbox for each row
    when (new.next_attempt_at <= now()) execute function outbox_notify();
"""

AUDIT_LOG = """
create table audit_log (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    id bigint generated always as identity,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    entity text not null,
    entity_id text not null,
    request_id text not null,
    detail jsonb not null default '{}',
    primary key (tenant_id, mode, id)
);
create index audit_log_entity on audit_log (tenant_id, mode, entity_id, id);
"""

TIMELINE = """
create table timeline (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    entity_id text not null,
    seq bigint generated always as identity,
    at timestamptz not null,
    recorded_at timestamptz not null default now(),
    event text not null,
    detail jsonb not null default '{}',
    primary key (tenant_id, mode, entity_id, seq)
);
"""

USER_COLUMNS_WITHOUT_HASH = "tenant_id, mode, id, email, name, role, created_at, disabled_at"


def upgrade() -> None:
    for table in (USERS, IDEMPOTENCY_KEYS, OUTBOX, AUDIT_LOG, TIMELINE):
        op.execute(table)
    keep = "select, insert, update, delete"
    for statement in [
        *secure("users", app=f"select ({USER_COLUMNS_WITHOUT_HASH})", auth="select, insert, update"),
        *secure("idempotency_keys", app=keep, auth=keep),
        # The auth role only sees how long the queue is, for /readyz; the relay sees every tenant's rows.
        *secure(
            "outbox",
            app="select, insert, update",
            relay="select, update",
            auth="select (id, created_at, delivered_at, attempts)",
        ),
        *secure("audit_log", app="select, insert", auth="insert"),
        *append_only("audit_log"),
        *secure("timeline", app="select, insert"),
        *append_only("timeline"),
    ]:
        op.execute(statement)
