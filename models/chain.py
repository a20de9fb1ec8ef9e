"""The hash chains' links: which rows may be chained, in which order, and the statement that writes their links.

One chain a table, in the order of the rows' ids, written long after the rows by the role chama_chain, which may read the
chained tables and add links, nothing else. `models/chain_audit.py` reads everything back.

Ids are given out before their transactions commit, so a row with a lower id may appear after one with a higher. A chain
that took what it sees would skip it for ever. So a chain goes only as far as a `Horizon` whose writers have all ended.
Plain rows only: the relay process, where this runs, stays light.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg import sql
from psycopg.rows import tuple_row

from domain.chain import Anchor, Linker, Tail, Values
from infra.database import Tx

Key = tuple[int, int]
"""A row's place in its table: its number, and for a transfer its part, else 0."""


@dataclass(frozen=True)
class Chain:
    """One chained table. `columns` are all of its columns, and begin with tenant_id and mode."""

    table: LiteralString
    row_id: LiteralString
    part: LiteralString
    columns: tuple[LiteralString, ...]

    @property
    def linker(self) -> Linker:
        """The arithmetic of this chain."""
        return Linker(self.table, self.columns)

    def select(self) -> sql.Composed:
        """`select` list: the key's two numbers, then every column as text."""
        texts = sql.SQL(", ").join(sql.SQL("r.{}::text").format(sql.Identifier(each)) for each in self.columns)
        return sql.SQL("r.{}, {}, {}").format(sql.Identifier(self.row_id), sql.SQL(self.part), texts)


ACCOUNTS: Final = Chain(
    "ledger_accounts",
    "id",
    "0",
    ("tenant_id", "mode", "id", "code", "currency", "kind", "bounded", "stripes", "opened_at"),
)
TRANSFERS: Final = Chain(
    "ledger_transfers",
    "id",
    "r.part",
    ("tenant_id", "mode", "id", "part", "key", "event", "phase", "target_id", "payload_hash", "debit_id", "credit_id",
     "currency", "amount_minor", "effective_at", "expires_at", "posted_at"),
)  # fmt: skip
AUDIT_LOG: Final = Chain(
    "audit_log",
    "id",
    "0",
    ("tenant_id", "mode", "id", "at", "actor", "action", "entity", "entity_id", "request_id", "detail"),
)
CHAINS: Final = (ACCOUNTS, TRANSFERS, AUDIT_LOG)
"""Every chain, each after those it refers to."""

_AS_TEXT = "select set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true)"

_MARKS = """
select (select coalesce(max(id), 0) from ledger_accounts) as ledger_accounts,
       (select coalesce(max(id), 0) from ledger_transfers) as ledger_transfers,
       (select coalesce(max(id), 0) from audit_log) as audit_log
"""

# Every inserting transaction holds one of these locks from before its first id is drawn until after its rows are visible.
# `ledger_post` draws its numbers before it touches a table, so their sequence is one of them: to draw is to lock it.
_WRITERS = """
select distinct virtualtransaction as writer from pg_locks
 where locktype = 'relation' and mode = 'RowExclusiveLock' and granted
   and database = (select oid from pg_database where datname = current_database())
   and relation in ('ledger_accounts'::regclass, 'ledger_transfers'::regclass, 'ledger_transfers_id_seq'::regclass,
                    'audit_log'::regclass)
"""

_TAIL = """
select position, row_id, part, tenant_id::text, mode, hash from chain_links
 where chain = %s order by position desc limit 1
"""

_NOW = """select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at"""

_APPEND = """
insert into chain_links (chain, position, row_id, part, tenant_id, mode, hash)
select %s::text, %s + n, row_id, part, tenant_id, mode, hash
  from unnest(%s::bigint[], %s::int[], %s::uuid[], %s::text[], %s::bytea[]) with ordinality
       as l(row_id, part, tenant_id, mode, hash, n)
"""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Up to where each table may be chained (`marks`, by table), once none of `writers` runs any more."""

    marks: Mapping[str, int]
    writers: frozenset[str]


async def horizon(tx: Tx, done: Mapping[str, int] | None = None) -> Horizon | None:
    """The newest ids seen, and who may still be about to commit a lower one; None when there is nothing newer than `done`.

    `tx`: read committed, as for everything here: each statement has to see what was committed before it.
    """
    marks = await (await tx.execute(_MARKS)).fetchone()
    assert marks is not None
    if marks == done:
        return None
    return Horizon(marks, await _writers(tx))  # in this order: a writer that ended in between has committed


async def is_reached(tx: Tx, goal: Horizon) -> bool:
    """Whether every writer that could add a row below the horizon's marks has ended. Never waits."""
    return not goal.writers or not goal.writers & await _writers(tx)


