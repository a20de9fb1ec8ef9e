"""Who has a page of the feed already: told so before the request becomes one of the application's.

A 304 is worth what it saves. Its question is small (the feed's version, the caller's role), and asking it costs more than
answering: so requests that come while one question is on its way share the next. Each is answered by a question that began
after it came, so nobody is told that a page is the same after a change of his own, through whichever process.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import InvalidToken, Principal, Tokens
from api.policy import may_ask
from contracts.base import Scope as TenantScope
from infra.database import Database
from models import feed_pages
from models.feed_pages import Stamp

PATH: Final = "/v1/campaigns"
ACTION: Final = "campaign.read"
CACHED: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
"""One person's, and to be asked about each time: a page may hold the caller's own drafts, and a role may be taken away."""
_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in CACHED.items()]
_REMEMBERED: Final = 512
_REMEMBERED_BYTES: Final = 256
_BEARER: Final = b"Bearer "
_ROUTE: Final = SimpleNamespace(path=PATH)


@dataclass
class _Round:
    """One question that has not been asked yet: for whom, and where its answer will be."""

    users: set[str] = field(default_factory=set)
    answer: asyncio.Future[dict[str, Stamp]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Stamps:
    """The version of each tenant's feed, and callers' roles, one question at a time. `database` logs in as chama_app."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: dict[TenantScope, _Round] = {}
        self._asking: dict[TenantScope, asyncio.Task[None]] = {}

    async def of(self, scope: TenantScope, user_id: str) -> Stamp | None:
        """The version, and the user's role; None when unknown or disabled. Read after this call began."""
        mine = self._next.get(scope)
        if mine is None:
            mine = self._next[scope] = _Round()
            if scope not in self._asking:
                self._asking[scope] = asyncio.create_task(self._ask(scope))
        mine.users.add(user_id)
        return (await asyncio.shield(mine.answer)).get(user_id)

    async def _ask(self, scope: TenantScope) -> None:
        """Ask round after round, until nobody waits."""
        try:
            while (now := self._next.pop(scope, None)) is not None:
                try:
                    found = await feed_pages.stamps(self._database, scope, sorted(now.users))
                except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
                    now.answer.set_exception(error)
                else:
                    now.answer.set_result(found)
        finally:
            del self._asking[scope]


class Questions:
    """Queries of the feed that have been understood: the same bytes mean the same. Bounded, like what `reads` remembers."""

    def __init__(self) -> None:
        self._asked: dict[bytes, str] = {}

    def remember(self, query: bytes, asked: str) -> None:
        """`query` was found good, and is the question `asked`."""
        if len(query) <= _REMEMBERED_BYTES:
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            self._asked[query] = asked

    def find(self, query: bytes) -> str | None:
        """The question it is."""
        return self._asked.get(query)


def tag_of(asked: str, principal: Principal, version: int) -> str:
    """The page's tag: of the question, the caller and the version. Weak: the envelope has another request id each time."""
    text = f"{asked}|{principal.user_id}|{principal.role}"
    return f'W/"{version}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"'


def names(header: str, current: str) -> bool:
    """Whether `If-None-Match` names the tag; weak and strong are compared as one (RFC 9110, 13.1.2)."""
    opaque = current.removeprefix("W/")
    return header.strip() == "*" or any(each.strip().removeprefix("W/") == opaque for each in header.split(","))


class KnownPages:
    """The middleware. What it does not answer goes on to the application, which judges it as ever."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, stamps: Stamps, questions: Questions) -> None:
        self._app, self._tokens, self._stamps, self._questions = app, tokens, stamps, questions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """304 to whom has the page; everything else passes."""
        tag = await self._tag(scope) if scope.get("path") == PATH and scope.get("method") == "GET" else None
        if tag is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        headers = [*_HEADERS, (b"etag", tag.encode())]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _tag(self, scope: Scope) -> str | None:
        """The page's tag, if the request holds it, and its caller is who the token says."""
        asked = self._questions.find(scope["query_string"])
        if asked is None:
            return None
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        held, credentials = headers.get(b"if-none-match"), headers.get(b"authorization", b"")
        if held is None or not credentials.startswith(_BEARER):
            return None
        try:
            claimed = self._tokens.check(credentials[len(_BEARER) :].decode("latin-1"))
        except InvalidToken:
            return None
        if claimed.role is None or not may_ask(claimed.role, ACTION):
            return None
        try:
            now = await self._stamps.of(claimed.scope, claimed.user_id)
        except (psycopg.OperationalError, PoolTimeout):
            return None
        if now is None or now.role is not claimed.role:
            return None
        tag = tag_of(asked, claimed, now.version)
        if names(held.decode("latin-1"), tag):
            return tag
        scope.setdefault("state", {})["feed_changed"] = True  # the application need not ask whether it is the same
        return None
