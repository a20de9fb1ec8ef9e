"""Reading what a provider sent, strictly: a value of the wrong type is an unreadable answer, never a guess.

Amounts are JSON integers (a boolean, a float or `1e3` is not one). Text that Postgres could not store (U+0000, lone
surrogates) is refused here, at the door. Nothing in an error quotes the value: it may be personal data.
"""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

Json = dict[str, Any]

_TEXT_CHARS_MAX = 5_000
_DIGITS = re.compile(r"[0-9]{1,18}")
_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_URL = re.compile(r"https?://[!-~]+")


class Unreadable(ValueError):
    """The provider's answer is not what its contract says. The message names the field, never its value."""


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def parse_object(raw: bytes) -> Json:
    """One JSON object. Raises Unreadable on anything else, including NaN, bad UTF-8 and absurd nesting."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    return value


def mapping(source: Json, key: str) -> Json:
    """A nested object that must be there."""
    value = source.get(key)
    if not isinstance(value, dict):
        raise Unreadable(f"{key} is not an object")
    return value


def optional_mapping(source: Json, key: str) -> Json:
    """A nested object, or empty where it is absent, null, or the empty string or list that vendors send for nothing."""
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def items(source: Json, key: str) -> list[Json]:
    """A list of objects."""
    value = source.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Unreadable(f"{key} is not a list of objects")
    return value


def text(source: Json, key: str) -> str:
    """A non-empty string that can be stored."""
    value = source.get(key)
    if not isinstance(value, str) or not value or len(value) > _TEXT_CHARS_MAX or "\x00" in value:
        raise Unreadable(f"{key} is not a text")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise Unreadable(f"{key} is not Unicode")
    return value


def optional_text(source: Json, key: str) -> str | None:
    """A string, or None where it is absent, null or empty."""
    return None if source.get(key) in (None, "") else text(source, key)


def integer(source: Json, key: str) -> int:
    """A non-negative JSON integer."""
    value = source.get(key)
    if type(value) is not int or value < 0 or value >= 10**18:
        raise Unreadable(f"{key} is not an integer")
    return value


def integer_or_digits(source: Json, key: str) -> int:
    """As `integer`; also a string of ASCII digits, which Paystack sends in some events."""
    value = source.get(key)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return integer(source, key)


def identifier(source: Json, key: str) -> str | None:
    """An id given as an integer or as text, as text; None where absent or null."""
    value = source.get(key)
    return str(integer(source, key)) if type(value) is int else optional_text(source, key)


def url(source: Json, key: str) -> str:
    """An absolute http(s) address that a browser may be sent to."""
    value = text(source, key)
    if not _URL.fullmatch(value):
        raise Unreadable(f"{key} is not a web address")
    return value


def unix_time(source: Json, key: str) -> datetime | None:
    """Seconds since 1970 as an aware datetime, or None where absent."""
    if source.get(key) is None:
        return None
    try:
        return datetime.fromtimestamp(integer(source, key), UTC)
    except (OverflowError, OSError, ValueError):
        raise Unreadable(f"{key} is not a time") from None


def iso_time(source: Json, key: str) -> datetime | None:
    """An ISO 8601 time, or None where absent; without a zone it is UTC."""
    value = optional_text(source, key)
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise Unreadable(f"{key} is not a time") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def code(*candidates: object, default: str) -> str:
    """The first candidate that is a short machine-readable code; free text never passes."""
    for candidate in candidates:
        if isinstance(candidate, str) and _CODE.fullmatch(candidate):
            return candidate
    return default


def slug(phrase: str | None, *, default: str) -> str:
    """A vendor's phrase ("Insufficient Funds") as a code ("insufficient_funds"); digits go, they may be account data."""
    words = re.findall(r"[a-z]+", (phrase or "").lower())
    return "_".join(words)[:64] or default
