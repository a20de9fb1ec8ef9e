"""More people than places, more pledges than money: exactly as many as fit, however they arrive."""

import asyncio
from collections import Counter

from cli.demo.world import CARD, World
from tests.races.money import agreed_books, invest_stubbornly, pledge

TICKET = 25_000


async def test_two_hundred_into_the_last_ten_places_are_ten(world: World) -> None:
    taken, left, wanting = 3, 10, 200
    cap = {"amount": (taken + left) * TICKET, "currency": "NGN"}
    campaign = await world.campaign("keep_what_you_raise", goal=TICKET, cap=cap)
    people = await asyncio.gather(*(world.person() for _ in range(5)))
    body = pledge(TICKET, "stripe", instrument=CARD)
    for n in range(taken):
        assert (await invest_stubbornly(people[n], campaign, body, f"early-{n}")).status_code == 202

    answers = await asyncio.gather(
        *(invest_stubbornly(people[n % len(people)], campaign, body, f"late-{n}") for n in range(wanting))
    )
    outcomes = Counter((each.status_code, "" if each.is_success else each.json()["code"]) for each in answers)
    assert outcomes == {(202, ""): left, (409, "campaign_full"): wanting - left}

    async def captured() -> int:
        return int((await world.admin.get(f"/v1/campaigns/{campaign}"))["captured"]["amount"])

    await world.until_true(captured, lambda amount: amount == cap["amount"], "every place is paid for")
    books = await agreed_books(world, campaign)
    assert books.statuses() == {"captured": taken + left}
    assert [each["captured"] for each in await world.book("stripe")] == [TICKET] * (taken + left)


async def test_thirty_two_pledges_race_a_wallet_with_money_for_seven(world: World) -> None:
    writers, enough_for = 32, 7
    campaign = await world.campaign("all_or_nothing", goal=writers * TICKET)
    ada = await world.person()
    await world.deposit(ada, enough_for * TICKET + TICKET - 1)

    answers = await asyncio.gather(
        *(invest_stubbornly(ada, campaign, pledge(TICKET, "wallet"), f"wallet-{n}") for n in range(writers))
    )
    outcomes = Counter("" if each.is_success else each.json()["code"] for each in answers)
    assert outcomes == {"": enough_for, "insufficient_funds": writers - enough_for}

    books = await agreed_books(world, campaign)
    assert books.statuses() == {"held": enough_for}
    wallet = (await ada.get("/v1/wallet"))[0]
    assert wallet["posted"] == enough_for * TICKET + TICKET - 1
    assert (wallet["pending_out"], wallet["available"]) == (enough_for * TICKET, TICKET - 1)
