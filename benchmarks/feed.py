"""The feed with 100,000 campaigns: how late its pages are under a steady load, and what a page costs who has it already.

The load is open: requests are due at fixed times, whether or not those before are answered, and a page's time counts from
when it was due. One page in four in each order, half of them first pages, half later ones.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg

from benchmarks.measure import Ratio, side_by_side
from cli.demo.world import World
from cli.stack.stack import Stack
from contracts.base import Mode, Scope
from infra.database import Database
from models import feed

CAMPAIGNS = 100_000
_A_SECOND = 50
_SECONDS = 10
_ROUNDS = 5
_CONNECTIONS = 8
_EACH = 40
_SORTS = ("newest", "ending_soon", "most_funded", "recommended")

_SEED = """
insert into campaigns (tenant_id, mode, id, owner_id, title, description, kind, currency, goal_minor, cap_minor,
    min_ticket_minor, profit_share_bps, success_floor_bps, waiting_seconds, status, deadline_at, held_minor, go_live_at,
    created_at)
select %(tenant)s, 'test', 'cmp_bench' || lpad(n::text, 6, '0'), %(owner)s, 'Bakery number ' || n,
    'A second oven for the bakery in street ' || n || ', so that bread is there before people go to work.',
    'keep_what_you_raise', (array['NGN', 'USD', 'KES'])[1 + n %% 3], 100000 + n, 200000 + n, 1, 500, 9000, 0,
    (array['live', 'live', 'live', 'funded', 'live', 'submitted'])[1 + n %% 6],
    now() + (n %% 90 + 1) * interval '1 day' + n * interval '1 second', (n::bigint * 7919) %% 100000,
    case when n %% 6 <> 5 then now() end, now() - n * interval '1 second'
