"""The shape of requests and answers: strict fields in, the success envelope out, opaque cursors, and strict JSON.

The JSON that Python would let through is refused here, before any model sees it: NaN and Infinity, numbers beyond
float, duplicate keys, lone surrogates, bad UTF-8 (400 `malformed_json`), U+0000, which Postgres cannot store (422
`invalid_text`), and card numbers, which nobody here may store (422 `card_number`).
"""

import base64
import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Generic, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.errors import request_id_of
from domain.cards import holds_card_number
from domain.errors import BadRequest, InvalidRequest

MAX_AMOUNT = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""
_DEPTH_MAX = 32
_CURSOR_MAX = 512
_JSON = json.JSONEncoder(separators=(",", ":"))

T = TypeVar("T")


class StrictModel(BaseModel):
    """Base of every request body: no unknown fields, no conversions (`true` is no 1, `"5"` no 5, `10.0` no 10)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _no_controls(text: str) -> str:
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in text):
        raise ValueError("control characters are not allowed")
    return text


def aware_time(value: object) -> datetime:
    """The instant that an ISO 8601 text with an offset names, in UTC: Postgres takes no offset of 16 hours or more.

    Raises ValueError for anything else, and where UTC has no such date.
    """
    refused = "must be an ISO 8601 time with an offset"
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError(refused)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(refused)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(refused) from error


def _day(value: object) -> date:
    if not isinstance(value, str) or len(value) != len("2027-01-31"):
        raise ValueError("must be a calendar day, YYYY-MM-DD")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("must be a calendar day, YYYY-MM-DD") from error


Amount = Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT, description="Minor units of the currency")]
Currency = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Z]{3}$")]
ShortText = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_no_controls),
]
LongText = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=5000)]
Timestamp = Annotated[datetime, BeforeValidator(aware_time)]
"""A time with an offset, as ISO 8601 text; nothing else converts. In UTC."""
Day = Annotated[date, BeforeValidator(_day)]
"""A calendar day of the tenant's zone, as ISO 8601 text."""
WebAddress = Annotated[str, StringConstraints(strict=True, pattern=r"^https://[!-~]+$", max_length=500)]
Email = Annotated[
    str,
    StringConstraints(
        strict=True,
        strip_whitespace=True,
        to_lower=True,
        max_length=254,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
        r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+$",
    ),
]
"""An ASCII address, lower-cased. Whether it exists is found out by sending to it."""


class Meta(BaseModel):
    """About the answer, not about the thing."""

    request_id: str
    timestamp: datetime
    next_cursor: str | None = None


class Envelope(BaseModel, Generic[T]):
    """The body of every success: `response_model=Envelope[CampaignView]`, or `Envelope[list[CampaignView]]`."""

    success: bool = True
    data: T
    meta: Meta


def _plain(data: Any) -> Any:
    if isinstance(data, BaseModel):
        return data.model_dump(mode="json")
    if isinstance(data, list | tuple):
        return [_plain(each) for each in data]
    return data


def _meta(request_id: str, more: dict[str, Any]) -> dict[str, Any]:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"request_id": request_id, "timestamp": stamp, **more}


def envelope(request_id: str, data: Any, **meta: Any) -> dict[str, Any]:
    """The success body around `data` (a model, a dict, or a list of these)."""
    return {"success": True, "data": _plain(data), "meta": _meta(request_id, meta)}


def success(request: Request, data: Any, status: int = 200) -> JSONResponse:
    """A success answer with one thing."""
    return JSONResponse(envelope(request_id_of(request), data), status_code=status)


def page(request: Request, rows: Sequence[Any], next_cursor: str | None) -> JSONResponse:
    """A success answer with a page of a list; `next_cursor` None on the last page."""
    return JSONResponse(envelope(request_id_of(request), list(rows), next_cursor=next_cursor))


def document(request: Request, data: str, **meta: Any) -> Response:
    """A success answer around `data` that is JSON text already; put together as text, so that nothing is parsed."""
    body = f'{{"success":true,"data":{data},"meta":{_JSON.encode(_meta(request_id_of(request), meta))}}}'
    return Response(body.encode(), media_type="application/json")


def encode_cursor(*parts: str | int) -> str:
    """An opaque place in a list: the sort key of the last row shown."""
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type[str] | type[int]) -> tuple[Any, ...]:
    """The parts of a cursor, of exactly those types. Raises BadRequest `invalid_cursor` for anything else."""
    refused = BadRequest("invalid_cursor", "The cursor is not one this list gave out.", field="cursor")
    if len(cursor) > _CURSOR_MAX or not re.fullmatch(r"[A-Za-z0-9_-]+", cursor):
        raise refused
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as error:
        raise refused from error
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise refused
    if any(isinstance(part, int) and abs(part) >= 2**63 for part in parts):
        raise refused
    if any(isinstance(part, str) and not part.isprintable() for part in parts):
        raise refused
    return tuple(parts)


def _malformed(reason: str) -> BadRequest:
    return BadRequest("malformed_json", f"The body is not valid JSON: {reason}.")


def _refuse_constant(_: str) -> NoReturn:
    raise _malformed("NaN and Infinity are not JSON numbers")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _malformed("a number is out of range")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _malformed("a key appears twice")
    return found


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text. Raises BadRequest `malformed_json`, InvalidRequest `invalid_text` or `card_number`."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except ValueError as error:
        raise _malformed("it cannot be parsed") from error
    _check_texts(value)
    return value


def _check_texts(value: Any) -> None:
    """Walk the value without recursion: bounded depth, no lone surrogate, no U+0000, no card number, keys included."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if depth > _DEPTH_MAX:
            raise _malformed("it is nested too deeply")
        if isinstance(each, str):
            _check_text(each)
        elif isinstance(each, dict):
            waiting.extend((part, depth + 1) for pair in each.items() for part in pair)
        elif isinstance(each, list):
            waiting.extend((part, depth + 1) for part in each)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise InvalidRequest("invalid_text", "Text must not contain the character U+0000.")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise _malformed("a text holds half of a surrogate pair")
    if holds_card_number(text):
        refusal = "Text must not contain a card number. Cards are entered on the payment provider's page only."
        raise InvalidRequest("card_number", refusal)
