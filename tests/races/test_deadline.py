"""Canceling, capturing and the deadline meet: every pledge ends one way, and everybody agrees which."""

import asyncio
from datetime import datetime

import httpx

from cli.demo.world import CARD, Json, Person, World
from tests.races.money import agreed_books

TICKET, PLEDGES = 20_000, 20
TOO_LATE = {"campaign_closed", "not_cancelable"}


async def test_cancels_race_the_deadline_and_the_captures(world: World) -> None:
    await world.start_clock()
    goal, cap = TICKET, {"amount": PLEDGES * TICKET, "currency": "NGN"}
    campaign = await world.campaign("all_or_nothing", goal=goal, cap=cap, days=5, success_floor_bps=0)
    ada, bem = await world.person(), await world.person()
    await world.deposit(ada, PLEDGES // 2 * TICKET)
    made = await asyncio.gather(
        *(world.invest(ada, campaign, TICKET, "wallet") for _ in range(PLEDGES // 2)),
        *(world.invest(bem, campaign, TICKET, "stripe", instrument=CARD) for _ in range(PLEDGES // 2)),
    )
    owner = {each["id"]: ada if each["provider"] == "wallet" else bem for each in made}
    for each in made:
        await world.until(owner[each["id"]], f"/v1/investments/{each['id']}", "held")

    answers, _ = await asyncio.gather(_cancel_around_the_deadline(world, campaign, made, owner), world.advance(days=6))

    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded", "closed_failed")
    accepted = {each for each, answer in answers.items() if answer.status_code == 202}
    refused = {each: answer.json()["code"] for each, answer in answers.items() if each not in accepted}
    assert set(refused.values()) <= TOO_LATE, refused
    for each in made:
        await world.until(world.admin, f"/v1/investments/{each['id']}", "captured", "canceled", "refunded")
    books = await agreed_books(world, campaign)
    for investment in books.investments.values():
        expected = {"canceled", "refunded"} if investment["id"] in accepted else {"captured"}
        assert investment["status"] in expected, (investment, answers[investment["id"]].text)
    assert accepted and refused, f"no race: {len(accepted)} were in time, {len(refused)} too late"
    wallet = (await ada.get("/v1/wallet"))[0]
    gone = sum(each["status"] == "captured" for each in books.investments.values() if each["provider"] == "wallet")
    assert (wallet["posted"], wallet["pending_out"]) == ((PLEDGES // 2 - gone) * TICKET, 0)


async def _cancel_around_the_deadline(
    world: World, campaign: str, made: list[Json], owner: dict[str, Person]
) -> dict[str, httpx.Response]:
    """Some well before, some once it has been decided, and most in one burst as the clock reaches the deadline."""
    order = [each for pair in zip(made[: PLEDGES // 2], made[PLEDGES // 2 :], strict=True) for each in pair]
    answers: dict[str, httpx.Response] = {}

    async def cancel(investment: Json) -> None:
        path = f"/v1/investments/{investment['id']}/cancel"
        answers[investment["id"]] = await owner[investment["id"]].call("POST", path, {})

    await asyncio.gather(*(cancel(each) for each in order[:3]))
    deadline = datetime.fromisoformat((await world.admin.get(f"/v1/campaigns/{campaign}"))["deadline_at"])
    while await world.business_now() < deadline:
        pass  # asked as fast as it answers, to be there when it happens
    await asyncio.gather(*(cancel(each) for each in order[3:-3]))
    await world.until_true(
        lambda: world.admin.get(f"/v1/campaigns/{campaign}"), lambda seen: seen["status"] != "live", "a decision"
    )
    await asyncio.gather(*(cancel(each) for each in order[-3:]))
    return answers
