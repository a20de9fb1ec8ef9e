"""The settlement line whose refund came back: it had been done, and has failed for good now, as lines fail."""

from dataclasses import dataclass

from domain.payment import REFUND_FAILED
from infra.database import Tx, fetch_one

# The newest, for a campaign's money is given back by the last settlement it has.
_LINE = """
select l.settlement_id, l.line_no, l.investment_id, l.action
  from settlement_lines l
  join settlements s on (s.tenant_id, s.mode, s.id) = (l.tenant_id, l.mode, l.settlement_id)
 where l.payment_id = %s and l.action in ('refund', 'void')
 order by s.created_at desc, s.round desc limit 1 for update of s
"""
_FAIL = """
update settlement_lines set status = 'failed', error_code = %s, next_action_at = null, dealt_with_at = null, updated_at = now()
 where settlement_id = %s and line_no = %s
"""
# One that still runs counts its lines itself, at its end.
_BLOCK = """
update settlements set blocked_reason = 'failed_lines', updated_at = now() where id = %s and status = 'completed'
"""


@dataclass(frozen=True)
class RefundLine:
    """The line that gave a payment's money back."""

    settlement_id: str
    line_no: int
    investment_id: str
    action: str


async def hold_line(tx: Tx, payment_id: str) -> RefundLine | None:
    """Hold the settlement that gave a payment's money back, if one did: before the payment, as `case_closing` does."""
    row = await fetch_one(tx, _LINE, (payment_id,))
    return RefundLine(**row) if row is not None else None


async def fail_line(tx: Tx, line: RefundLine) -> None:
    """Its refund came back: an operator may put it back in the queue, or deal with it by another way."""
    await tx.execute(_FAIL, (REFUND_FAILED, line.settlement_id, line.line_no))
    await tx.execute(_BLOCK, (line.settlement_id,))
