"""The connection pool and the one place that commits.

`Database.transaction(scope)` is the only transaction in the product. The scope is set locally to it, so
it is gone with the transaction and cannot leak to the next borrower of the connection (RELIABILITY E3). A round trip to
Postgres costs more than most statements, so BEGIN and the scope travel with the first statement, and a lone read takes one
trip in all.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncClientCursor, AsyncConnection, AsyncCursor, AsyncRawCursor, AsyncTransaction, sql
from psycopg.abc import Params
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from contracts.base import Scope

Tx = AsyncConnection[DictRow]
"""An open transaction. Statements go through it; only `Database.transaction` commits."""

_RECONNECT_SECONDS = 3.0
# Utility statements need no planner, and a scope (a UUID and an enumeration) no quoting: half the price of `set_config`.
BEGIN = ("begin", "set local app.tenant = '%s'", "set local app.mode = '%s'")
"""What opens a transaction in a scope."""
_PREPARE_SCOPE = b"""prepare set_scope as select set_config('app.tenant', $1, true), set_config('app.mode', $2, true),
    set_config('plan_cache_mode', 'force_generic_plan', true), set_config('transaction_read_only', 'on', true)"""
_READ_ONLY = "select set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)"
_PREPARED = "select name from pg_prepared_statements"


class _Connection(AsyncConnection[DictRow]):
    """A connection that begins its transactions with their first statement, and knows which questions the server has
    prepared; `prepared` None: the server is to be asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: set[str] | None = set()
        self._opening: tuple[bytes, ...] = ()

    def begin_later(self, scope: Scope | None) -> None:
        """Begin a transaction with the next statement, in its round trip."""
        begin, tenant, mode = BEGIN
        self._opening = (begin.encode(),)
        if scope is not None:
            self._opening += ((tenant % scope.tenant_id).encode(), (mode % scope.mode).encode())

    def begin_no_more(self) -> None:
        """Whatever `begin_later` asked for and no statement has done is off."""
        self._opening = ()

    async def begin_now(self) -> None:
        """Begin what `begin_later` asked for in a round trip of its own, unless a statement has."""
        if self._opening:
            opening, self._opening = self._opening, ()
            await super().execute(b"; ".join(opening))

    async def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> AsyncCursor[DictRow]:
        """As the driver's. A transaction's first statement is one command: no semicolons."""
        if not self._opening:
            return await super().execute(query, params, prepare=prepare, binary=binary)
        opening, self._opening = self._opening, ()
        try:
            async with self.pipeline():
                for command in opening:
                    # As the driver itself begins a transaction: queued, not waited for, without the price of a cursor.
                    await self.wait(self._exec_command(command))
                return await super().execute(query, params, prepare=prepare, binary=binary)
        except BaseException:
            self._close_unless_begun()
            raise

    def _close_unless_begun(self) -> None:
        """Close a connection that is not in a transaction now, or still sends without reading answers, as one is that was given
        up while it changed to that. What comes next would run outside any transaction, or not learn what it did. The pool makes
        another.
        """
        if self.info.transaction_status is TransactionStatus.IDLE or self.pgconn.pipeline_status != PipelineStatus.OFF:
            self.pgconn.finish()

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's, which does everything through it. Raises RuntimeError for what would run before its BEGIN."""
        if self._opening:
            raise RuntimeError("a transaction's first statement goes through its execute(), or behind begin_now()")
        return await super().wait(*args, **kwargs)

    async def rollback(self) -> None:
        """Roll back, as the pool does after any failure, when nobody knows what the server has prepared.

        The driver often drops its own statements then, by `deallocate all`: ours too.
        """
        self.prepared = None
        await super().rollback()

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """A savepoint, as ours are always taken inside a transaction. One that is rolled back is as `rollback`."""
        await self.begin_now()
        async with super().transaction(savepoint_name, force_rollback) as block:
            try:
                yield block
            except BaseException:
                self.prepared = None
                raise
            if force_rollback:
                self.prepared = None


