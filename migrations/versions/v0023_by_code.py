"""Balances are found and locked by their account's code, and a posting that lowers nothing needs no look-up (see
sql/ledger_by_code.sql). Balances get three columns, filled from their accounts; the journal does not change."""

from pathlib import Path

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "ledger_by_code.sql").read_text())
