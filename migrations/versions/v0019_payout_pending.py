"""A payout that is pending for days is a case, too.

Rewrites nothing.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

CASES = """
alter table cases drop constraint cases_kind_check;
alter table cases add constraint cases_kind_check check (kind in (
    'late_success', 'amount_mismatch', 'unknown_outcome', 'failed_line', 'failed_refund',
    'beneficiary_mismatch', 'provider_balance', 'payout_mismatch', 'late_payout', 'payout_pending'));
"""


def upgrade() -> None:
    op.execute(CASES)