@dataclass(frozen=True, slots=True)
class _Question:
    """One read by the name it has on every connection: how it is prepared, and the one message that asks it."""

    name: str
    prepare: bytes
    message: bytes

    @classmethod
    def of(cls, number: int, query: str, values: int) -> "_Question":
        name = f"ask_{number}"
        execute = f"execute {name}({', '.join(['%s'] * values)})" if values else f"execute {name}"
        message = f"execute set_scope(%s, %s); {execute}"  # statements of one message are one transaction
        return cls(name, f"prepare {name} as {query}".encode(), message.encode())


class Database:
    """A pool of connections of one database role."""

    def __init__(self, url: str, *, name: str, max_size: int = 10) -> None:
        self._questions: dict[str, _Question] = {}
        self._pool: AsyncConnectionPool[_Connection] = AsyncConnectionPool(
            url,
            connection_class=_Connection,
            min_size=1,
            max_size=max_size,
            open=False,
            timeout=10,
            # The pool doubles its pauses between attempts for as long as this lets it: by default five minutes, so that
            # after an outage of half a minute it would sit out another half. Given up early, the next request tries anew.
            reconnect_timeout=_RECONNECT_SECONDS,
            kwargs={"row_factory": dict_row, "application_name": name, "autocommit": True},
            check=None,
        )

    async def open(self) -> None:
        """Start the pool; connections are made in the background, so this succeeds while Postgres is still down."""
        await self._pool.open()

    async def close(self) -> None:
        """Give back every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self, scope: Scope | None = None) -> AsyncIterator[Tx]:
        """One transaction: begins with its first statement, commits when the block ends, rolls back when it raises.

        Without a scope the app role sees no tenant's rows at all: only the relay, audit and auth roles go without.
        """
        async with self._pool.connection() as tx:  # commits at its end what is begun here, or rolls it back
            tx.begin_later(scope)
            try:
                yield tx
            finally:
                tx.begin_no_more()

    async def ask(self, scope: Scope, query: LiteralString, params: Sequence[Any]) -> DictRow | None:
        """The first row of one read in a transaction of its own.

        `query` numbers its values ($1, $2…) and is prepared once a connection. It is sent as one message with
        its scope, and so one read-only transaction, values bound by the client: one round trip, and no planning after the first
        (one plan for all values: a question has no parts that some values switch off).
        """
        question = self._questions.get(query)
        if question is None:
            question = self._questions[query] = _Question.of(len(self._questions), query, len(params))
        async with self._pool.connection() as tx:
            cursor = AsyncClientCursor(tx)
            if tx.prepared is None or question.name not in tx.prepared:
                await self._prepare(tx, question)
            await cursor.execute(question.message, (str(scope.tenant_id), str(scope.mode), *params))
            cursor.nextset()
            return await cursor.fetchone()

    async def ask_once(
        self, scope: Scope, query: LiteralString, params: Sequence[Any], *, seconds: int
    ) -> DictRow | None:
        """The first row of a read as `ask` takes it, but planned for these values and not kept: for questions of too many
        shapes to prepare. Raises psycopg's QueryCanceled after `seconds`.
        """
        async with self.transaction(scope) as tx:
            await tx.execute(_READ_ONLY, (str(seconds * 1000),))
            cursor = AsyncRawCursor(tx, row_factory=dict_row)
            await cursor.execute(query, params, prepare=False)
            return await cursor.fetchone()

    async def _prepare(self, tx: _Connection, question: _Question) -> None:
        if tx.prepared is None:
            tx.prepared = {row["name"] for row in await (await tx.execute(_PREPARED)).fetchall()}
        for name, statement in (("set_scope", _PREPARE_SCOPE), (question.name, question.prepare)):
            if name not in tx.prepared:
                await tx.execute(statement)
                tx.prepared.add(name)

    @asynccontextmanager
    async def listening(self, channel: LiteralString) -> AsyncIterator[Tx]:
        """A connection of its own, outside the pool and outside any transaction, that hears NOTIFY on `channel`."""
        url = self._pool.conninfo
        assert isinstance(url, str)
        kwargs: dict[str, Any] = {"row_factory": dict_row, "autocommit": True, "application_name": f"listen {channel}"}
        connection: Tx = await AsyncConnection.connect(url, **kwargs)
        async with connection:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            yield connection


async def fetch_one(tx: Tx, query: str, params: Any = ()) -> DictRow | None:
    """The first row, or None."""
    return await (await tx.execute(query, params)).fetchone()
