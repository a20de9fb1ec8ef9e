"""A pool finds the database again soon after it is back, however long it was away."""

import asyncio
from urllib.parse import urlsplit

from cli.chaos.proxy import Link
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
