"""Distributions that calculate themselves: at the end of their record date, or when a milestone's money is released too.

The schedule is one of a run's terms, and as fixed as the others. Rewrites nothing.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

COLUMNS = """
alter table distributions
    add column calculate_on text check (calculate_on in ('record_date', 'milestone')),
    add column milestone smallint check (milestone between 1 and 20),
    add constraint distributions_schedule check ((calculate_on is not distinct from 'milestone') = (milestone is not null)),
    add constraint distributions_schedule_counts check (calculate_on is null or not dry_run);
create trigger distributions_schedule_fixed before update of calculate_on, milestone
    on distributions for each row execute function distribution_fixed();
"""


def upgrade() -> None:
    op.execute(COLUMNS)
