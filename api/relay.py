"""The relay: delivers what the requests' own inline attempts did not. A process of its own (`chama relay`).

Wakes on NOTIFY and every second, leases a batch (at most one message per order key), delivers it, notes the outcome.
Any number may run at once. While Temporal is down it probes with one message every few seconds; while Postgres is
down it waits. Light on purpose: it loads neither the web framework nor the table classes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import psycopg
import structlog
from psycopg_pool import PoolTimeout
from temporalio.client import Client
from temporalio.service import RPCError

from contracts.outbox import OutboxMessage
from infra.database import Database
from infra.delivery import ClientFactory, TemporalDown, TemporalLink, deliver
from models import outbox

log = structlog.get_logger(__name__)

_BATCH = 20
_AT_ONCE = 10
_POLL_SECONDS = 1
_LEASE = timedelta(seconds=15)
"""Longer than a whole batch may take (two turns of five seconds each); after it, another relay may deliver the message
again. What a relay that died had leased waits for so long."""
_OUTAGE_DELAY_MAX = timedelta(seconds=5)

Send = Callable[[Client, OutboxMessage], Awaitable[None]]


async def run_relay(
    database: Database, client_factory: ClientFactory, stop: asyncio.Event, *, send: Send = deliver
) -> None:
    """Relay until `stop` is set; the batch in hand is finished first. `database` logs in as chama_relay, and is open."""
    relay = Relay(database, TemporalLink(client_factory), send)
    listener = asyncio.create_task(relay.listen())
    try:
        while not stop.is_set():
            moved = await relay.round()
            if not moved:
                await relay.rest(stop)
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener
    log.info("relay.stopped")


class Relay:
    """One relay's state: its link to Temporal, and whether something was notified meanwhile."""

    def __init__(self, database: Database, link: TemporalLink, send: Send) -> None:
        self._database, self._link, self._send = database, link, send
        self._wake = asyncio.Event()
        self._down = False
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._unnoted: list[tuple[outbox.Leased, Exception | None]] = []
        """What became of the last batch, until the database has it: an outage of the database must not cost a lease."""

    async def round(self) -> int:
        """Lease, deliver and note one batch; returns how many were delivered. Outages are logged, never raised."""
        try:
            if self._unnoted:
                return await self._note()
            client = await self._link.client()
            async with self._database.transaction() as tx:
                leased = await outbox.claim(tx, 1 if self._down else _BATCH, _LEASE)
            outage = asyncio.Event()
            outcomes = await asyncio.gather(*(self._attempt(client, each.message, outage) for each in leased))
            self._unnoted = list(zip(leased, outcomes, strict=True))
            return await self._note()
        except TemporalDown as error:
            log.warning("relay.temporal_down", reason=str(error))
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("relay.database_down", exc_info=error)
        return 0

    async def _attempt(self, client: Client, message: OutboxMessage, outage: asyncio.Event) -> Exception | None:
        """Deliver one message; the failure, if any, is its outcome: one bad message must not stop the others.

        The first to find Temporal down sets `outage`, so that the rest of the batch need not wait for it too.
        """
        async with self._turns:
            if outage.is_set():
                return TemporalDown("found down a moment ago")
            try:
                await self._send(client, message)
            except TemporalDown as error:
                outage.set()
                return error
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this row and is kept on it
                return error
            return None

    async def _note(self) -> int:
        outcomes = self._unnoted
        delivered = [each.message.id for each, failure in outcomes if failure is None]
        covered = [later for each, failure in outcomes if failure is None for later in each.covered]
        if outcomes:
            self._down = any(isinstance(failure, TemporalDown) for _, failure in outcomes) and not delivered
        async with self._database.transaction() as tx:
            await outbox.mark_delivered(tx, delivered + covered)
            for (message, _), failure in outcomes:
                if failure is not None:
                    delay = outbox.backoff(message.attempts)
                    if isinstance(failure, TemporalDown):
                        delay = min(delay, _OUTAGE_DELAY_MAX)
                    await outbox.release(tx, message.id, _reason(failure), delay)
                    log.warning("relay.not_delivered", outbox_id=message.id, attempts=message.attempts,
                                reason=_reason(failure))  # fmt: skip
        self._unnoted = []
        return len(delivered)

    async def rest(self, stop: asyncio.Event) -> None:
        """Wait for a notification, the next poll, or the end."""
        waits = [asyncio.create_task(self._wake.wait()), asyncio.create_task(stop.wait())]
        await asyncio.wait(waits, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._wake.clear()

    async def listen(self) -> None:
        """Turn notifications into wake-ups, for ever; reconnects by itself (the poll carries on meanwhile)."""
        while True:
            try:
                async with self._database.listening(outbox.CHANNEL) as connection:
                    async for _ in connection.notifies():
                        self._wake.set()
            except (psycopg.OperationalError, OSError) as error:
                log.info("relay.listen_again", reason=type(error).__name__)
            await asyncio.sleep(_POLL_SECONDS)


def _reason(failure: Exception) -> str:
    """What went wrong, without the message's content: the kind of error, and the server's status if it said one."""
    status = failure.status.name if isinstance(failure, RPCError) else ""
    return f"{type(failure).__name__} {status}".strip()
