"""Where a pledge's money goes, should it be given back: to its source, or into the investor's wallet. Everybody began with
the source."""

from alembic import op

revision = "0014"
down_revision = "0013"

REFUND_TO = """
alter table investments
    add column refund_to text not null default 'source' check (refund_to in ('source', 'wallet'));
"""


def upgrade() -> None:
    op.execute(REFUND_TO)
