"""Campaigns watched live: one reader a process looks once a second at every campaign that anybody watches, and tells all.

A hundred watchers cost the database what one does. Nothing is queued for a slow one: each is told the state of now, once
it can take it. NOTIFY is not used: every commit that notifies waits for every other, and those would be the pledges.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import PoolTimeout
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth import Principal
from contracts.base import Scope as TenantScope
from domain.campaign import CampaignStatus, is_public, progress_bps
from domain.errors import NotFound
from infra.database import Database
from models.progress import Progress, find_progress, read_progress
from models.user import Role

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 1
_HEARTBEAT_SECONDS: Final = 15
_LIFE_SECONDS: Final = 900
"""Then the client comes again, with a token that is checked anew."""
_GRACE_SECONDS: Final = 30
EACH_MAX: Final = 10
"""Streams of one person in one process."""

_Key = tuple[TenantScope, str]


class TooManyStreams(Exception):
    """The process, or the person, has as many streams as may be."""


@dataclass
class _Watch:
    """One campaign that is watched, and what its watchers wait for."""

    progress: Progress | None
    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, progress: Progress | None) -> None:
        """Wake every watcher if it is news; None: the campaign is gone."""
        if progress != self.progress:
            self.progress = progress
            self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Streams:
    """The watched campaigns of one process, at most `most` streams at once. `database` logs in as chama_app."""

    def __init__(self, database: Database, *, most: int) -> None:
        self._database, self._most = database, most
        self._watches: dict[_Key, _Watch] = {}
        self._people: Counter[str] = Counter()
        self._stopping = False
        self._reader: asyncio.Task[None] | None = None

    async def open(self, principal: Principal, id_or_slug: str, last_event: str | None) -> "EventStream":
        """A stream that begins with the state of now. Raises NotFound, for what is not the caller's to see too, and
        TooManyStreams."""
        async with self._database.transaction(principal.scope) as tx:
            progress = await find_progress(tx, id_or_slug)
        if progress is None or not _visible(progress, principal):
            raise NotFound("campaign")
        if self._stopping or self._people.total() >= self._most or self._people[principal.user_id] >= EACH_MAX:
            raise TooManyStreams
        key = (principal.scope, progress.campaign_id)
        watch = self._watches.setdefault(key, _Watch(progress))
        watch.tell(progress)
        watch.watchers += 1
        self._people[principal.user_id] += 1
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        return EventStream(self._events(watch, principal, last_event), lambda: self._left(key, principal))

    def stop(self) -> None:
        """End every stream, and take no more: the process is about to end."""
        self._stopping = True
        for watch in self._watches.values():
            watch.wake()

    async def close(self) -> None:
        """Stop, and wait for the reader."""
        self.stop()
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    def _left(self, key: _Key, principal: Principal) -> None:
        self._people[principal.user_id] -= 1
        self._people += Counter()  # drops those at zero
        watch = self._watches[key]
        watch.watchers -= 1
        if watch.watchers == 0:
            del self._watches[key]

    async def _events(self, watch: _Watch, principal: Principal, last: str | None) -> AsyncIterator[str]:
        """The text of the stream: a changed state as an event, a comment when there was none for a while."""
        ends_at = asyncio.get_running_loop().time() + _LIFE_SECONDS
        yield f"retry: {_LOOK_SECONDS * 3000}\n\n"
        while True:
            changed, progress = watch.changed, watch.progress
            if self._stopping or progress is None or not _visible(progress, principal):
                return
            if (event_id := _id(progress)) != last:
                last = event_id
                yield f"id: {event_id}\nevent: progress\ndata: {json.dumps(_data(progress), separators=(',', ':'))}\n\n"
                continue
            left = ends_at - asyncio.get_running_loop().time()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(changed.wait(), min(_HEARTBEAT_SECONDS, left))
            except TimeoutError:
                yield ": still here\n\n"

    async def _read(self) -> None:
        """Look at what is watched until nothing is. An outage of the database is waited out."""
        try:
            while self._watches:
                await asyncio.sleep(_LOOK_SECONDS)
                for scope in {scope for scope, _ in self._watches}:
                    await self._look(scope)
        finally:
            self._reader = None

    async def _look(self, scope: TenantScope) -> None:
        wanted = [campaign_id for of, campaign_id in self._watches if of == scope]
        try:
            async with self._database.transaction(scope) as tx:
                found = await read_progress(tx, wanted)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("streams.database_down", exc_info=error)
            return
        for campaign_id in wanted:
            if (watch := self._watches.get((scope, campaign_id))) is not None:
                watch.tell(found.get(campaign_id))


class EventStream(StreamingResponse):
    """An answer of `text/event-stream`; `left` is called once, however it ends."""

    def __init__(self, events: AsyncIterator[str], left: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end, the client leaves, or it has taken nothing for too long."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIFE_SECONDS + _GRACE_SECONDS):
                    await super().__call__(scope, receive, send)
        finally:
            self._left()


def _visible(progress: Progress, principal: Principal) -> bool:
    public = is_public(CampaignStatus(progress.status), approved=progress.approved)
    return public or principal.role is Role.ADMIN or principal.user_id == progress.owner_id


def _data(progress: Progress) -> dict[str, Any]:
    def money(amount_minor: int) -> dict[str, Any]:
        return {"amount": amount_minor, "currency": progress.currency}

    raised = progress.held_minor + progress.captured_minor
    return {
        "campaign_id": progress.campaign_id,
        "status": progress.status,
        "goal": money(progress.goal_minor),
        "raised": money(raised),
        "pledged": money(progress.pledged_minor),
        "held": money(progress.held_minor),
        "captured": money(progress.captured_minor),
        "progress_bps": progress_bps(raised, progress.goal_minor),
        "investors": progress.investors,
    }


def _id(progress: Progress) -> str:
    """The same for the same state, in every process: who comes again with it is not told it twice."""
    return hashlib.blake2b(json.dumps(_data(progress)).encode(), digest_size=8).hexdigest()
