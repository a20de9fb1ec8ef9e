"""The outermost layer of the API: bounds every request before anything else reads it.

Plain ASGI. Gives the request its id, refuses what no endpoint should see (bad encodings, compressed, large or slow
bodies), reads the body whole (it is small by then; a picture is left to its endpoint), adds the security headers, logs
one line, and turns what nobody caught into a 500 that says nothing.
"""

import asyncio
import re
import time
from secrets import token_hex
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from domain.cards import holds_card_number

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")
_PLAIN = re.compile(rb"[!-$&-~]*")
"""A path or query that needs no decoding to be judged: printable ASCII without `%`."""
_UPLOAD = re.compile(r"/v1/campaigns/[^/]+/cover")
"""Where a picture is sent by PUT: its endpoint reads and bounds the body itself, once it knows that its caller may."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
_CLOSE = {"Connection": "close"}
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_UNLESS_SET = (b"cache-control", b"no-store")
_JSON_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_Header = tuple[bytes, bytes]


class _Refused(Exception):
    """The request ends here with this problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, detail


class _Gone(Exception):
    """The client left while sending its body: there is nobody to answer."""


class Limits:
    """The middleware. `body_max` in bytes, `body_seconds` for the whole body; `https` adds HSTS."""

    def __init__(self, app: ASGIApp, *, body_max: int, body_seconds: float, https: bool = False) -> None:
        self._app, self._body_max, self._body_seconds = app, body_max, body_seconds
        self._headers = (*_ALWAYS, _HSTS) if https else _ALWAYS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other ASGI traffic (lifespan) passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of a repeated one the first counts
        answer = _Answer(send, _request_id(headers), self._headers)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=answer.request_id)
        try:
            _check_encodings(scope)
            body = await self._read(scope, headers, receive)
            await self._app(scope, _replay(body, receive), answer.send)
        except _Refused as refused:
            response = problem(answer.request_id, refused.status, refused.code, refused.detail, headers=_CLOSE)
            await response(scope, receive, answer.send)
        except (_Gone, ClientDisconnect):
            answer.status = 499
        except Exception as error:
            log.error("request.failed", exc_info=error)
            if not answer.started:
                text = "Something went wrong on our side. Repeat the request with the same Idempotency-Key."
                await problem(answer.request_id, 500, "internal_error", text)(scope, receive, answer.send)
        finally:
            answer.log(scope)

    async def _read(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None when there is none, or it is left to the endpoint. Raises _Refused before reading more than
        the limit."""
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity"):
            raise _Refused(415, "unsupported_content_encoding", "Send the body without Content-Encoding.")
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return None
        if scope["method"] == "PUT" and _UPLOAD.fullmatch(scope["path"]) is not None:
            return None
        if length is not None and (not length.isdigit() or len(length) > 18 or int(length) > self._body_max):
            raise self._too_large()
        try:
            async with asyncio.timeout(self._body_seconds):
                return await self._collect(receive)
        except TimeoutError as error:
            raise _Refused(408, "body_too_slow", "The body did not arrive in time.") from error

    async def _collect(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            if len(body) > self._body_max:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> _Refused:
        return _Refused(413, "body_too_large", f"The body is larger than {self._body_max} bytes.")


class _Answer:
    """The way back to the client: adds the headers, remembers the status for the log."""

    def __init__(self, send: Send, request_id: str, headers: tuple[_Header, ...]) -> None:
        self._send, self.request_id = send, request_id
        self._headers = ((b"x-request-id", request_id.encode()), *headers)
        self.status, self.started, self._begun = 0, False, time.perf_counter_ns()

    async def send(self, message: Message) -> None:
        """Forward one ASGI message."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            message["headers"] = self._with_ours(list(message["headers"]))
        await self._send(message)

    def _with_ours(self, headers: list[_Header]) -> list[_Header]:
        """The application's headers and ours; ours stand for each name that both have, but for the last two."""
        given = dict(headers)
        if not given.keys().isdisjoint(name for name, _ in self._headers):
            ours = {name for name, _ in self._headers}
            headers = [header for header in headers if header[0] not in ours]
        headers += self._headers
        if _UNLESS_SET[0] not in given:
            headers.append(_UNLESS_SET)
        if _JSON_POLICY[0] not in given and given.get(b"content-type", b"").startswith(b"application/"):
            headers.append(_JSON_POLICY)
        return headers

    def log(self, scope: Scope) -> None:
        """The access log: the route's pattern where there is one, never the query."""
        route: Any = scope.get("route")
        path = getattr(route, "path", None) or "-"
        elapsed_us = (time.perf_counter_ns() - self._begun) // 1000
        write = log.warning if self.status >= 500 else log.info
        write("request", method=scope["method"], path=path, status=self.status, microseconds=elapsed_us)


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The client's own, if it is fit for logs and headers: it stands on every log line."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) and not holds_card_number(given) else f"req_{token_hex(16)}"


def _check_encodings(scope: Scope) -> None:
    """Path and query must be UTF-8 without U+0000; header values without control characters."""
    for raw in (scope.get("raw_path") or b"", scope.get("query_string") or b""):
        if _PLAIN.fullmatch(raw):
            continue
        text = unquote_to_bytes(raw.replace(b"+", b" "))
        if b"\x00" in text:
            raise _Refused(422, "invalid_text", "Text must not contain the character U+0000.")
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Refused(400, "malformed_url", "The URL is not valid UTF-8.") from error
    for _, value in scope["headers"]:
        if _CONTROL.search(value):
            raise _Refused(400, "malformed_header", "A header holds a control character.")


def _replay(body: bytes | None, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then only what still comes (the disconnect)."""
    if body is None:
        return receive
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
