"""The ledger beside the bare function of floor.sql: one posting at 1 and 16 clients, a hot account, a batch of 1,000.

Both sides run in a transaction of their own, as every posting does that commits with the rows it belongs to; ours also
sets the tenant, checks the key and the bounds, and obeys row-level security.

The ledger is a database's work, so its ratios are taken by the cheapest client: pgbench, and for the batch a connection that
sends arguments made before. The same is then measured once more through Python (benchmarks/posters.py), where on two cores the
clients take as much processor as the ledger; ours makes a posting there, which has no counterpart on the other side.

The relay stands still meanwhile: it chains what our turns wrote (`models/chain.py`) some seconds later, which would be in the
other side's turns. Each client makes hundreds of calls, so that what a connection learns in its first few does not count.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from psycopg import AsyncConnection

from benchmarks.measure import Ratio, rate, side_by_side
from benchmarks.pgbench import PgBench
from benchmarks.posters import BATCH, NOW, WALLETS, Kind, Posters, Side, Where, deposit, posters, two_accounts
from cli.stack.stack import Stack
from cli.users import add_tenant
from contracts.base import Mode, Scope
from domain import accounts
from domain.money import Money
from infra.database import Database
from models import ledger
from models.ledger_arguments import POST_NEW, arguments_of_new, rows_of

_CLIENTS = 16
_ROUNDS = 7
_RATIOS: tuple[tuple[str, str, Kind, int, int, str], ...] = (
    ("posting_vs_fn_1", "one posting with all checks, 1 client", "one", 1, 1000, "≥ 0.7"),
    ("posting_vs_fn_16", "one posting with all checks, 16 clients", "one", _CLIENTS, 1200, "≥ 0.7"),
    ("hot_16_vs_fn", "16 posters on one hot account", "hot", _CLIENTS, 600, "≥ 3"),
)
"""Name, what, kind of call, clients, calls each, goal."""
_THROUGH_PYTHON: tuple[tuple[str, str, Kind, int, int], ...] = (
    ("python_posting_1", "as posting_vs_fn_1, all in Python", "one", 1, 200),
    ("python_posting_16", "as posting_vs_fn_16, all in Python", "one", _CLIENTS, 60),
    ("python_hot_16", "as hot_16_vs_fn, all in Python", "hot", _CLIENTS, 60),
    ("python_batch_1000", "as batch_1000_vs_floor, with the making of 1,000 postings", "batch", 1, 3),
)
_BATCHES = 4
_BARE_BATCH = "select bare.post_many(%s::bigint[], %s::bigint[], %s::bigint[])"


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """The four ratios of the ledger, on the stack's own Postgres, and the same through Python."""
    assert stack.site.postgres is not None
    owner_url = stack.site.postgres.url("chama")
    async with await AsyncConnection.connect(owner_url, autocommit=True) as owner:
        await owner.execute(Path(__file__).with_name("floor.sql").read_bytes())
    tenant = await add_tenant(stack.settings, slug=f"bench-{uuid4().hex[:12]}", name="Bench", zone="Africa/Lagos")
    where = Where(stack.settings.app_url, owner_url, Scope(tenant_id=tenant, mode=Mode.TEST))
    await _open_accounts(where)
    stack.stop("relay")
    with TemporaryDirectory() as directory:
        bench = PgBench(Path(directory), where)
        for name, what, kind, count, each, goal in _RATIOS:
            ours, bare = (partial(bench.rate, side, kind, count, each) for side in ("ours", "bare"))
            yield await side_by_side(name, what, ours, bare, goal=goal, rounds=_ROUNDS)
    ours, bare = (partial(_batches, where, side) for side in ("ours", "bare"))
    yield await side_by_side(
        "batch_1000_vs_floor", "a batch of 1,000 postings", ours, bare, goal="≥ 0.7", rounds=_ROUNDS
    )
    with posters(where, _CLIENTS) as clients:
        for name, what, kind, count, each in _THROUGH_PYTHON:
            mine, theirs = (_rate(clients, side, kind, count, each) for side in ("ours", "bare"))
            yield await side_by_side(name, what, mine, theirs, goal="none", rounds=_ROUNDS)
    stack.start("relay")


async def _batches(where: Where, side: Side) -> float:
    """Postings a second of batches whose arguments are ready, by one connection that has made such a call before."""
    ready = [_batch(side) for _ in range(_BATCHES + 1)]
    query = POST_NEW if side == "ours" else _BARE_BATCH
    db = Database(where.app_url if side == "ours" else where.owner_url, name="bench-batch", max_size=1)
    await db.open()

    async def call(values: Sequence[object]) -> None:
        async with db.transaction(where.scope if side == "ours" else None) as tx:
            await tx.execute(query, values)

    async def measured() -> None:
        for values in ready[1:]:
            await call(values)

    await call(ready[0])
    try:
        return await rate(_BATCHES * BATCH, measured())
    finally:
        await db.close()


def _batch(side: Side) -> Sequence[object]:
    if side == "ours":
        values = arguments_of_new(rows_of([deposit() for _ in range(BATCH)]))
        assert values is not None, "a deposit lowers nothing"
        return values
    pairs = [two_accounts() for _ in range(BATCH)]
    columns = [debit for debit, _ in pairs], [credit for _, credit in pairs], [100] * BATCH
    return ["{" + ",".join(map(str, column)) + "}" for column in columns]


def _rate(clients: Posters, side: Side, kind: Kind, count: int, each: int) -> Callable[[], Awaitable[float]]:
    """Postings a second of `count` clients that make `each` calls."""
    postings = count * each * (BATCH if kind == "batch" else 1)
    return lambda: rate(postings, clients.post(side, kind, count, each))


async def _open_accounts(where: Where) -> None:
    """Every account exists before the first measured posting."""
    db = Database(where.app_url, name="bench-open", max_size=1)
    await db.open()
    postings = [
        accounts.deposit_captured(
            f"open/{n}", provider=f"p{n}", user_id=f"u{WALLETS + n}", amount=Money(1, "NGN"), as_of=NOW
        )
        for n in range(WALLETS)
    ]
    async with db.transaction(where.scope) as tx:
        await ledger.post_many(tx, postings)
    await db.close()
