"""A pool finds the database again soon after an outage, and its prepared questions after whatever a transaction did."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from cli.chaos.proxy import Link
from contracts.base import Scope
from infra.database import Database
from tests.fixtures.postgres import free_port, role_url

AWAY_SECONDS = 17


async def test_after_an_outage_of_many_attempts(owner_url: str) -> None:
    """With psycopg's own doubling pauses the attempt after second 15 would come in second 31: nobody waits so long."""
    port = urlsplit(owner_url).port
    assert port is not None
    link = Link("postgres")
    through = await link.listen()
    link.aim(free_port())  # nobody listens there
    database = Database(
        role_url(owner_url, "chama_audit").replace(f":{port}/", f":{through}/"), name="test", max_size=1
    )
    await database.open()
    try:
        await asyncio.sleep(AWAY_SECONDS)
        link.aim(port)
        async with database.transaction() as tx:
            assert await (await tx.execute("select 1 as one")).fetchone() == {"one": 1}
    finally:
        await database.close()
        await link.close()


@pytest.mark.parametrize("commits", [True, False])
async def test_a_savepoint_that_was_rolled_back_costs_no_question(owner_url: str, scope: Scope, commits: bool) -> None:
    """The driver drops all that is prepared on the server then, and the next question must not rely on it."""
    database = Database(role_url(owner_url, "chama_app"), name="savepoint", max_size=1)
    await database.open()

    async def transaction() -> None:
        async with database.transaction(scope) as tx:
            for number in range(8):  # so often that the driver prepares it, too
                await tx.execute("select %s::int", (number,))
            with suppress(LookupError):
                async with tx.transaction():
                    raise LookupError
            if not commits:
                raise LookupError

    assert await database.ask(scope, "select $1::int as n", (1,)) == {"n": 1}
    with suppress(LookupError):
        await transaction()
    assert await database.ask(scope, "select $1::int as n", (2,)) == {"n": 2}
    await database.close()
