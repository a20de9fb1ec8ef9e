"""Processes that post, ours or bare, with all that the product spends in Python.

Both sides go through the same pool and the same two round trips: BEGIN and the call (ours with its scope between them), then
COMMIT. What the product spends in Python (the template, its checks, its hash, the arrays) counts as ours.
"""

import asyncio
import itertools
import multiprocessing
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Literal
from uuid import uuid4

from contracts.base import Scope
from domain import accounts
from domain.accounts import Posting
from domain.money import Money
from infra.database import Database
from models import ledger

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
WALLETS = 500
"""How many accounts there are on each side; the credited ones are numbered behind the debited."""
HOT = 0
BATCH = 1000
Kind = Literal["one", "hot", "batch"]
Side = Literal["ours", "bare"]
_RUN = uuid4().hex[:8]
_numbers = itertools.count()


@dataclass(frozen=True)
class Where:
    """The database both sides use: the app role's URL for ours with its scope, the owner's URL for the bare schema."""

    app_url: str
    owner_url: str
    scope: Scope


def two_accounts() -> tuple[int, int]:
    """Numbers of a debited and of a credited account; the hot one is not among them."""
    return random.randrange(1, WALLETS), random.randrange(WALLETS, 2 * WALLETS)


def deposit(provider: int | None = None) -> Posting:
    """Money from one of many providers' clearing accounts (or from the given one) into one of many wallets."""
    debit, credit = two_accounts()
    return accounts.deposit_captured(
        f"bench/{_RUN}/{next(_numbers)}",
        provider=f"p{debit if provider is None else provider}",
        user_id=f"u{credit}",
        amount=Money(100, "NGN"),
        as_of=NOW,
    )


class _Ours:
    """Postings as the product makes them: a template of domain/accounts.py through models/ledger.py."""

    def __init__(self, where: Where, clients: int) -> None:
        self.db, self._scope = Database(where.app_url, name="bench-ours", max_size=clients), where.scope

    async def one(self) -> None:
        async with self.db.transaction(self._scope) as tx:
            await ledger.post(tx, deposit())

    async def hot(self) -> None:
        async with self.db.transaction(self._scope) as tx:
            await ledger.post(tx, deposit(HOT))

    async def batch(self) -> None:
        async with self.db.transaction(self._scope) as tx:
            await ledger.post_many(tx, [deposit() for _ in range(BATCH)])


class _Bare:
    """The same money through floor.sql."""

    def __init__(self, where: Where, clients: int) -> None:
        self.db = Database(where.owner_url, name="bench-bare", max_size=clients)

    async def one(self) -> None:
        await self._post(*two_accounts())

    async def hot(self) -> None:
        await self._post(HOT, two_accounts()[1])

    async def _post(self, debit: int, credit: int) -> None:
        async with self.db.transaction() as tx:
            await (await tx.execute("select bare.post(%s, %s, 100)", (debit, credit))).fetchone()

    async def batch(self) -> None:
        debits, credits = zip(*(two_accounts() for _ in range(BATCH)), strict=True)
        async with self.db.transaction() as tx:
            await tx.execute("select bare.post_many(%s, %s, %s)", (list(debits), list(credits), [100] * BATCH))


async def _repeat(post: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await post()


async def _serve(pipe: Connection, where: Where, most: int) -> None:
    """Do what is asked for, at most `most` clients of it at once, until None is."""
    sides: dict[Side, _Ours | _Bare] = {"ours": _Ours(where, most), "bare": _Bare(where, most)}
    for side in sides.values():
        await side.db.open()
    try:
        while order := await asyncio.to_thread(pipe.recv):
            side, kind, clients, each = order
            await asyncio.gather(*(_repeat(getattr(sides[side], kind), each) for _ in range(clients)))
            pipe.send("done")
    finally:
        for side in sides.values():
            await side.db.close()


def _main(pipe: Connection, where: Where, most: int) -> None:
    asyncio.run(_serve(pipe, where, most))


class Posters:
    """As many processes as there are processors, the clients spread over them."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    async def post(self, side: Side, kind: Kind, clients: int, each: int) -> None:
        """Let `clients` make `each` calls of that kind one after the other; returns when the last is done."""
        shares = [len(range(n, clients, len(self._pipes))) for n in range(len(self._pipes))]
        asked = [(pipe, share) for pipe, share in zip(self._pipes, shares, strict=True) if share]
        for pipe, share in asked:
            pipe.send((side, kind, share, each))
        for pipe, _ in asked:
            await asyncio.to_thread(pipe.recv)


@contextmanager
def posters(where: Where, most: int) -> Iterator[Posters]:
    """The processes, for at most `most` clients in all; they end with the block."""
    spawn = multiprocessing.get_context("spawn")
    count = min(most, max(2, os.cpu_count() or 2))
    started = []
    for _ in range(count):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_main, args=(theirs, where, -(-most // count)), daemon=True)
        process.start()
        started.append((process, ours))
    try:
        yield Posters([pipe for _, pipe in started])
    finally:
        for process, pipe in started:
            pipe.send(None)
            process.join(10)
