"""One HTTP exchange with a provider, and what its outcome proves.

    what happened                                        POST (has an effect)   GET (has none)
    no connection, no free connection                    RailNotSent            RailNotSent
    429                                                  RailNotSent            RailNotSent   (with retry_after)
    read or write failed, time is up, 3xx, 5xx           RailUnknown            RailNotSent
    an answer that is not the contract's JSON            RailUnknown            RailNotSent
    2xx with a JSON object                               the adapter's `read` makes the answer of it
    4xx with a JSON object                               `read` decides         `read` decides; RailNotSent if refused

A refused question (a wrong key, a wrong address) says nothing about the payment it asked for, so it never fails one.

Bodies and headers are never logged: they hold keys and personal data. Redirects are not followed, an answer has a size
limit, and the whole exchange has one time limit (httpx's own limits are per read, and a dribbling peer beats those).
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.cookies import CookieError
from typing import TypeVar

import httpx
import structlog

from activities.gateways.fields import Json, Unreadable, parse_object
from activities.gateways.protocols import RailError, RailNotSent, RailRejected, RailUnknown
from infra.correlation import current_id

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_BODY_BYTES_MAX = 4 * 1024 * 1024
_RETRY_AFTER_MAX = timedelta(hours=1)
_SECRET = re.compile(r"[!-~]{1,512}")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_MAYBE_SENT = (TimeoutError, httpx.HTTPError, httpx.StreamError, CookieError)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of 2xx or 4xx (not 429) whose body is a JSON object."""

    status: int
    headers: httpx.Headers
    body: Json

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class RailHttp:
    """A provider account's door. Stateless but for the shared client; safe to use concurrently."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        rail: str,
        base_url: str,
        secret_key: str,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """`base_url` has no trailing path of the API itself; `timeout_seconds` limits one exchange as a whole."""
        self._client = client
        self._rail = rail
        self._base_url = base_url.rstrip("/")
        self._secret_key = secret_key
        self._headers = dict(headers or {})
        self._timeout_seconds = timeout_seconds

    async def get(self, path: str, read: Callable[[Reply], T], *, params: Mapping[str, str] | None = None) -> T:
        """A question without effect. `read` turns the reply into an answer or raises a RailError or Unreadable."""
        request = self._request("GET", path, params=params)
        return await self._exchange(request, read, has_effect=False)

    async def post(
        self,
        path: str,
        read: Callable[[Reply], T],
        *,
        form: Mapping[str, str] | None = None,
        json: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """A request with an effect, form-encoded or JSON."""
        request = self._request("POST", path, form=form, json=json, headers=headers)
        return await self._exchange(request, read, has_effect=True)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        if not _SECRET.fullmatch(self._secret_key):
            raise (RailRejected if method == "POST" else RailNotSent)("not_configured")
        limit = self._timeout_seconds
        correlation = current_id()
        request = self._client.build_request(
            method,
            self._base_url + path,
            params=params,
            data=form,
            json=json,
            headers={
                **self._headers,
                **(headers or {}),
                "Authorization": f"Bearer {self._secret_key}",
                "Accept": "application/json",
                **({"X-Request-Id": correlation} if correlation else {}),
                # A compressed answer could be small on the wire and huge in memory.
                "Accept-Encoding": "identity",
            },
            # Connecting takes at most three quarters of the whole, so the whole limit can only strike after sending.
            timeout=httpx.Timeout(limit, connect=limit / 2, pool=limit / 4),
        )
        # The client is shared by all accounts: a cookie set for one must not travel with another's key.
        request.headers.pop("Cookie", None)
        return request

    async def _exchange(self, request: httpx.Request, read: Callable[[Reply], T], *, has_effect: bool) -> T:
        uncertain: type[RailError] = RailUnknown if has_effect else RailNotSent
        try:
            status, headers, raw = await self._send(request)
            self._check_status(status, headers, uncertain)
            return read(Reply(status, headers, parse_object(raw)))
        except _NEVER_SENT as error:
            raise self._failed(RailNotSent("connect_failed"), request, error) from None
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self._failed(uncertain("timeout"), request, error) from None
        except _MAYBE_SENT as error:
            raise self._failed(uncertain("connection_lost"), request, error) from None
        except Unreadable as error:
            raise self._failed(uncertain("unreadable_answer"), request, error) from None
        except RailRejected as error:
            raise self._failed(error if has_effect else RailNotSent(error.code), request, error) from None
        except RailError as error:
            raise self._failed(error, request, error) from None

    async def _send(self, request: httpx.Request) -> tuple[int, httpx.Headers, bytes]:
        async with asyncio.timeout(self._timeout_seconds):
            response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _BODY_BYTES_MAX:
                        raise Unreadable("answer too large")
            finally:
                await response.aclose()
        return response.status_code, response.headers, bytes(body)

    @staticmethod
    def _check_status(status: int, headers: httpx.Headers, uncertain: type[RailError]) -> None:
        """Settle what needs no body: throttling, server errors, redirects. 408 is the server's own time-out."""
        if status == 429:
            raise RailNotSent("rate_limited", retry_after=_retry_after(headers))
        if status >= 500 or status == 408:
            raise uncertain("server_error", retry_after=_retry_after(headers))
        if not (200 <= status < 300 or 400 <= status < 500):
            raise uncertain("unexpected_status")

    def _failed(self, outcome: RailError, request: httpx.Request, cause: Exception) -> RailError:
        _log.warning(
            "rail_exchange_failed",
            rail=self._rail,
            method=request.method,
            outcome=type(outcome).__name__,
            code=outcome.code,
            cause=type(cause).__name__,
        )
        return outcome


def _retry_after(headers: httpx.Headers) -> timedelta | None:
    """`Retry-After` in seconds, at most an hour. A date is ignored: our clocks may differ, the caller backs off anyway."""
    value = headers.get("Retry-After", "")
    if not re.fullmatch(r"[0-9]{1,9}", value):
        return None
    return min(timedelta(seconds=int(value)), _RETRY_AFTER_MAX)
