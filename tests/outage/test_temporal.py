"""Without Temporal the API still accepts; what was accepted is carried out once, whoever has to deliver it."""

import asyncio
import os
import signal
from collections import Counter

import httpx
from temporalio.client import Client

from cli.demo.world import CARD, World
from cli.stack.processes import descendants
from tests.fixtures.replay import runs_of
from tests.outage.conftest import all_captured, captured_at_provider, in_thread, nothing_waits, outbox, until
from tests.races.money import agreed_books, invest_stubbornly, pledge

AMOUNT = 10_000


async def _started_once(world: World, temporal: Client, count: int) -> None:
    """One run of one process for every investment."""
    runs = Counter(each for each, _ in await runs_of(temporal, world.seeded.scope) if each.startswith("investment/"))
    assert list(runs.values()) == [1] * count


async def test_fifty_investments_are_accepted_while_temporal_is_down(world: World, temporal: Client) -> None:
    count = 50
    campaign = await world.campaign("keep_what_you_raise", goal=count * AMOUNT)
    people = await asyncio.gather(*(world.person() for _ in range(4)))
    await in_thread(world.stack.kill, "temporal")

    body = pledge(AMOUNT, "stripe", instrument=CARD)
    answers = await asyncio.gather(
        *(people[n % 4].call("POST", f"/v1/campaigns/{campaign}/invest", body, f"down-{n}") for n in range(count))
    )
    assert [each.status_code for each in answers] == [202] * count
    ready = await world.api.get("/readyz")
    assert ready.status_code == 200 and ready.json()["temporal"] == "down"
    assert ready.json()["outbox"]["waiting"] >= count
    assert (await world.admin.get(f"/v1/campaigns/{campaign}"))["pledged"]["amount"] == count * AMOUNT
    assert await world.book("stripe") == []

    await in_thread(world.stack.start, "temporal")
    await all_captured(world, campaign, count)
    await agreed_books(world, campaign)
    assert await captured_at_provider(world) == [AMOUNT] * count
    await _started_once(world, temporal, count)
    assert (await world.api.get("/readyz")).json()["temporal"] == "up"


async def test_a_cancel_may_overtake_its_own_start(world: World, temporal: Client) -> None:
    """Both wait in the outbox under different keys: whichever is delivered first, the pledge ends canceled, unpaid."""
    campaign = await world.campaign("keep_what_you_raise", goal=10 * AMOUNT)
    ada = await world.person()
    await in_thread(world.stack.kill, "temporal")
    made = [await world.invest(ada, campaign, AMOUNT, "stripe", instrument=CARD) for _ in range(5)]
    for each in made:
        await ada.post(f"/v1/investments/{each['id']}/cancel")
    await in_thread(world.stack.start, "temporal")
    for each in made:
        await world.until(ada, f"/v1/investments/{each['id']}", "canceled")
        result = await temporal.get_workflow_handle(each["workflow_id"]).result()
        assert result["status"] == "canceled"
    assert await captured_at_provider(world) == []


async def test_api_killed_between_commit_and_delivery(world: World, temporal: Client) -> None:
    count = 5
    campaign = await world.campaign("keep_what_you_raise", goal=count * AMOUNT)
    ada = await world.person()
    body = pledge(AMOUNT, "stripe", instrument=CARD)

    async def all_committed() -> bool:
        return (await outbox(world))[1] == count

    await until(lambda: nothing_waits(world), "the campaign's own messages are delivered")
    delivered, _ = await outbox(world)

    # A Temporal that accepts connections and never answers: every request commits, and hangs in its delivery.
    server = world.stack.pid("temporal")
    assert server is not None
    for each in [server, *descendants(server)]:
        os.kill(each, signal.SIGSTOP)
    posts = [
        asyncio.create_task(ada.call("POST", f"/v1/campaigns/{campaign}/invest", body, f"lost-{n}"))
        for n in range(count)
    ]
    await until(all_committed, "the requests have committed")
    await in_thread(world.stack.kill, "api")
    await in_thread(world.stack.kill, "temporal")  # and with it what the API may have sent, unread
    for each in await asyncio.gather(*posts, return_exceptions=True):
        promised = isinstance(each, httpx.Response) and each.status_code == 202  # when two seconds were over
        assert promised or isinstance(each, httpx.TransportError), each
    assert await outbox(world) == (delivered, count)

    await in_thread(world.stack.start, "temporal")
    await until(lambda: nothing_waits(world), "the relay delivers, with no API alive")
    assert world.stack.pid("api") is None

    await in_thread(world.stack.start, "api")
    again = [await invest_stubbornly(ada, campaign, body, f"lost-{n}") for n in range(count)]
    assert [(each.status_code, each.headers["idempotent-replayed"]) for each in again] == [(202, "true")] * count
    await all_captured(world, campaign, count)
    await agreed_books(world, campaign)
    assert await captured_at_provider(world) == [AMOUNT] * count
    await _started_once(world, temporal, count)