async def _writers(tx: Tx) -> frozenset[str]:
    return frozenset(row["writer"] for row in await (await tx.execute(_WRITERS)).fetchall())


async def as_text(tx: Tx) -> None:
    """Fix, for this transaction, how Postgres writes values as text."""
    await tx.execute(_AS_TEXT)


async def advance(tx: Tx, goal: Horizon, limit: int) -> int | None:
    """Chain the next rows up to a horizon that is reached, at most `limit` of each table.

    Returns how many links were written: 0 when everything is chained, None when another chainer is at it. Set-based, and
    one transaction: a crash leaves whole batches only.
    """
    await as_text(tx)
    if not await _my_turn(tx, "chain"):
        return None
    written = 0
    for chain in CHAINS:
        last = await _last(tx, chain)
        rows = await _next_rows(tx, chain, last[1] if last else (0, 0), goal.marks[chain.table], limit)
        written += await _append(tx, chain, rows)
    return written


async def _my_turn(tx: Tx, name: str) -> bool:
    """Whether this transaction alone does it now; never waits."""
    row = await (
        await tx.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 5)) as mine", (name,))
    ).fetchone()
    return row is not None and bool(row["mine"])


async def _last(tx: Tx, chain: Chain) -> tuple[int, Key, str, bytes] | None:
    """The last link of a chain: position, row, scope, hash."""
    async with tx.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(_TAIL, (chain.table,))).fetchone()
    return None if row is None else (row[0], (row[1], row[2]), f"{row[3]}/{row[4]}", bytes(row[5]))


async def _next_rows(tx: Tx, chain: Chain, after: Key, until: int, limit: int) -> list[tuple[Any, ...]]:
    """The rows behind `after`, up to number `until`. A limit may end between two parts of one transaction."""
    query = sql.SQL(
        "select {columns} from {table} r where r.id >= %s and (r.id, {part}) > (%s, %s) and r.id <= %s "
        "order by 1, 2 limit %s"
    ).format(columns=chain.select(), table=sql.Identifier(chain.table), part=sql.SQL(chain.part))
    async with tx.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(query, (after[0], *after, until, limit))).fetchall()


async def _append(tx: Tx, chain: Chain, rows: Sequence[tuple[Any, ...]]) -> int:
    """Write the links of `rows` (key, then columns), in their order, behind the chain's tail."""
    if not rows:
        return 0
    linker = chain.linker
    last = await _last(tx, chain)
    position, previous = (last[0], last[3]) if last else (0, linker.start)
    values: list[Values] = [row[2:] for row in rows]
    await tx.execute(
        _APPEND,
        (
            chain.table,
            position,
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            list(linker.follow_all(previous, values)),
        ),
    )
    return len(rows)


def row_name(key: Key, chain: Chain) -> str:
    """How a row is named to a person: its number, for a transfer `transaction/part`."""
    return f"{key[0]}/{key[1]}" if chain is TRANSFERS else str(key[0])


async def tails(tx: Tx) -> Anchor | None:
    """Every chain's tail now, to be anchored before `tx` ends; None when another is anchoring.

    One at a time, so that the positions in an anchor file only grow.
    """
    if not await _my_turn(tx, "anchor"):
        return None
    row = await (await tx.execute(_NOW)).fetchone()
    assert row is not None
    found = {}
    for chain in CHAINS:
        last = await _last(tx, chain)
        if last is not None:
            found[str(chain.table)] = Tail(last[0], last[3].hex(), row_name(last[1], chain), last[2])
    return Anchor(row["at"], found)
