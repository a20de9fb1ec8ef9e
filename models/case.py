"""Cases: what a person should see. Opened beside the money, by the rule that met something unexpected."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from contracts.ids import derive_id
from infra.database import Tx
from models.base import Scoped, insert, read_all


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


async def open_case(
    tx: Tx, scope: Scope, *, kind: str, subject_id: str, detail: dict[str, Any], as_of: datetime
) -> None:
    """Open it once; the same kind about the same subject is the same case."""
    row = Case(
        tenant_id=scope.tenant_id, mode=scope.mode, id=derive_id("cas", scope, kind, subject_id), kind=kind,
        subject_id=subject_id, status="open", detail=detail, opened_at=as_of,
    )  # fmt: skip
    await insert(tx, row, or_nothing=True)


async def resolve_case(tx: Tx, scope: Scope, *, kind: str, subject_id: str, resolution: str, as_of: datetime) -> None:
    """Close it with a word on how; closing twice keeps the first word."""
    await tx.execute(
        "update cases set status = 'resolved', resolution = %s, resolved_at = %s where id = %s and status = 'open'",
        (resolution, as_of, derive_id("cas", scope, kind, subject_id)),
    )


async def open_cases(tx: Tx, limit: int) -> list[Case]:
    """Open cases, oldest first."""
    return await read_all(
        tx, Case, "select * from cases where status = 'open' order by opened_at, id limit %s", (limit,)
    )
