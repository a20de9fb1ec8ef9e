"""Profit distributions: runs, lines, adjustments, held payouts (see sql/distributions.sql).

Adds four tables and one column to investments, which rewrites nothing.
"""

from pathlib import Path

from alembic import op

from migrations.helpers import secure

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "distributions.sql").read_text())
    for table in ("distributions", "distribution_adjustments", "payout_holds"):
        for statement in secure(table):
            op.execute(statement)
    for statement in secure("distribution_lines", app="select, insert, update, delete"):
        op.execute(statement)
