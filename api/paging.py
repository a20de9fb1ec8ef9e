"""Newest-first lists: the query parameters every one of them takes, and the reading of its cursor."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Query

from api.envelope import aware_time, decode_cursor, encode_cursor
from domain.errors import BadRequest

Limit = Annotated[int, Query(ge=1, le=100, description="Rows a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`meta.next_cursor` of the page before")]


class Listed(Protocol):
    """A row of such a list."""

    id: str
    created_at: datetime


def next_cursor(rows: Sequence[Listed], limit: int) -> str | None:
    """The cursor that goes on after these rows; None where they are fewer than were asked for."""
    return encode_cursor(rows[-1].created_at.isoformat(), rows[-1].id) if len(rows) == limit else None


def before(cursor: str | None) -> tuple[datetime, str] | None:
    """(created_at, id) of the last row seen. Raises BadRequest `invalid_cursor`."""
    if cursor is None:
        return None
    stamp, row_id = decode_cursor(cursor, str, str)
    try:
        return aware_time(stamp), row_id
    except ValueError as error:
        raise BadRequest("invalid_cursor", "The cursor is not one this list gave out.", field="cursor") from error
