"""The owner cancels as the deadline arrives and people still pledge: one outcome, and everybody's money follows it."""

import asyncio
from collections import Counter
from datetime import datetime

import httpx
import pytest

from cli.demo.world import Person, World
from tests.races.money import agreed_books, pledge
from tests.races.test_deadline import TICKET

CAMPAIGNS, HELD, RIVALS = 4, 4, 6
LAST = CAMPAIGNS - 1
PAUSE_SECONDS = 0.1
"""How much later each campaign's owner changes his mind: about as long as a process takes to hear of its goal."""
AFTER = {"cancel": {"canceled", "campaign_decided"}, "invest": {"pledged", "campaign_closed"}}
"""Of each command, what may become of it."""


@pytest.mark.parametrize("decided_by", ["deadline", "goal"])
async def test_a_cancel_races_pledges_and_the_decision(world: World, decided_by: str) -> None:
    """Four campaigns at once, canceled ever later. By the goal: the last ticket decides, unless the cancel was first."""
    await world.start_clock()
    ada, goal = await world.person(), (HELD + (2 if decided_by == "goal" else 0)) * TICKET
    await world.deposit(ada, CAMPAIGNS * (HELD + RIVALS) * TICKET)
    cap = {"amount": 50 * TICKET, "currency": "NGN"}
    terms = {"cap": cap, "days": 3, "close_when_funded": decided_by == "goal"}
    campaigns = [await world.campaign("all_or_nothing", goal=goal, **terms) for _ in range(CAMPAIGNS)]
    for campaign in campaigns:
        await asyncio.gather(*(world.invest(ada, campaign, TICKET, "wallet") for _ in range(HELD)))
    clock = world.advance(days=4) if decided_by == "deadline" else asyncio.sleep(0)
    rush = [_rush(world, ada, campaign, number, decided_by) for number, campaign in enumerate(campaigns)]
    *outcomes, _ = await asyncio.gather(*rush, clock)

    for campaign, answers in zip(campaigns, outcomes, strict=True):
        seen = await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded", "closed_failed")
        canceled = answers["canceled"] > 0
        assert answers["canceled"] <= 1, answers
        assert seen["status"] == ("closed_failed" if canceled else "funded"), (seen, answers)
        happened = [each["event"] for each in seen["timeline"]]
        assert happened.count("campaign_canceled") + happened.count("campaign_successful") == 1, happened
        books = await agreed_books(world, campaign)
        kept = "canceled" if canceled else "captured"
        assert books.statuses() == {kept: HELD + answers["pledged"]}, (books.statuses(), answers)
    assert [bool(answers["canceled"]) for answers in (outcomes[0], outcomes[LAST])] == [True, False], outcomes
    wallet = (await ada.get("/v1/wallet"))[0]
    assert wallet["pending_out"] == 0


async def _rush(world: World, ada: Person, campaign: str, number: int, decided_by: str) -> Counter[str]:
    """Pledges and cancels in one burst; of the first campaign the cancels go before everything else."""
    path, found = f"/v1/campaigns/{campaign}", Counter[str]()

    async def send(command: str) -> None:
        body = pledge(TICKET, "wallet") if command == "invest" else {"reason": "It rained."}
        who = ada if command == "invest" else world.admin
        answer: httpx.Response = await who.call("POST", f"{path}/{command}", body)
        done = "pledged" if command == "invest" else "canceled"
        outcome = done if answer.is_success else str(answer.json()["code"])
        assert outcome in AFTER[command], answer.text
        found[outcome] += 1

    async def cancel() -> None:
        """Before the decision, into it, or once it is known."""
        if number == LAST:
            await world.until_true(lambda: world.admin.get(path), lambda seen: seen["status"] != "live", "a decision")
        elif decided_by == "goal":
            await asyncio.sleep(PAUSE_SECONDS * number)
        await asyncio.gather(send("cancel"), send("cancel"))

    if decided_by == "deadline" and number > 0:
        deadline = datetime.fromisoformat((await world.admin.get(path))["deadline_at"])
        while await world.business_now() < deadline:
            pass  # asked as fast as it answers, to be there when it happens
    pledges = [send("invest") for _ in range(RIVALS)]
    if number == 0:
        await cancel()
        await asyncio.gather(*pledges)
    else:
        await asyncio.gather(cancel(), *pledges)
    return found
