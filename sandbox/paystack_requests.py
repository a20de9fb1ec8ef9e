"""What all of Paystack's endpoints do with a request: read it, find the account, page through a list."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox import paystack_objects as wire
from sandbox.answers import Answer, Refusal
from sandbox.book import Tx
from sandbox.exchange import Call, perform, read_body
from sandbox.faults import Fault, Target
from sandbox.records import Account, find_account

Effect = Callable[[Tx, Account, Fault], Answer]
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
MAX_AMOUNT = 99_999_999_999


@dataclass(frozen=True)
class Body:
    """The JSON object of one request."""

    values: dict[str, Any]

    def amount(self) -> int | None:
        """`amount` as an integer; Paystack's own samples also write it as digits in a string."""
        found = self.values.get("amount")
        if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= 12:
            found = int(found)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MAX_AMOUNT:
            raise wire.refusal(400, "Invalid Amount Sent", "invalid_params", "Provide amount as an integer in subunits")
        return found

    def text(self, name: str) -> str | None:
        """A string, or None when absent or empty."""
        found = self.values.get(name)
        if found is not None and not isinstance(found, str):
            raise wire.refusal(400, f"Invalid {name}", "invalid_params")
        return found or None

    def email(self) -> str:
        """The payer's address."""
        found = self.text("email")
        if found is None or not _EMAIL.fullmatch(found):
            raise wire.refusal(400, "Invalid Email Address Passed", "invalid_params", "Provide a valid email address")
        return found

    def charge_amount(self) -> int:
        """The amount of a payment, which must be there."""
        found = self.amount()
        if found is None:
            raise wire.refusal(400, "Invalid Amount Sent", "invalid_params", "Provide the amount")
        return found

    def currency(self) -> str:
        """The currency; NGN when absent."""
        found = self.text("currency") or "NGN"
        if found not in wire.CURRENCIES:
            raise wire.refusal(403, "Currency not supported by merchant", "unsupported_currency")
        return found


async def _read(request: Request) -> Body:
    if request.method == "GET":
        return Body(dict(request.query_params))
    try:
        values = json.loads(await read_body(request))
    except (ValueError, RecursionError) as error:
        raise wire.refusal(400, "Invalid JSON in request body", "invalid_params") from error
    if not isinstance(values, dict):
        raise wire.refusal(400, "Invalid JSON in request body", "invalid_params")
    return Body(values)


def endpoint(handler: Callable[[Request, Body], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler with the request read; a refusal is its answer."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request, await _read(request))
        except Refusal as refusal:
            return JSONResponse(refusal.answer.body, refusal.answer.status)

    return answered


async def call(
    request: Request,
    operation: str,
    effect: Effect,
    locate: Callable[[Tx, Account], Target] = lambda tx, account: Target(),
) -> Response:
    """Carry out one call for the account whose secret key it bears."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")

    def identify(tx: Tx) -> Account | None:
        return find_account(tx, key.strip(), "paystack") if scheme.lower() == "bearer" else None

    return await perform(request, Call(wire.VENDOR, operation, identify, effect, locate))


def between(body: Body) -> tuple[str, list[Any]]:
    """`from` and `to` (ISO 8601, UTC when no offset is given) as SQL and its values."""
    sql = "1=1"
    values: list[Any] = []
    for name, operator in (("from", ">="), ("to", "<=")):
        found = body.text(name)
        if found is None:
            continue
        try:
            at = datetime.fromisoformat(found)
        except ValueError as error:
            raise wire.refusal(400, f"Invalid {name} date", "invalid_params") from error
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        sql, values = f"{sql} and created {operator} ?", [*values, int(at.timestamp())]
    return sql, values


def whole(body: Body, name: str, default: int, most: int) -> int:
    """A number from 1 to `most`."""
    found = body.text(name)
    if found is None:
        return default
    if not (found.isascii() and found.isdigit() and 1 <= int(found[:9]) <= most):
        raise wire.refusal(400, f"Invalid {name}", "invalid_params")
    return int(found)


def page_size(body: Body) -> int:
    """How many items a page has, under either of the names Paystack gives it."""
    return whole(body, "perPage" if "perPage" in body.values else "per_page", 50, 100)


def page_meta(total: int, size: int, page: int) -> wire.Wire:
    """The `meta` of a list."""
    pages = -(-total // size)
    return {"total": total, "skipped": size * (page - 1), "perPage": str(size), "page": page, "pageCount": pages}
