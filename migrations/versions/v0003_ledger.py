"""Accounts, balances, transactions and entries, and the one function that writes them (see sql/ledger.sql)."""

from pathlib import Path

from alembic import op

from migrations.helpers import append_only, secure

revision = "0003"
down_revision = "0002"

TABLES = ("ledger_accounts", "ledger_balances", "ledger_transactions", "ledger_entries")
FUNCTIONS = (
    "ledger_refuse_unbalanced",
    "ledger_open",
    "ledger_move",
    "ledger_replay",
    "ledger_check_targets",
    "ledger_post",
)
KEEP_BALANCES = """
create trigger ledger_balances_no_delete before delete on ledger_balances for each row execute function refuse_change();
create trigger ledger_balances_no_truncate before truncate on ledger_balances
    for each statement execute function refuse_change();
"""


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "ledger.sql").read_text())
    for table in TABLES:
        for statement in secure(table, app="select"):
            op.execute(statement)
        # ledger_post runs as the owner and names tenant and mode in every statement itself; checking each row a second
        # time costs a tenth of a posting.
        op.execute(f"create policy {table}_owner on {table} to current_user using (true) with check (true)")
    for table in ("ledger_accounts", "ledger_transactions", "ledger_entries"):
        for statement in append_only(table):
            op.execute(statement)
    op.execute(KEEP_BALANCES)
    for function in FUNCTIONS:
        op.execute(f"revoke execute on function {function} from public")
    op.execute("grant execute on function ledger_post to chama_app")
