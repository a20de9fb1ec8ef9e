"""The feed of campaigns over HTTP: what was asked, the cursor that goes on with it, and the tag that says it is the same.

The tag is made of the question, the caller and the feed's version (`models/feed_pages.py`), so a client that has the page
is told so without the page being made. It is weak: the envelope around the same page has another request id and time.
"""

import hashlib
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from api.auth import Principal
from api.envelope import aware_time, decode_cursor, document, encode_cursor
from api.feed_known import CACHED, Questions, Stamps, names, tag_of
from api.reads import Reader
from domain.errors import BadRequest, InvalidRequest
from models import feed_pages
from models.feed_pages import FeedPage, Sort, Wanted, feed_query
from models.user import Role

_FORM: Final = hashlib.blake2b(
    "".join(feed_query(sort, (), later=False, everything=False) for sort in Sort).encode(), digest_size=6
).hexdigest()
"""Of the statements: another release that shows other fields gives other tags."""
_TIMED: Final = frozenset({Sort.NEWEST, Sort.ENDING_SOON})
_KEYS_END: Final = {Sort.MOST_FUNDED: 2**62, Sort.RECOMMENDED: 2**15}
"""Of the other sorts: what their column has no room for, no cursor of ours names."""


def checked(filters: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given. Raises InvalidRequest naming the one that cannot be."""
    found = {name: value for name, value in filters.items() if value is not None}
    for name in ("min_goal", "max_goal"):
        if name in found and "currency" not in found:
            text = "Amounts of different currencies cannot be compared: name the currency."
            raise InvalidRequest("currency_required", text, field="currency")
    return found


async def answer(reader: Reader, sort: Sort, filters: dict[str, Any], limit: int, cursor: str | None) -> Response:
    """The page, or 304 to whom already has it. Raises InvalidToken, Forbidden and BadRequest `invalid_cursor`."""
    wanted = Wanted(sort, filters, _after(sort, filters, cursor), limit)
    asked = repr((_FORM, str(sort), sorted(filters.items()), limit, wanted.after))

    stamps: Stamps = reader.request.app.state.feed_stamps
    questions: Questions = reader.request.app.state.feed_questions
    held = reader.request.headers.get("if-none-match")
    if held is not None and not getattr(reader.request.state, "feed_changed", False):
        principal, now = await reader.asked(lambda who: stamps.of(who.scope, who.user_id))
        current = tag_of(asked, principal, now.version)
        if names(held, current):
            return Response(status_code=304, headers={**CACHED, "ETag": current})

    def ask(who: Principal) -> Any:
        everything = who.role is Role.ADMIN
        return feed_pages.page(reader.database, who.scope, who.user_id, wanted, everything=everything)

    principal, page = await reader.asked(ask)
    response = document(reader.request, f"[{page.document or ''}]", next_cursor=_next(wanted, page))
    response.headers.update({**CACHED, "ETag": tag_of(asked, principal, page.version)})
    questions.remember(reader.request.scope["query_string"], asked)
    return response


def _question(sort: Sort, filters: dict[str, Any]) -> str:
    return hashlib.blake2b(repr((str(sort), sorted(filters.items()))).encode(), digest_size=9).hexdigest()


def _after(sort: Sort, filters: dict[str, Any], cursor: str | None) -> tuple[Any, str] | None:
    """The sort key and id of the last row seen. Raises BadRequest for a cursor of another question, or of none."""
    if cursor is None:
        return None
    question, key, row_id = decode_cursor(cursor, str, str, str)
    try:
        place = aware_time(key) if sort in _TIMED else int(key)
        fits = question == _question(sort, filters) and (isinstance(place, datetime) or 0 <= place < _KEYS_END[sort])
    except ValueError:
        fits = False
    if not fits:
        text = "The cursor is of another list: sort and filters stay the same from page to page."
        raise BadRequest("invalid_cursor", text, field="cursor")
    return place, row_id


def _next(wanted: Wanted, page: FeedPage) -> str | None:
    if page.rows < wanted.limit or page.last is None:
        return None
    return encode_cursor(_question(wanted.sort, wanted.filters), *page.last)
