"""The journal as transfers: one row moves one amount, where there were a header and legs (see sql/ledger_transfers.sql).

What is there is converted, which holds off posting for as long as that takes: some seconds for a million entries. The two
tables become views. Their hash chains end, and one over the transfers begins: the links of a row that is no more prove
nothing.
"""

from pathlib import Path

from alembic import op

from migrations.helpers import append_only, secure

revision = "0007"
down_revision = "0006"

TABLE = "ledger_transfers"
VIEWS = ("ledger_transactions", "ledger_entries")
FUNCTIONS = (
    "ledger_post_one",
    "ledger_move_one",
    "ledger_move",
    "ledger_replay",
    "ledger_check_targets",
    "ledger_post",
)
DOORS = ("ledger_post_one", "ledger_post")
# The owner sees no links (no tenant is set), and nobody may delete one: both rules are lifted for this one statement.
CHAIN_ANEW = """
alter table chain_links no force row level security, disable trigger chain_links_no_change;
delete from chain_links where chain in ('ledger_transactions', 'ledger_entries');
alter table chain_links force row level security, enable trigger chain_links_no_change;
alter type chained_table rename to chained_table_before;
create type chained_table as enum ('ledger_accounts', 'ledger_transfers', 'audit_log');
alter table chain_links alter column chain type chained_table using chain::text::chained_table;
drop type chained_table_before;
alter table chain_links rename column leg to part;
"""


def upgrade() -> None:
    scripts = Path(__file__).parent.parent / "sql"
    op.execute((scripts / "ledger_transfers.sql").read_text())
    op.execute((scripts / "ledger_transfers_posting.sql").read_text())
    for statement in [*secure(TABLE, app="select", chain="select"), *append_only(TABLE)]:
        op.execute(statement)
    op.execute(f"create policy {TABLE}_owner on {TABLE} to current_user using (true) with check (true)")
    for view in VIEWS:
        op.execute(f"grant select on {view} to chama_app, chama_audit")
    for function in FUNCTIONS:
        op.execute(f"revoke execute on function {function} from public")
    for function in DOORS:
        op.execute(f"grant execute on function {function} to chama_app")
    op.execute(CHAIN_ANEW)