from generate_series(1, %(count)s) n
"""


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """`feed_page50_p99_ms` and `feed_etag_hit_vs_miss`."""
    world = await World.make(stack, f"bench-{uuid4().hex[:12]}")
    owner, person = await world.person("business_owner"), await world.person()
    await world.close()
    await _seed(stack, owner.user_id)
    token = {"Authorization": f"Bearer {person.token}"}
    addresses = await _addresses(stack.urls["api"], token)
    await _steady(addresses, token, 2)
    rounds = [await _steady(addresses, token, _SECONDS) for _ in range(_ROUNDS)]
    p99 = [statistics.quantiles(times, n=100)[98] for times in rounds]
    what = f"a page of 50 of {CAMPAIGNS:,} under {_A_SECOND} a second, 99 of 100 (bare: the median)"
    middle = statistics.median(statistics.median(times) for times in rounds)
    yield Ratio("feed_page50_p99_ms", what, "≤ 30", "s", statistics.median(p99), middle, [each * 1000 for each in p99])
    page = f"{stack.urls['api']}/v1/campaigns?sort=recommended&limit=50"
    for name, parts, goal in (
        ("feed_etag_hit_vs_miss", ("API and Postgres", True), "≥ 5"),
        ("feed_etag_hit_vs_miss_sql", ("Postgres", False), "none"),
    ):
        load = partial(_load, stack, page, token, whole=parts[1])
        what = f"a page of 50 for who has it, beside who has not, by processor time of {parts[0]}"
        yield await side_by_side(
            name, what, partial(load, held=True), partial(load, held=False), goal=goal, rounds=_ROUNDS
        )


async def _seed(stack: Stack, owner_id: str) -> None:
    """The campaigns of a tenant in one statement, scored as the relay would."""
    assert stack.site.postgres is not None
    async with await psycopg.AsyncConnection.connect(stack.site.postgres.url("chama"), autocommit=True) as tx:
        row = await (await tx.execute("select tenant_id from users where id = %s", (owner_id,))).fetchone()
        assert row is not None
        await tx.execute(
            "select set_config('app.tenant', %s, false), set_config('app.mode', 'test', false)", (str(row[0]),)
        )
        await tx.execute(_SEED, {"tenant": row[0], "owner": owner_id, "count": CAMPAIGNS})
        for table in ("campaigns", "campaign_feed", "campaign_words"):
            await tx.execute(f"analyze {table}".encode())
        await _score(stack, Scope(tenant_id=row[0], mode=Mode.TEST))
        for table in ("campaign_feed", "feed_changes"):
            await tx.execute(f"vacuum analyze {table}".encode())


async def _score(stack: Stack, scope: Scope) -> None:
    database = Database(stack.settings.app_url, name="bench feed", max_size=1)
    await database.open()
    left = True
    while left:
        async with database.transaction(scope) as tx:
            done = await feed.refresh(tx)
        left = done is None or done.more
    await database.close()


async def _addresses(api: str, token: dict[str, str]) -> list[str]:
    """First pages of every order, and later ones by their cursors."""
    found = []
    async with httpx.AsyncClient(base_url=api, headers=token) as client:
        for sort in _SORTS:
            first = f"/v1/campaigns?sort={sort}&limit=50"
            meta = (await client.get(first)).json()["meta"]
            found += [api + first, f"{api}{first}&cursor={meta['next_cursor']}"]
    return found


async def _steady(addresses: list[str], token: dict[str, str], seconds: int) -> list[float]:
    """How long each of the requests took, one due every fiftieth of a second."""
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    connections = [await _Connection.to(addresses[0], token) for _ in range(_CONNECTIONS)]
    for connection in connections:
        free.put_nowait(connection)
    begun = time.perf_counter()

    async def one(number: int) -> float:
        due = begun + number / _A_SECOND
        await asyncio.sleep(due - time.perf_counter())
        connection = await free.get()
        await connection.ask(addresses[number % len(addresses)], 200)
        free.put_nowait(connection)
        return time.perf_counter() - due

    times = await asyncio.gather(*(one(number) for number in range(_A_SECOND * seconds)))
    for connection in connections:
        await connection.close()
    return times


async def _load(stack: Stack, url: str, token: dict[str, str], *, held: bool, whole: bool) -> float:
    """Requests a second of processor time, of its connections' servers and, if `whole`, the API; `held`: with the page's tag.

    The tag is asked for anew each time: a score that moves meanwhile is another page.
    """
    async with httpx.AsyncClient() as client:
        tag = (await client.get(url, headers=token)).headers["etag"]
    headers, status = (token | {"If-None-Match": tag}, 304) if held else (token, 200)

    async def ask() -> None:
        connection = await _Connection.to(url, headers)
        for _ in range(_EACH):
            await connection.ask(url, status)
        await connection.close()

    before = _processor_seconds(stack, whole)
    await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))
    return _CONNECTIONS * _EACH / (_processor_seconds(stack, whole) - before)


def _processor_seconds(stack: Stack, whole: bool) -> float:
    """What the servers of the API's connections have used so far and, if `whole`, the API's process."""
    assert stack.site.postgres is not None
    with psycopg.connect(stack.site.postgres.url("chama")) as connection:
        rows = connection.execute("select pid from pg_stat_activity where application_name = 'api'").fetchall()
    pids = [row[0] for row in rows] + [stack.pid("api")] * whole
    threads = (each for pid in pids for each in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


class _Connection:
    """One connection kept open; a plain reader, because a client library costs more than the servers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        self._reader, self._writer = reader, writer
        self._headers = "".join(f"\r\n{name}: {value}" for name, value in headers.items())

    @classmethod
    async def to(cls, url: str, headers: dict[str, str]) -> "_Connection":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader, writer, {"Host": parts.netloc, **headers})

    async def ask(self, url: str, status: int) -> None:
        parts = urlsplit(url)
        self._writer.write(f"GET {parts.path}?{parts.query} HTTP/1.1{self._headers}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(f"http/1.1 {status}".encode()), head
        if status != 304:
            await self._reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
