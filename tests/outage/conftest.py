"""A stack of its own whose parts these tests kill, and the tools to see what survived."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from temporalio.client import Client

from cli.demo.world import World
from cli.stack.stack import Stack
from infra.temporal import connect
from tests.fixtures.stack import judge, new_world, running_stack
from tests.fixtures.stage import superuser_url
from tests.races.money import read_all

_POLL_SECONDS = 0.15
CONVERGE_SECONDS = 60


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Apart from everybody else's stack, because nothing here stays up."""
    with running_stack(tmp_path_factory, "outage") as running:
        yield running


@pytest.fixture(scope="package")
async def temporal(stack: Stack) -> Client:
    """A client that decrypts; it reconnects by itself."""
    return await connect(stack.settings)


@pytest.fixture
async def world(stack: Stack, temporal: Client) -> AsyncIterator[World]:
    """A fresh tenant; afterwards every part is brought up again and the tenant is judged like any other."""
    made = await new_world(stack)
    yield made
    for part in stack.snapshots():
        await in_thread(stack.start, part.name)
    try:
        await until(lambda: nothing_waits(made), "the outbox is empty (a dead relay's lease is 15 s)")
        await judge(made, temporal)
    finally:
        await made.close()


async def in_thread(action: Callable[..., Any], *args: Any) -> None:
    """Kill or start a part without holding up the requests in flight."""
    await asyncio.to_thread(action, *args)


async def until(read: Callable[[], Awaitable[bool]], what: str, seconds: float = CONVERGE_SECONDS) -> None:
    """Look again and again; an answer that cannot be had during an outage counts as no."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if await read():
                        return
                except (httpx.HTTPError, psycopg.OperationalError):
                    pass
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:.0f} s for: {what}") from None


async def all_captured(world: World, campaign_id: str, count: int) -> None:
    """Every one of the campaign's `count` investments ends captured."""

    async def look() -> bool:
        found = [each["status"] for each in await read_all(world, campaign_id)]
        assert len(found) <= count, f"{len(found)} investments, not {count}"
        return found == ["captured"] * count

    await until(look, f"{count} investments are captured")


async def outbox(world: World) -> tuple[int, int]:
    """How many of the tenant's messages to Temporal were delivered, and how many wait."""
    query = "select count(delivered_at), count(*) - count(delivered_at) from outbox where tenant_id = %s"
    async with await psycopg.AsyncConnection.connect(superuser_url(world.stack)) as connection:
        row = await (await connection.execute(query, (world.seeded.scope.tenant_id,))).fetchone()
    assert row is not None
    return row[0], row[1]


async def nothing_waits(world: World) -> bool:
    """Whether every message to Temporal was delivered."""
    return (await outbox(world))[1] == 0


async def captured_at_provider(world: World) -> list[int]:
    """What Stripe's book says it took, payment by payment."""
    return [each["captured"] for each in await world.book("stripe") if each["captured"]]
