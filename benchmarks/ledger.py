"""The ledger beside the bare function of floor.sql: one posting at 1 and 16 clients, a hot account, a batch of 1,000.

Both sides run in a transaction of their own, as every posting does that commits with the rows it belongs to; ours also
sets the tenant, checks the key and the bounds, and obeys row-level security.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.measure import Ratio, rate, side_by_side
from cli.stack.stack import Stack
from cli.users import add_tenant
from contracts.base import Mode, Scope
from domain import accounts
from domain.accounts import Posting
from domain.money import Money
from infra.database import Database
from models import ledger

_NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_WALLETS = 500
_BATCH = 1000
_numbers = itertools.count()


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """The four ratios of the ledger, on the stack's own Postgres."""
    assert stack.site.postgres is not None
    owner_url = stack.site.postgres.url("chama")
    async with await AsyncConnection.connect(owner_url, autocommit=True) as owner:
        await owner.execute(Path(__file__).with_name("floor.sql").read_bytes())
    tenant = await add_tenant(stack.settings, slug=f"bench-{uuid4().hex[:12]}", name="Bench", zone="Africa/Lagos")
    async with _sides(stack, owner_url, Scope(tenant_id=tenant, mode=Mode.TEST)) as (ours, bare):
        for clients in (1, 16):
            yield await side_by_side(
                f"posting_vs_fn_{clients}",
                f"one posting with all checks, {clients} client{'s'[: clients > 1]}",
                partial(_spread_over, clients, 100 if clients == 1 else 30, ours.one),
                partial(_spread_over, clients, 100 if clients == 1 else 30, bare.one),
                goal="≥ 0.7",
            )
        yield await side_by_side(
            "hot_16_vs_fn",
            "16 posters on one hot account",
            lambda: _spread_over(16, 30, ours.hot),
            lambda: _spread_over(16, 30, bare.hot),
            goal="≥ 3",
        )
        yield await side_by_side(
            "batch_1000_vs_floor",
            "a batch of 1,000 postings",
            lambda: rate(_BATCH, ours.batch()),
            lambda: rate(_BATCH, bare.batch()),
            goal="≥ 0.7",
        )


class _Ours:
    """Postings as the product makes them: a template of domain/accounts.py through models/ledger.py."""

    def __init__(self, db: Database, scope: Scope) -> None:
        self._db, self._scope = db, scope

    async def one(self) -> None:
        async with self._db.transaction(self._scope) as tx:
            await ledger.post(tx, _deposit())

    async def hot(self) -> None:
        async with self._db.transaction(self._scope) as tx:
            await ledger.post(tx, _deposit("hot"))

    async def batch(self) -> None:
        async with self._db.transaction(self._scope) as tx:
            await ledger.post_many(tx, [_deposit() for _ in range(_BATCH)])


class _Bare:
    """The same money through floor.sql."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection]) -> None:
        self._pool = pool

    async def one(self) -> None:
        await self._post(*_two_accounts())

    async def hot(self) -> None:
        await self._post(0, random.randrange(1, _WALLETS))

    async def _post(self, debit: int, credit: int) -> None:
        async with self._pool.connection() as tx, tx.transaction():
            await (await tx.execute("select bare.post(%s, %s, 100)", (debit, credit))).fetchone()

    async def batch(self) -> None:
        debits, credits = zip(*(_two_accounts() for _ in range(_BATCH)), strict=True)
        async with self._pool.connection() as tx, tx.transaction():
            await tx.execute("select bare.post_many(%s, %s, %s)", (list(debits), list(credits), [100] * _BATCH))


def _two_accounts() -> tuple[int, int]:
    return random.randrange(_WALLETS), random.randrange(_WALLETS, 2 * _WALLETS)


def _deposit(provider: str | None = None) -> Posting:
    """Money from one of many providers' clearing accounts (or from the hot one) into one of many wallets."""
    return accounts.deposit_captured(
        f"bench/{next(_numbers)}",
        provider=provider or f"p{random.randrange(_WALLETS)}",
        user_id=f"u{random.randrange(_WALLETS)}",
        amount=Money(100, "NGN"),
        as_of=_NOW,
    )


async def _spread_over(clients: int, each: int, post: Callable[[], Awaitable[None]]) -> float:
    async def client() -> None:
        for _ in range(each):
            await post()

    return await rate(clients * each, asyncio.gather(*(client() for _ in range(clients))))


@asynccontextmanager
async def _sides(stack: Stack, owner_url: str, scope: Scope) -> AsyncIterator[tuple[_Ours, _Bare]]:
    db = Database(stack.settings.app_url, name="chama-bench", max_size=16)
    pool: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(owner_url, min_size=16, max_size=16, open=False)
    await db.open()
    await pool.open(wait=True)
    try:
        await _open_accounts(db, scope)
        yield _Ours(db, scope), _Bare(pool)
    finally:
        await pool.close()
        await db.close()


async def _open_accounts(db: Database, scope: Scope) -> None:
    """Every account exists before the first measured posting."""
    postings = [
        accounts.deposit_captured(
            f"open/{n}", provider=f"p{n}" if n else "hot", user_id=f"u{n}", amount=Money(1, "NGN"), as_of=_NOW
        )
        for n in range(_WALLETS)
    ]
    async with db.transaction(scope) as tx:
        await ledger.post_many(tx, postings)
