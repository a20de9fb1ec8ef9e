"""A transaction begins with its first statement, in one round trip: nothing runs before its BEGIN, or outside its scope."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from contracts.base import Scope
from infra.database import BEGIN, Database, Tx
from tests.fixtures.postgres import role_url

WHERE = "select current_setting('app.tenant', true) as tenant, current_setting('app.mode', true) as mode"


@pytest.fixture
async def one(owner_url: str) -> AsyncIterator[Database]:
    """A pool of one connection: what a transaction leaves behind, the next finds."""
    database = Database(role_url(owner_url, "chama_app"), name="one", max_size=1)
    await database.open()
    yield database
    await database.close()


async def where(tx: Tx) -> tuple[str, str]:
    [row] = await (await tx.execute(WHERE)).fetchall()
    return row["tenant"], row["mode"]


def status(tx: Tx) -> TransactionStatus:
    return tx.info.transaction_status


async def test_it_begins_with_its_first_statement_and_in_its_scope(one: Database, scope: Scope) -> None:
    for _ in range(8):  # so often that the driver prepares the statement
        async with one.transaction(scope) as tx:
            assert status(tx) is TransactionStatus.IDLE
            assert await where(tx) == (str(scope.tenant_id), scope.mode) == await where(tx)
            assert status(tx) is TransactionStatus.INTRANS
        async with one.transaction() as tx:
            assert await where(tx) == ("", "")
            assert status(tx) is TransactionStatus.INTRANS


async def test_one_that_says_nothing_is_none(one: Database, scope: Scope) -> None:
    async with one.transaction(scope) as tx:
        pass
    with suppress(LookupError):
        async with one.transaction(scope) as tx:
            raise LookupError
    assert status(tx) is TransactionStatus.IDLE
    assert await one.ask(scope, "select 1 as one", ()) == {"one": 1}
    async with one.transaction() as tx:
        assert await where(tx) == ("", "")


async def test_what_fails_first_fails_as_itself(one: Database, scope: Scope) -> None:
    for statement, error in (("select 1/0", psycopg.errors.DivisionByZero), ("selec", psycopg.errors.SyntaxError)):
        async with one.transaction(scope) as tx:
            with pytest.raises(error):
                await tx.execute(statement)
            assert status(tx) is TransactionStatus.INERROR
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                await tx.execute("select 1")
    with pytest.raises(psycopg.ProgrammingError):  # the driver refuses before anything is sent
        async with one.transaction(scope) as tx:
            await tx.execute("select %s", ())
    async with one.transaction(scope) as tx:
        assert await where(tx) == (str(scope.tenant_id), scope.mode)


async def test_a_savepoint_may_come_first(one: Database, scope: Scope) -> None:
    """It is a savepoint of our transaction, not a transaction of its own, which would commit at its end."""
    with suppress(LookupError):
        async with one.transaction(scope) as tx:
            async with tx.transaction():
                assert await where(tx) == (str(scope.tenant_id), scope.mode)
                await tx.execute("create temporary table left_behind ()")
            raise LookupError
    async with one.transaction() as tx, tx.transaction():
        [row] = await (await tx.execute("select to_regclass('left_behind') as found")).fetchall()
    assert row["found"] is None


async def test_nothing_runs_before_its_begin(one: Database, scope: Scope) -> None:
    """A cursor of one's own would send its statement outside any transaction, and so without a scope."""
    async with one.transaction(scope) as tx:
        with pytest.raises(RuntimeError, match="first statement"):
            await tx.cursor().execute("create temporary table left_behind ()")
        await tx.execute("select 1")
        assert (await (await tx.cursor().execute("select to_regclass('left_behind') as found")).fetchone()) == {
            "found": None
        }


async def test_one_that_is_given_up_in_its_first_statement_leaves_nothing(one: Database, scope: Scope) -> None:
    async def sleeper() -> None:
        async with one.transaction(scope) as tx:
            await tx.execute("select pg_sleep(60)")

    for _ in range(3):
        task = asyncio.create_task(sleeper())
        await asyncio.sleep(0.2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10), one.transaction() as tx:
            assert await where(tx) in (("", ""), (None, None))


async def test_one_that_is_given_up_while_it_begins_leaves_no_half_of_it(one: Database, scope: Scope) -> None:
    """In the one moment in which the driver lets others run while it turns to sending without waiting: after a busy while."""

    async def busy() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with one.transaction(scope) as tx:
            time.sleep(0.02)  # noqa: ASYNC251  more than it leaves the others waiting
            asyncio.get_running_loop().call_soon(task.cancel)
            await tx.execute("select 1")

    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(busy())
        async with asyncio.timeout(10), one.transaction(scope) as tx:
            for _ in range(2):
                assert (await tx.execute("select 1 from generate_series(1, 3)")).rowcount == 3
        assert await one.ask(scope, "select 1 as one", ()) == {"one": 1}


async def test_a_begin_that_fails_is_not_passed_over(
    one: Database, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever catches its error would go on outside any transaction: there is no connection to go on with."""
    monkeypatch.setattr("infra.database.BEGIN", ("begin nothing", *BEGIN[1:]))
    async with one.transaction(scope) as tx:
        with pytest.raises(psycopg.errors.SyntaxError):
            await tx.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            await tx.execute("select 1")
    monkeypatch.undo()
    async with asyncio.timeout(10), one.transaction(scope) as tx:
        assert await where(tx) == (str(scope.tenant_id), scope.mode)


async def test_a_connection_that_is_gone_is_replaced(one: Database, scope: Scope, owner_url: str) -> None:
    async with one.transaction(scope) as tx:
        [row] = await (await tx.execute("select pg_backend_pid() as pid")).fetchall()
    with psycopg.connect(role_url(owner_url, "chama_app"), autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s)", (row["pid"],))
    with pytest.raises(psycopg.OperationalError):
        async with one.transaction(scope) as tx:
            await tx.execute("select 1")
    async with asyncio.timeout(10), one.transaction(scope) as tx:
        assert await where(tx) == (str(scope.tenant_id), scope.mode)


class Overheard:
    """A link to Postgres that counts how often the client speaks after the server has: its round trips."""

    def __init__(self, port: int) -> None:
        self._port, self._heard = port, "server"
        self.trips, self.over = 0, asyncio.Event()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass_on("client", reader, back), self._pass_on("server", there, writer))
        self.over.set()

    async def _pass_on(self, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            self.trips += who == "client" and self._heard == "server"
            self._heard = who
            writer.write(part)
        writer.close()


async def test_the_first_statement_and_its_begin_are_one_round_trip(owner_url: str, scope: Scope) -> None:
    """And one for COMMIT; each further statement costs one more."""
    port = urlsplit(owner_url).port
    assert port is not None
    overheard = Overheard(port)
    link = await asyncio.start_server(overheard.carry, "127.0.0.1", 0)
    through = link.sockets[0].getsockname()[1]
    database = Database(role_url(owner_url, "chama_app").replace(f":{port}/", f":{through}/"), name="far", max_size=1)
    await database.open()
    counts = []
    for statements in (1, 1, 1, 3):
        overheard.trips = 0
        async with database.transaction(scope) as tx:
            for number in range(statements):  # each another, or the driver would prepare it in a trip of its own
                await tx.execute(f"select {number}".encode())
        counts.append(overheard.trips)
    await database.close()
    await overheard.over.wait()
    link.close()
    assert counts[1:] == [2, 2, 4]  # the first opened the connection
