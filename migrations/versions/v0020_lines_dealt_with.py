"""A settlement's failed line that somebody has settled by another way says so.

Rewrites nothing: no case was closed by hand before.
"""

from alembic import op

revision = "0020"
down_revision = "0019"

COLUMN = """
alter table settlement_lines
    add column dealt_with_at timestamptz,
    add constraint settlement_lines_dealt_with check (dealt_with_at is null or status = 'failed');
"""


def upgrade() -> None:
    op.execute(COLUMN)
