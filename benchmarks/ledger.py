"""The ledger beside the bare function of floor.sql: one posting at 1 and 16 clients, a hot account, a batch of 1,000.

Both sides run in a transaction of their own, as every posting does that commits with the rows it belongs to; ours also
sets the tenant, checks the key and the bounds, and obeys row-level security. The clients are processes of their own
(benchmarks/posters.py), the same on both sides.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

from psycopg import AsyncConnection

from benchmarks.measure import Ratio, rate, side_by_side
from benchmarks.posters import BATCH, NOW, WALLETS, Kind, Posters, Side, Where, posters
from cli.stack.stack import Stack
from cli.users import add_tenant
from contracts.base import Mode, Scope
from domain import accounts
from domain.money import Money
from infra.database import Database
from models import ledger

_CLIENTS = 16
_RATIOS: tuple[tuple[str, str, Kind, int, int, str], ...] = (
    ("posting_vs_fn_1", "one posting with all checks, 1 client", "one", 1, 200, "≥ 0.7"),
    ("posting_vs_fn_16", "one posting with all checks, 16 clients", "one", _CLIENTS, 60, "≥ 0.7"),
    ("hot_16_vs_fn", "16 posters on one hot account", "hot", _CLIENTS, 60, "≥ 3"),
    ("batch_1000_vs_floor", "a batch of 1,000 postings", "batch", 1, 3, "≥ 0.7"),
)
"""Name, what, kind of call, clients, calls each, goal."""


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """The four ratios of the ledger, on the stack's own Postgres."""
    assert stack.site.postgres is not None
    owner_url = stack.site.postgres.url("chama")
    async with await AsyncConnection.connect(owner_url, autocommit=True) as owner:
        await owner.execute(Path(__file__).with_name("floor.sql").read_bytes())
    tenant = await add_tenant(stack.settings, slug=f"bench-{uuid4().hex[:12]}", name="Bench", zone="Africa/Lagos")
    where = Where(stack.settings.app_url, owner_url, Scope(tenant_id=tenant, mode=Mode.TEST))
    await _open_accounts(where)
    with posters(where, _CLIENTS) as clients:
        for name, what, kind, count, each, goal in _RATIOS:
            ours, bare = _rate(clients, "ours", kind, count, each), _rate(clients, "bare", kind, count, each)
            yield await side_by_side(name, what, ours, bare, goal=goal, rounds=7)


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
            f"open/{n}", provider=f"p{n}" if n else "hot", user_id=f"u{n}", amount=Money(1, "NGN"), as_of=NOW
        )
        for n in range(WALLETS)
    ]
    async with db.transaction(where.scope) as tx:
        await ledger.post_many(tx, postings)
    await db.close()
