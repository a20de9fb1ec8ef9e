"""A message to a person says when it may be tried; and what is stuck is found by indexes.

Until now the monitor read all payments, refunds, campaigns, payouts and effects there ever were, every quarter of a minute. The
indexes hold what is at work only. None is over a column that changes with each update of a row (`updated_at`, counters):
those updates would have to touch every index of the table.

Building them holds up writes to one table after the other, each until the migration commits. With tables of many millions of
rows build them before, by the same names and `concurrently`: they are taken as they are, so see that each is valid.
"""

from alembic import op

revision = "0022"
down_revision = "0021"

COLUMN = "alter table notifications add column next_try_at timestamptz"
DUE = "create index if not exists {0}_due on {0} (tenant_id, mode, next_action_at) where next_action_at is not null"
BLOCKED = "create index if not exists {0}_blocked on {0} (tenant_id, mode, id) where blocked_reason is not null"
OPEN = """
create index if not exists effects_open on effects (tenant_id, mode, claimed_at) where status in ('claimed', 'unknown')
"""


def upgrade() -> None:
    for table in ("payments", "refunds", "campaigns"):
        op.execute(DUE.format(table))
    for table in ("payments", "refunds", "campaigns", "payouts"):
        op.execute(BLOCKED.format(table))
    op.execute(OPEN)
    op.execute(COLUMN)  # last, as money steps come to their messages last: neither waits for the other in a circle
