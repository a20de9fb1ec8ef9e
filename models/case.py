"""Cases: what a person should see. Opened beside the money, by the rule that met something unexpected."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

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


CLOSE: Final = """
update cases set status = 'resolved', resolution = %s, resolved_at = %s where id = any(%s) and status = 'open'
"""
UNEXPECTED_MONEY: Final = ("late_success", "amount_mismatch")
"""The kinds about money in an attempt that has to go back."""
UNBOOKED: Final = "unbooked"
"""In the detail of an `amount_mismatch`: it was taken in what cannot be booked, so no refund of ours will close the case."""
_AGAIN = """
update cases set status = 'open', detail = %s, opened_at = %s, resolution = null, resolved_at = null
 where id = %s and status = 'resolved'
"""


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
    await resolve_about(tx, scope, [subject_id], [kind], resolution, as_of)


async def resolve_about(
    tx: Tx, scope: Scope, subject_ids: Sequence[str], kinds: Sequence[str], resolution: str, as_of: datetime
) -> None:
    """Close whatever is open of these kinds about any of the subjects."""
    ids = [derive_id("cas", scope, kind, subject) for subject in subject_ids for kind in kinds]
    await tx.execute(CLOSE, (resolution, as_of, ids))


async def get_case(tx: Tx, case_id: str, *, lock: bool = False) -> Case | None:
    """One case, held until the transaction ends if `lock`."""
    return await by_id(tx, Case, case_id, lock=lock)


async def open_cases(tx: Tx, limit: int) -> list[Case]:
    """Open cases, oldest first."""
    return await read_all(
        tx, Case, "select * from cases where status = 'open' order by opened_at, id limit %s", (limit,)
    )
