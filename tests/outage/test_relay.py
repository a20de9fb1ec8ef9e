"""The database goes away between a delivery and its note: nothing is sent again, and nothing waits for a lease."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from temporalio.client import Client

from api.relay import Relay
from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from contracts.outbox import OutboxKind, OutboxMessage
from infra.database import Database
from infra.delivery import TemporalLink
from models import outbox
from tests.fixtures.postgres import role_url


@pytest.fixture
async def relay_database(owner_url: str) -> AsyncIterator[Database]:
    db = Database(role_url(owner_url, "chama_relay"), name="relay outage", max_size=2)
    await db.open()
    yield db
    await db.close()


async def _a_client() -> Client:
    return object()  # type: ignore[return-value]  # the recording send does not use it


async def test_an_outcome_survives_the_outage_that_kept_it_from_being_noted(
    database: Database, relay_database: Database, scope: Scope, postgres: EmbeddedPostgres
) -> None:
    message = OutboxMessage(
        id=0,
        scope=scope,
        order_key="k",
        kind=OutboxKind.SIGNAL,
        workflow_id="k",
        signal_name="s",
        request_id="req_test",
    )
    async with database.transaction(scope) as tx:
        await outbox.enqueue(tx, message)
    sent: list[int] = []

    async def send_and_lose_the_database(_: Client, each: OutboxMessage) -> None:
        sent.append(each.id)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'relay outage'"
            )

    relay = Relay(relay_database, TemporalLink(_a_client), send_and_lose_the_database)
    delivered = [await relay.round() for _ in range(4)]
    assert len(sent) == 1 and sum(delivered) == 1
    async with relay_database.transaction() as tx:
        assert await outbox.lag(tx) == (0, 0)
