"""The connection pool and the one place that commits.

`Database.transaction(scope)` is the only transaction in the product. The scope is set locally to it, so
it is gone with the transaction and cannot leak to the next borrower of the connection (RELIABILITY E3). A round trip to
Postgres costs more than most statements, so the scope travels with BEGIN, and a lone read takes one trip in all.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from psycopg import AsyncClientCursor, AsyncConnection, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from contracts.base import Scope

Tx = AsyncConnection[DictRow]
"""An open transaction. Statements go through it; only `Database.transaction` commits."""

_RECONNECT_SECONDS = 3.0
_SET_SCOPE = "select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)"
# Utility statements need no planner, and a scope (a UUID and an enumeration) no quoting: half the price of the above.
_BEGIN = "begin; set local app.tenant = '%s'; set local app.mode = '%s'"


class Database:
    """A pool of connections of one database role."""

    def __init__(self, url: str, *, name: str, max_size: int = 10) -> None:
        self._pool: AsyncConnectionPool[Tx] = AsyncConnectionPool(
            url,
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
        """One transaction: commits when the block ends, rolls back when it raises.

        Without a scope the app role sees no tenant's rows at all: only the relay, audit and auth roles go without.
        """
        async with self._pool.connection() as tx:  # commits at its end what is begun here, or rolls it back
            if scope is None:
                await tx.execute("begin")
            else:
                await tx.execute((_BEGIN % (scope.tenant_id, scope.mode)).encode())
            yield tx

    async def ask(self, scope: Scope, query: LiteralString, params: Sequence[Any]) -> DictRow | None:
        """The first row of one read in a transaction of its own; sent as one message, values bound by the client."""
        async with self._pool.connection() as tx:
            cursor = AsyncClientCursor(tx, row_factory=dict_row)
            await cursor.execute(
                f"begin read only; {_SET_SCOPE}; {query}; commit", (str(scope.tenant_id), str(scope.mode), *params)
            )
            cursor.nextset(), cursor.nextset()
            return await cursor.fetchone()

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
