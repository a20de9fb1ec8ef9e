"""One request sent many times at once is one request."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx

from cli.demo.world import CARD, World
from infra.outgoing import http_client
from tests.races.money import agreed_books, invest_stubbornly, pledge

KEYS, COPIES, AMOUNT = 20, 50, 10_000


async def test_fifty_copies_of_twenty_requests_have_twenty_effects_and_equal_answers(world: World) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=KEYS * AMOUNT)
    people = await asyncio.gather(*(world.person() for _ in range(4)))
    bodies = [
        pledge(AMOUNT, "stripe", instrument=CARD) if n % 2 else pledge(AMOUNT, "paystack") for n in range(KEYS)
    ]  # every place in the campaign is wanted: one double would also push a later request out
    async with AsyncExitStack() as open_clients:
        # Many small pools of connections: the bookkeeping of one big pool costs more than the requests.
        pools = [
            await open_clients.enter_async_context(http_client(base_url=world.api.base_url, timeout=30))
            for _ in range(COPIES)
        ]
        answers = await asyncio.gather(
            *(
                invest_stubbornly(replace(people[n % 4], http=pool), campaign, bodies[n], f"copy-{n}")
                for pool in pools
                for n in range(KEYS)
            )
        )
    by_key = [answers[n::KEYS] for n in range(KEYS)]
    for copies in by_key:
        assert {each.status_code for each in copies} == {202}, {each.text for each in copies if not each.is_success}
        fresh = [each for each in copies if "idempotent-replayed" not in each.headers]
        assert len(copies) == COPIES and len(fresh) == 1
        assert len({_promise(each) for each in copies}) == 1
        assert len({_asked(each) for each in copies} - {"null"}) <= 1, "no payer is shown two pages"
    made = [copies[0].json()["data"] for copies in by_key]
    assert len({each["id"] for each in made}) == KEYS

    for number, each in enumerate(made):
        if each["provider"] == "paystack":
            await world.pay_page(await world.next_action(people[number % 4], f"/v1/investments/{each['id']}"))
    for number, each in enumerate(made):
        await world.until(people[number % 4], f"/v1/investments/{each['id']}", "captured")
    books = await agreed_books(world, campaign)
    assert set(books.investments) == {each["id"] for each in made}
    assert books.campaign["captured"]["amount"] == KEYS * AMOUNT
    assert len(await world.book("stripe")) == len(await world.book("paystack")) == KEYS // 2


def _promise(answer: httpx.Response) -> str:
    """All that is said but for what the payer has to do, which some copies are answered too early to know."""
    body = answer.json()
    return json.dumps({**body, "data": {**body["data"], "next_action": None}}, sort_keys=True)


def _asked(answer: httpx.Response) -> str:
    return json.dumps(answer.json()["data"]["next_action"], sort_keys=True)
