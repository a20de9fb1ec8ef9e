"""A message to a person says when it may be tried: one sender has it at a time, and only for as long as it lives."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("alter table notifications add column next_try_at timestamptz")
