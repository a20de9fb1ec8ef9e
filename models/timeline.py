"""The timeline of an entity: what happened to it, in business time, in words a person and a program can read."""

import json
from datetime import datetime
from typing import Any, ClassVar

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from infra.database import Tx
from models.base import Scoped


class TimelineEntry(Scoped, table=True):
    """One event. `at` is business time (a test clock may run ahead), `recorded_at` the wall clock's. Append-only."""

    __tablename__: ClassVar[str] = "timeline"

    entity_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    at: datetime
    recorded_at: datetime
    event: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB))


async def record(
    tx: Tx, scope: Scope, entity_id: str, event: str, at: datetime, detail: dict[str, Any] | None = None
) -> None:
    """Append `event` (a short snake_case fact, such as `payment_captured`) in the caller's transaction."""
    assert at.tzinfo is not None, "business time is aware"
    await tx.execute(
        "insert into timeline (tenant_id, mode, entity_id, at, event, detail) values (%s, %s, %s, %s, %s, %s)",
        (
            scope.tenant_id,
            str(scope.mode),
            entity_id,
            at,
            event,
            Jsonb(detail or {}, dumps=lambda value: json.dumps(value, default=str)),
        ),
    )
