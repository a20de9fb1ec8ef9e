"""Cases: what a person should see. Opened beside the money, by the rule that met something unexpected."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, LiteralString

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from contracts.ids import derive_id
from infra.database import Tx
from models.base import Scoped, by_id, insert, read_all


class Case(Scoped, table=True):
    """One unexpected fact about one subject (a payment attempt, a refund, a settlement line)."""

    __tablename__: ClassVar[str] = "cases"

    id: str = Field(primary_key=True)
    kind: str
    subject_id: str
    status: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB))
    resolution: str | None = None
    opened_at: datetime
    resolved_at: datetime | None = None


_CLOSE = """
update cases set status = 'resolved', resolution = %s, resolved_at = %s where id = %s and status = 'open'
"""
_AGAIN = """
update cases set status = 'open', detail = %s, opened_at = %s, resolution = null, resolved_at = null
 where id = %s and status = 'resolved'
"""
RETRIED: Final = "retried"
"""The resolution of what an operator put back in the queue; every other is somebody's word that it was dealt with."""
_SUBJECTS: Final[LiteralString] = """
select l.investment_id from settlement_lines l where l.settlement_id = %(settlement)s and l.status = %(lines)s
union all
select a.reference from settlement_lines l join payment_attempts a on a.payment_id = l.payment_id
 where l.settlement_id = %(settlement)s and l.status = %(lines)s
"""
"""What the cases of a settlement's lines are about: the investment, or the payment's attempt when the provider refused."""
_RETRIED: Final[LiteralString] = f"""
update cases set status = 'resolved', resolution = %(retried)s, resolved_at = %(as_of)s
 where status = 'open' and (kind = 'failed_line' and subject_id in ({_SUBJECTS})
    or kind = 'failed_refund' and subject_id in (
           select r.id from settlement_lines l join refunds r on r.payment_id = l.payment_id
            where l.settlement_id = %(settlement)s and l.status = %(lines)s))
"""  # noqa: S608  constant text
_REFUND_GOES_ON = """
update refunds set blocked_reason = null, updated_at = now() where id = %s and blocked_reason = 'refund_failed'
"""
_SETTLEMENTS_OF = """
select distinct settlement_id from settlement_lines
 where status = 'failed' and (investment_id = %(subject)s
       or payment_id = (select payment_id from payment_attempts where reference = %(subject)s))
"""
_SETTLEMENT_GOES_ON: Final[LiteralString] = f"""
update settlements set blocked_reason = null, updated_at = now()
 where id = %(settlement)s and blocked_reason = 'failed_lines' and not exists (
       select from cases where kind = 'failed_line' and status = 'open' and subject_id in ({_SUBJECTS}))
"""  # noqa: S608  constant text


async def open_case(
    tx: Tx, scope: Scope, *, kind: str, subject_id: str, detail: dict[str, Any], as_of: datetime, again: bool = False
) -> None:
    """Open it once; the same kind about the same subject is the same case.

    `again`: this is no repeated report, so a case that was closed is open again.
    """
    row = Case(
        tenant_id=scope.tenant_id, mode=scope.mode, id=derive_id("cas", scope, kind, subject_id), kind=kind,
        subject_id=subject_id, status="open", detail=detail, opened_at=as_of,
    )  # fmt: skip
    if not await insert(tx, row, or_nothing=True) and again:
        await tx.execute(_AGAIN, (Jsonb(detail), as_of, row.id))


async def resolve_case(tx: Tx, scope: Scope, *, kind: str, subject_id: str, resolution: str, as_of: datetime) -> None:
    """Close it with a word on how; closing twice keeps the first word."""
    await tx.execute(_CLOSE, (resolution, as_of, derive_id("cas", scope, kind, subject_id)))


async def resolve_about(
    tx: Tx, subject_ids: Sequence[str], kinds: Sequence[str], resolution: str, as_of: datetime
) -> None:
    """Close whatever is open of these kinds about any of the subjects."""
    await tx.execute(
        """update cases set status = 'resolved', resolution = %s, resolved_at = %s
            where status = 'open' and kind = any(%s) and subject_id = any(%s)""",
        (resolution, as_of, list(kinds), list(subject_ids)),
    )


async def resolve_by_hand(tx: Tx, case: Case, resolution: str, as_of: datetime) -> Case:
    """Close it with somebody's words, and let go what stood still for it. The caller has checked that it may be closed.

    A settlement goes on being blocked while another of its failed lines has an open case.
    """
    await tx.execute(_CLOSE, (resolution, as_of, case.id))
    if case.kind == "failed_refund":
        await tx.execute(_REFUND_GOES_ON, (case.subject_id,))
    if case.kind == "failed_line":
        found = await (await tx.execute(_SETTLEMENTS_OF, {"subject": case.subject_id})).fetchall()
        for row in found:
            await tx.execute(_SETTLEMENT_GOES_ON, {"settlement": row["settlement_id"], "lines": "failed"})
    closed = await get_case(tx, case.id)
    assert closed is not None
    return closed


async def resolve_retried(tx: Tx, settlement_id: str, as_of: datetime) -> None:
    """Close the cases of a settlement's lines that were just put back in the queue: what fails again opens them again."""
    values = {"settlement": settlement_id, "lines": "queued", "as_of": as_of, "retried": RETRIED}
    await tx.execute(_RETRIED, values)


async def get_case(tx: Tx, case_id: str, *, lock: bool = False) -> Case | None:
    """One case, held until the transaction ends if `lock`."""
    return await by_id(tx, Case, case_id, lock=lock)


async def open_cases(tx: Tx, limit: int) -> list[Case]:
    """Open cases, oldest first."""
    return await read_all(
        tx, Case, "select * from cases where status = 'open' order by opened_at, id limit %s", (limit,)
    )
