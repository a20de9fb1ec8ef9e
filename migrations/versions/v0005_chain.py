"""Hash chains over the ledger and the audit log: one link a row, written afterwards by a role that can do nothing else.

The links are global, one chain a table: see docs/decisions/0017-hash-chains.md.
"""

from alembic import op

from migrations.helpers import append_only, secure

revision = "0005"
down_revision = "0004"

CHAINED = ("ledger_accounts", "ledger_transactions", "ledger_entries", "audit_log")

# tenant_id and mode are those of the row, so that a row that is gone can still be named.
LINKS = """
create type chained_table as enum ('ledger_accounts', 'ledger_transactions', 'ledger_entries', 'audit_log');
create table chain_links (
    position bigint not null check (position > 0),
    row_id bigint not null,
    tenant_id uuid not null,
    chain chained_table not null,
    leg integer not null default 0,
    mode text not null check (mode in ('test', 'live')),
    hash bytea not null check (length(hash) = 32),
    primary key (chain, position)
);
"""

# The audit log is read across tenants, in the order of its ids: nothing did so before.
IN_ORDER = "create unique index audit_log_id on audit_log (id)"


def upgrade() -> None:
    op.execute("do $$ begin create role chama_chain login; exception when duplicate_object then null; end $$")
    op.execute("grant usage on schema public to chama_chain")
    op.execute(LINKS)
    op.execute(IN_ORDER)
    for statement in [*secure("chain_links", app="", chain="select, insert"), *append_only("chain_links")]:
        op.execute(statement)
    for table in CHAINED:
        op.execute(f"grant select on {table} to chama_chain")
        op.execute(f"create policy {table}_chain on {table} for select to chama_chain using (true)")
