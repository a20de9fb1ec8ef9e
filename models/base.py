"""What every store shares: scoped tables, typed reads and the guarded update that keeps terminal states terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString, TypeVar
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb
from sqlmodel import Field, SQLModel

from domain.states import Machine
from infra.database import Tx

Row = TypeVar("Row", bound=SQLModel)
S = TypeVar("S", bound=StrEnum)


class Scoped(SQLModel):
    """The two columns that lead every key. Row-level security fills in the filter; inserts name them."""

    tenant_id: UUID = Field(primary_key=True)
    mode: str = Field(primary_key=True)


async def read(tx: Tx, row: type[Row], query: LiteralString | sql.Composed, params: Any = ()) -> Row | None:
    """The first row as an instance of table `row`, validated, or None."""
    found = await (await tx.execute(query, params)).fetchone()
    return row.model_validate(found) if found is not None else None


async def by_id(tx: Tx, row: type[Row], row_id: str, *, lock: bool = False) -> Row | None:
    """The row with that id, held for update until the transaction ends if `lock`."""
    query = sql.SQL("select * from {} where id = %s{}").format(
        sql.Identifier(str(row.__tablename__)), sql.SQL(" for update" if lock else "")
    )
    return await read(tx, row, query, (row_id,))


async def read_all(tx: Tx, row: type[Row], query: LiteralString | sql.Composed, params: Any = ()) -> list[Row]:
    """Every row as an instance of table `row`, validated."""
    found = await (await tx.execute(query, params)).fetchall()
    return [row.model_validate(each) for each in found]


def _plain(value: Any) -> Any:
    """A column value psycopg can send: JSON documents wrapped, enums as text."""
    if isinstance(value, dict | list):
        return Jsonb(value)
    return str(value) if isinstance(value, StrEnum) else value


async def insert(tx: Tx, row: SQLModel, *, or_nothing: bool = False) -> bool:
    """Insert one row with every field that is set. `or_nothing`: False when the key exists already."""
    values = {name: _plain(value) for name, value in row.model_dump(exclude_none=True).items()}
    statement = sql.SQL("insert into {} ({}) values ({}){}").format(
        sql.Identifier(str(row.__tablename__)),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
        sql.SQL(" on conflict do nothing" if or_nothing else ""),
    )
    return (await tx.execute(statement, values)).rowcount == 1


async def update(tx: Tx, table: type[SQLModel], key: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Set columns of the one row with `key`; False when there is none."""
    statement = sql.SQL("update {} set {}, updated_at = now() where {}").format(
        sql.Identifier(str(table.__tablename__)),
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in changes),
        sql.SQL(" and ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(f"key_{n}")) for n in key),
    )
    params = {n: _plain(v) for n, v in changes.items()} | {f"key_{n}": v for n, v in key.items()}
    return (await tx.execute(statement, params)).rowcount == 1


async def move(tx: Tx, table: type[SQLModel], machine: Machine[S], row_id: str, target: S, **changes: Any) -> bool:
    """Change status along the machine's table, and columns with it; False when the present status forbids it.

    The check and the change are one statement, so two writers cannot both win (DESIGN §2.9).
    """
    columns = {"status": target, **changes}
    statement = sql.SQL(
        "update {} set {}, updated_at = now() where id = %(row_id)s and status = any(%(sources)s)"
    ).format(
        sql.Identifier(str(table.__tablename__)),
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in columns),
    )
    params = {n: _plain(v) for n, v in columns.items()}
    params |= {"row_id": row_id, "sources": [str(s) for s in machine.sources(target)]}
    return (await tx.execute(statement, params)).rowcount == 1


async def move_many(
    tx: Tx, table: type[SQLModel], machine: Machine[S], row_ids: Sequence[str], target: S, **changes: Any
) -> None:
    """As `move`, for rows the caller has locked and knows to be movable, in one statement. Raises RuntimeError otherwise."""
    columns = {"status": target, **changes}
    statement = sql.SQL(
        "update {} set {}, updated_at = now() where id = any(%(row_ids)s) and status = any(%(sources)s)"
    ).format(
        sql.Identifier(str(table.__tablename__)),
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in columns),
    )
    params = {n: _plain(v) for n, v in columns.items()}
    params |= {"row_ids": list(row_ids), "sources": [str(s) for s in machine.sources(target)]}
    check_all((await tx.execute(statement, params)).rowcount, row_ids, f"{machine.noun} → {target}")


def check_all(changed: int, wanted: Sequence[object], what: str) -> None:
    """Raises RuntimeError unless a statement has changed every row it was meant for; then its transaction must not commit."""
    if changed != len(wanted):
        raise RuntimeError(f"{what}: {changed} of {len(wanted)} rows")


async def newest_first(
    tx: Tx, row: type[Row], wanted: Mapping[str, Any], *, before: tuple[datetime, str] | None, limit: int
) -> list[Row]:
    """A page of rows by (created_at, id), after the row `before` if given. Columns in `wanted` that are None do not narrow.

    Only what narrows stands in the statement, so that each combination has the index it needs.
    """
    given = {name: _plain(value) for name, value in wanted.items() if value is not None}
    where: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in given
    ]
    if before is not None:
        where.append(sql.SQL("(created_at, id) < (%(_at)s, %(_id)s)"))
    query = sql.SQL("select * from {} {} order by created_at desc, id desc limit %(_limit)s").format(
        sql.Identifier(str(row.__tablename__)),
        sql.SQL("where ") + sql.SQL(" and ").join(where) if where else sql.SQL(""),
    )
    at, row_id = before or (None, None)
    return await read_all(tx, row, query, given | {"_at": at, "_id": row_id, "_limit": limit})
