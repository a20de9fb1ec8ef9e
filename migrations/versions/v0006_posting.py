"""The posting path with less work a posting: plain statements for one, whole sets for many (see sql/ledger_posting.sql).

The indexes are made anew, which holds off posting for as long as that takes: some seconds for a million entries.
"""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"

FUNCTIONS = ("ledger_lowers", "ledger_check_floor", "ledger_move_one", "ledger_book_two")


def upgrade() -> None:
    op.execute((Path(__file__).parent.parent / "sql" / "ledger_posting.sql").read_text())
    for function in FUNCTIONS:
        op.execute(f"revoke execute on function {function} from public")
