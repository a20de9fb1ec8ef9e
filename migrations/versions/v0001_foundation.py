"""Roles, tenants and the trigger that keeps append-only tables so."""

from alembic import op

from migrations.helpers import secure

revision = "0001"
down_revision = None

ROLES = ("chama_app", "chama_relay", "chama_audit", "chama_auth")

TENANTS = """
create table tenants (
    id uuid primary key,
    slug text not null unique check (slug ~ '^[a-z][a-z0-9-]{1,39}$'),
    name text not null,
    zone text not null default 'Africa/Lagos',
    created_at timestamptz not null default now()
);
create table tenant_settings (
    tenant_id uuid not null references tenants,
    mode text not null check (mode in ('test', 'live')),
    return_urls text[] not null default '{}',
    primary key (tenant_id, mode)
);
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
"""


def upgrade() -> None:
    for role in ROLES:
        op.execute(f"do $$ begin create role {role} login; exception when duplicate_object then null; end $$")
    op.execute(f"grant usage on schema public to {', '.join(ROLES)}")
    op.execute(TENANTS)
    own_tenant = "id = nullif(current_setting('app.tenant', true), '')::uuid"
    for statement in [
        *secure("tenants", app="select", scope_check=own_tenant, auth="select", relay="select"),
        *secure("tenant_settings", app="select"),
    ]:
        op.execute(statement)
