"""The outermost layer of the API: bounds every request before anything else reads it.

Plain ASGI. Gives the request its id, refuses what no endpoint should see (bad encodings, compressed, large or slow
bodies), reads the body whole (it is small by then), adds the security headers, logs one line, and turns what nobody
caught into a 500 that says nothing.
"""

import asyncio
import re
import time
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from domain.cards import holds_card_number

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")
_CLOSE = {"Connection": "close"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_JSON_POLICY = "default-src 'none'; frame-ancestors 'none'"


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
        self._app, self._body_max, self._body_seconds, self._https = app, body_max, body_seconds, https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other ASGI traffic (lifespan) passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers), https=self._https)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=answer.request_id)
        try:
            _check_encodings(scope, headers)
            body = await self._read(headers, receive)
            await self._app(scope, _replay(body, receive), answer.send)
        except _Refused as refused:
            response = problem(answer.request_id, refused.status, refused.code, refused.detail, headers=_CLOSE)
            await response(scope, receive, answer.send)
        except _Gone:
            answer.status = 499
        except Exception as error:
            log.error("request.failed", exc_info=error)
            if not answer.started:
                text = "Something went wrong on our side. Repeat the request with the same Idempotency-Key."
                await problem(answer.request_id, 500, "internal_error", text)(scope, receive, answer.send)
        finally:
            answer.log(scope)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, or None when there is none. Raises _Refused before reading more than the limit."""
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise _Refused(415, "unsupported_content_encoding", "Send the body without Content-Encoding.")
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            return None
        if length is not None and (not length.isdecimal() or len(length) > 18 or int(length) > self._body_max):
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

    def __init__(self, send: Send, request_id: str, *, https: bool) -> None:
        self._send, self.request_id, self._https = send, request_id, https
        self.status, self.started, self._begun = 0, False, time.perf_counter_ns()

    async def send(self, message: Message) -> None:
        """Forward one ASGI message."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if headers.get("content-type", "").startswith("application/"):
                headers.setdefault("Content-Security-Policy", _JSON_POLICY)
            if self._https:
                headers["Strict-Transport-Security"] = "max-age=31536000"
        await self._send(message)

    def log(self, scope: Scope) -> None:
        """The access log: the route's pattern where there is one, never the query."""
        route: Any = scope.get("route")
        path = getattr(route, "path", None) or "-"
        elapsed_us = (time.perf_counter_ns() - self._begun) // 1000
        level = "warning" if self.status >= 500 else "info"
        getattr(log, level)("request", method=scope["method"], path=path, status=self.status, microseconds=elapsed_us)


def _request_id(headers: Headers) -> str:
    """The client's own, if it is fit for logs and headers: it stands on every log line."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) and not holds_card_number(given) else f"req_{uuid4().hex}"


def _check_encodings(scope: Scope, headers: Headers) -> None:
    """Path and query must be UTF-8 without U+0000; header values without control characters."""
    for raw in (scope.get("raw_path") or b"", scope.get("query_string") or b""):
        text = unquote_to_bytes(raw.replace(b"+", b" "))
        if b"\x00" in text:
            raise _Refused(422, "invalid_text", "Text must not contain the character U+0000.")
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Refused(400, "malformed_url", "The URL is not valid UTF-8.") from error
    for _, value in headers.raw:
        if any(byte < 0x20 and byte != 0x09 for byte in value):
            raise _Refused(400, "malformed_header", "A header holds a control character.")


def _replay(body: bytes | None, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then only what still comes (the disconnect)."""
    if body is None:
        return receive
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
