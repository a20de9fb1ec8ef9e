"""`kill -9` of worker, database and provider in the middle of investments: all converge, none is doubled."""

import asyncio

from cli.demo.world import CARD, Person, World
from tests.outage.conftest import all_captured, captured_at_provider, in_thread, until
from tests.races.money import agreed_books, invest_stubbornly, pledge

AMOUNT = 10_000
BODY = pledge(AMOUNT, "stripe", instrument=CARD)


async def _invest(person: Person, campaign: str, numbers: range) -> None:
    """All at once, and every one accepted in the end."""
    answers = await asyncio.gather(*(invest_stubbornly(person, campaign, BODY, f"kill-{n}") for n in numbers))
    assert [each.status_code for each in answers] == [202] * len(numbers)


async def _once(world: World, campaign: str, count: int) -> None:
    """All captured, everybody agrees, and the provider took each amount once and opened nothing else."""
    await all_captured(world, campaign, count)
    await agreed_books(world, campaign)
    assert await captured_at_provider(world) == [AMOUNT] * count
    assert len(await world.book("stripe")) == count


async def test_worker_killed_twice_in_flight(world: World) -> None:
    count = 10
    campaign = await world.campaign("keep_what_you_raise", goal=count * AMOUNT)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "hang_after", seconds=1.5, times=count)
    for half in (range(5), range(5, count)):
        before = await world.faults_fired("stripe")
        await _invest(ada, campaign, half)

        async def under_way(fired: int = before) -> bool:
            return await world.faults_fired("stripe") > fired

        await until(under_way, "captures of this half are under way")
        await in_thread(world.stack.kill, "worker")
        await in_thread(world.stack.start, "worker")
    await _once(world, campaign, count)


async def test_postgres_killed_in_the_middle(world: World) -> None:
    count = 20
    campaign = await world.campaign("keep_what_you_raise", goal=count * AMOUNT)
    ada = await world.person()
    server = world.stack.pid("postgres")
    posting = asyncio.create_task(_invest(ada, campaign, range(count)))

    async def some_at_the_provider() -> bool:
        return len(await world.book("stripe")) >= 3

    await until(some_at_the_provider, "some payments have begun")
    assert len(await captured_at_provider(world)) < count
    await in_thread(world.stack.crash, "postgres")
    await posting
    assert world.stack.pid("postgres") not in (server, None)
    await _once(world, campaign, count)


async def test_provider_killed_during_captures(world: World) -> None:
    count = 12
    campaign = await world.campaign("keep_what_you_raise", goal=count * AMOUNT)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "hang_after", seconds=1.5, times=4)
    await _invest(ada, campaign, range(count))

    async def some_captured() -> bool:
        return len(await captured_at_provider(world)) >= 3

    await until(some_captured, "some captures have happened")
    await in_thread(world.stack.kill, "sandbox")
    await in_thread(world.stack.start, "sandbox")
    await _once(world, campaign, count)
