"""One posting with less around its statements (see sql/ledger_post_one.sql). Nothing stored changes."""

from pathlib import Path

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "ledger_post_one.sql").read_text())
