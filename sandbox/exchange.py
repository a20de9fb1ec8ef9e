"""One API call from the wire to the wire: account, idempotency, fault, effect, commit, answer (or the lack of one).

The provider's module supplies a `Call`: who is asking, what it is about, what to do, and how its errors look. All of
it runs in one transaction; only then does the answer leave, or the fault spoil it.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandbox import clock, faults
from sandbox.answers import Answer, Idempotency, Refusal, Vendor
from sandbox.book import Book, Tx
from sandbox.faults import Fault, Target
from sandbox.records import Account
from sandbox.webhooks import Courier

MAX_BODY = 256 * 1024


@dataclass(frozen=True)
class Call:
    """One API call. `effect` returns the answer or raises Refusal; it acts out the fault kinds `faults.WITHIN`."""

    vendor: Vendor
    operation: str
    identify: Callable[[Tx], Account | None]
    effect: Callable[[Tx, Account, Fault], Answer]
    locate: Callable[[Tx, Account], Target] = lambda tx, account: Target()
    idempotency: Idempotency | None = None


@dataclass
class Desk:
    """What every endpoint needs: the book, the courier, and the keys now being worked on."""

    book: Book
    courier: Courier
    in_flight: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class _Outcome:
    answer: Answer
    fault: Fault = faults.NONE
    early: list[int] = field(default_factory=list)


def desk_of(request: Request) -> Desk:
    """The desk of the running application."""
    desk: Desk = request.app.state.desk
    return desk


async def perform(request: Request, call: Call) -> Response:
    """Carry out one API call."""
    desk = desk_of(request)
    key = (_credential(request), call.idempotency.key) if call.idempotency else None
    if key in desk.in_flight:
        return _reply(call.vendor.in_flight)
    if key:
        desk.in_flight.add(key)
    try:
        outcome = await desk.book.run(lambda tx: _in_transaction(tx, call))
        if outcome.fault.kind == "hang_before":
            return await _hold_then_hang_up(request, outcome.fault.seconds)
    finally:
        desk.in_flight.discard(key)
    await desk.courier.deliver_first(outcome.early)
    desk.courier.wake()
    return await _send(request, call, outcome)


def _in_transaction(tx: Tx, call: Call) -> _Outcome:
    account = call.identify(tx)
    if account is None:
        return _Outcome(call.vendor.unauthorized)
    clock.catch_up(tx, account)
    kept = _kept_answer(tx, account, call)
    if kept is not None:
        return _Outcome(kept)
    fault = faults.pick(tx, account, call.operation, call.locate(tx, account))
    if fault.kind in faults.BEFORE:
        return _Outcome(_answer_before(call.vendor, fault), fault)
    executed = True
    tx.run("savepoint effect")
    try:
        answer = call.effect(tx, account, fault)
    except Refusal as refusal:  # whatever was begun is undone; the fault has fired all the same
        tx.run("rollback to effect")
        tx.early.clear()
        answer, executed = refusal.answer, refusal.executed
    tx.run("release effect")
    if call.idempotency and executed:
        store_error = fault.kind == "500_after" and bool(fault.params.get("store"))
        _keep(tx, account, call.idempotency, call.vendor.server_error if store_error else answer)
    return _Outcome(answer, fault, tx.early)


def _answer_before(vendor: Vendor, fault: Fault) -> Answer:
    if fault.kind == "429":
        return Answer(429, vendor.too_many.body, {"Retry-After": str(fault.params.get("retry_after", 1))})
    return vendor.server_error


def _kept_answer(tx: Tx, account: Account, call: Call) -> Answer | None:
    """The stored answer of this Idempotency-Key, or the refusal when the request is another one."""
    if call.idempotency is None:
        return None
    row = tx.row("select * from idempotency where account=? and key=?", account.secret_key, call.idempotency.key)
    if row is None:
        return None
    if row["fingerprint"] != call.idempotency.fingerprint:
        return call.vendor.other_body
    return Answer(row["status"], json.loads(row["body"]), {"Idempotent-Replayed": "true"})


def _keep(tx: Tx, account: Account, idempotency: Idempotency, answer: Answer) -> None:
    tx.run(
        "insert into idempotency (account, key, fingerprint, status, body) values (?,?,?,?,?)",
        account.secret_key,
        idempotency.key,
        idempotency.fingerprint,
        answer.status,
        json.dumps(answer.body),
    )


async def _send(request: Request, call: Call, outcome: _Outcome) -> Response:
    """The answer, spoiled as the fault says."""
    kind = outcome.fault.kind
    if kind == "hang_after":
        return await _hold_then_hang_up(request, outcome.fault.seconds)
    if kind == "reset_after":
        return HangUp()
    if kind == "500_after":
        return _reply(call.vendor.server_error)
    if kind == "malformed":
        text = json.dumps(outcome.answer.body)
        return Response(text[: max(1, len(text) // 2)], outcome.answer.status, media_type="application/json")
    return _reply(outcome.answer)


def _reply(answer: Answer) -> Response:
    return Response(json.dumps(answer.body), answer.status, dict(answer.headers), media_type="application/json")


def _credential(request: Request) -> str:
    return request.headers.get("authorization", "")


async def _hold_then_hang_up(request: Request, seconds: float) -> Response:
    """Keep the connection open without a byte, until the time is over or the client has left."""

    async def client_left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client_left(), timeout=seconds)
    return HangUp()


class HangUp(Response):
    """Closes the connection without an answer.

    The server's protocol class puts its transport into the connection's state (`server.HangUpProtocol`). Under another
    server the answer is cut off after its headers instead, which a client cannot read either.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Abort the transport, or start an answer that never ends."""
        transport = scope.get("state", {}).get("transport")
        if transport is not None:
            transport.abort()
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})


async def read_body(request: Request) -> bytes:
    """The whole body, bounded. Raises ValueError when it is larger than any call of these APIs."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ValueError("body too large")
    return body
