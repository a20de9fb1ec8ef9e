"""The chainer: links what was written to the ledger and the audit log into hash chains, and anchors their tails.

A task of the relay process, far from the requests: it takes no lock that a posting waits for. Any number may run; an
advisory lock lets one link at a time. A crash loses nothing: the next round goes on behind the last link.
"""

import asyncio
import contextlib
from collections.abc import Mapping

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from infra.anchors import AnchorFile
from infra.database import Database
from models import chain

log = structlog.get_logger(__name__)

BATCH = 1_000
"""Rows of each table in one transaction."""
_POLL_SECONDS = 1


async def run_chainer(
    database: Database, anchors: AnchorFile | None, stop: asyncio.Event, *, anchor_seconds: float, batch: int = BATCH
) -> None:
    """Chain and anchor until `stop` is set, then anchor once more. `database` logs in as chama_chain, and is open.

    A tail that moved is anchored at once, and then at most every `anchor_seconds`.
    """
    chainer = Chainer(database, anchors, batch=batch)
    clock = asyncio.get_running_loop().time
    anchored = -anchor_seconds
    while not stop.is_set():
        written = await chainer.round()
        if chainer.moved and (anchored + anchor_seconds <= clock()) and await chainer.anchor():
            anchored = clock()
        if not written:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _POLL_SECONDS)
    if chainer.moved:
        await chainer.anchor()


class Chainer:
    """One chainer's state: how far it may go at present, and whether the tail may have moved since the last anchor."""

    def __init__(self, database: Database, anchors: AnchorFile | None, *, batch: int = BATCH) -> None:
        self._database, self._anchors, self._batch = database, anchors, batch
        self._goal: chain.Horizon | None = None
        self._done: Mapping[str, int] | None = None
        self.moved = anchors is not None
        """True at first too: another may have died between its links and its anchor."""

    async def round(self) -> int:
        """Write one batch of links; returns how many. 0: nothing is left, or some writer is still at work.

        A writer that takes long only makes the chain late: the horizon is kept from round to round until it has ended.
        Outages are logged, never raised.
        """
        try:
            async with self._database.transaction() as tx:
                await tx.execute("set transaction isolation level read committed")
                goal = self._goal = self._goal or await chain.horizon(tx, self._done)
                if goal is None or not await chain.is_reached(tx, goal):
                    return 0
                written = await chain.advance(tx, goal, self._batch)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("chainer.database_down", exc_info=error)
            self._goal = self._done = None  # another server may answer next
            return 0
        if written == 0:
            self._goal, self._done = None, goal.marks
        if written is not None:  # whoever wrote the links of a finished horizon may have died before its anchor
            self.moved = self._anchors is not None
        return written or 0

    async def anchor(self) -> bool:
        """Append the tails to the anchor file. False when another is at it or it failed: to be tried again."""
        if self._anchors is None:
            return False
        try:
            async with self._database.transaction() as tx:
                anchor = await chain.tails(tx)
                if anchor is None:
                    return False
                if anchor.tails:
                    await asyncio.to_thread(self._anchors.append, anchor)
        except (psycopg.OperationalError, PoolTimeout, OSError) as error:
            log.error("chainer.not_anchored", exc_info=error)
            return False
        self.moved = False
        return True
