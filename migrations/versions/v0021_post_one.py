"""One posting with less around its statements, and a batch that locks first only where it must (see sql/ledger_post_one.sql,
sql/ledger_move.sql). Nothing stored changes."""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    for script in ("ledger_post_one.sql", "ledger_move.sql"):
        op.execute((Path(__file__).parent.parent / "sql" / script).read_text())
