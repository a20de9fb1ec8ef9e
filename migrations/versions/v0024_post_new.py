"""A batch of new money moves its balances by code, without a look-up (see sql/ledger_post_new.sql). Nothing stored changes."""

from pathlib import Path

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "ledger_post_new.sql").read_text())
