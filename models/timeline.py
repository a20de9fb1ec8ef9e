"""The timeline of an entity: what happened to it, in business time, in words a person and a program can read."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from infra.database import Tx
from models.base import Scoped, read_all


class TimelineEntry(Scoped, table=True):
    """One event. `at` is business time (a test clock may run ahead), `recorded_at` the wall clock's. Append-only."""

    __tablename__: ClassVar[str] = "timeline"

    entity_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    at: datetime
    recorded_at: datetime
    event: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB))


_RECORD = """
insert into timeline (tenant_id, mode, entity_id, at, event, detail)
select %s, %s, e.id, %s, %s, %s from unnest(%s::text[]) with ordinality as e(id, place) order by e.place
"""


async def record(
    tx: Tx, scope: Scope, entity_ids: Sequence[str], event: str, at: datetime, detail: dict[str, Any] | None = None
) -> None:
    """Append `event` (a short snake_case fact, such as `payment_captured`) to each timeline in the caller's transaction."""
    assert at.tzinfo is not None, "business time is aware"
    told = Jsonb(detail or {}, dumps=lambda value: json.dumps(value, default=str))
    await tx.execute(_RECORD, (scope.tenant_id, str(scope.mode), at, event, told, list(entity_ids)))


_RECORD_MANY = """
insert into timeline (tenant_id, mode, entity_id, at, event, detail)
select %s, %s, e.id, %s, e.event, e.detail
  from unnest(%s::text[], %s::text[], %s::jsonb[]) with ordinality as e(id, event, detail, place) order by e.place
"""


async def record_many(tx: Tx, scope: Scope, told: Sequence[tuple[str, str, dict[str, Any]]], at: datetime) -> None:
    """Append events in their order, each as (entity, event, detail), in one statement."""
    entities, events, details = ([each[place] for each in told] for place in range(3))
    values = (scope.tenant_id, str(scope.mode), at, entities, events, [Jsonb(each) for each in details])
    await tx.execute(_RECORD_MANY, values)


async def story(tx: Tx, entity_id: str, limit: int = 200) -> list[TimelineEntry]:
    """An entity's timeline from its beginning, at most `limit` events."""
    return await read_all(
        tx, TimelineEntry, "select * from timeline where entity_id = %s order by seq limit %s", (entity_id, limit)
    )
