"""Every way an exchange with a provider can break, at every operation: the right end, and exactly one effect.

One campaign per operation and one pledge per kind of fault, told apart by its amount.
"""

from typing import Any

import pytest

from cli.demo.world import CARD, Json, Person
from tests.fixtures.stage import Stage, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
FAULTS: dict[str, dict[str, Any]] = {
    "500_before": {},
    "500_after": {},
    "hang_after": {"seconds": 3},
    "reset_after": {},
    "429": {"retry_after": 1},
    "malformed": {},
}
AMOUNTS = {kind: 10_000 + number for number, kind in enumerate(FAULTS)}
ONE_EFFECT_EACH = sorted((amount, 0) for amount in AMOUNTS.values())


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def _break(world: Stage, operation: str) -> None:
    for kind, amount in AMOUNTS.items():
        provider = operation.partition(".")[0]
        await world.fault(provider, operation, kind, match={"amount": amount}, **FAULTS[kind])


async def _cards(world: Stage, person: Person, campaign: str) -> list[Json]:
    return await together(
        *(world.invest(person, campaign, amount, "stripe", instrument=CARD) for amount in AMOUNTS.values())
    )


async def _captured_once(world: Stage, person: Person, campaign: str, made: list[Json], provider: str) -> None:
    await together(*(world.until(person, f"/v1/investments/{each['id']}", "captured") for each in made))
    assert await world.faults_fired(provider) == len(FAULTS)
    assert await world.taken(provider) == ONE_EFFECT_EACH
    assert await world.counters(campaign) == (0, 0, sum(AMOUNTS.values()))
    receipts = [subject for subject in await world.mails(person) if "Receipt" in subject]
    assert len(receipts) <= len(FAULTS)


@STORIES.tell
async def at_creation(world: Stage) -> None:
    """Stripe: an identical request with the same key is the look-up."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    await _break(world, "stripe.create")
    made = await _cards(world, ada, campaign)
    await _captured_once(world, ada, campaign, made, "stripe")
    assert len(await world.book("stripe")) == len(FAULTS), "no second payment was ever made"


@STORIES.tell
async def at_capture(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    await _break(world, "stripe.capture")
    made = await _cards(world, ada, campaign)
    await _captured_once(world, ada, campaign, made, "stripe")


@STORIES.tell
async def at_cancellation(world: Stage) -> None:
    campaign = await world.campaign("all_or_nothing", goal=1_000_000)
    ada = await world.person()
    await _break(world, "stripe.cancel")
    made = await together(*(world.held(ada, campaign, amount) for amount in AMOUNTS.values()))
    await together(*(world.cancel(ada, each) for each in made))
    await together(*(world.until(ada, f"/v1/investments/{each['id']}", "canceled") for each in made))
    assert await world.faults_fired("stripe") == len(FAULTS)
    assert {each["status"] for each in await world.book("stripe")} == {"canceled"}
    assert await world.taken("stripe") == []
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def at_the_look_up_of_a_paid_page(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    made = await together(*(world.invest(ada, campaign, amount, "paystack") for amount in AMOUNTS.values()))
    await _break(world, "paystack.verify")
    await together(*(world.pay_page(each["next_action"]) for each in made))
    await _captured_once(world, ada, campaign, made, "paystack")


@STORIES.tell
async def at_the_opening_of_a_page(world: Stage) -> None:
    """Where the answer was lost the page's address is gone: a new attempt brings a page that can be used."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    await _break(world, "paystack.initialize")
    made = await together(*(world.invest(ada, campaign, amount, "paystack") for amount in AMOUNTS.values()))
    await world.until_true(
        lambda: world.faults_fired("paystack"), lambda fired: fired == len(FAULTS), "every first call is broken"
    )
    for each in made:
        await world.pay_page(await world.next_action(ada, f"/v1/investments/{each['id']}"))
    await _captured_once(world, ada, campaign, made, "paystack")
    lost = ("500_after", "hang_after", "reset_after", "malformed")
    attempts = {each["amount"]["amount"]: len((await world.payment(ada, each))["attempts"]) for each in made}
    assert attempts == {amount: 2 if kind in lost else 1 for kind, amount in AMOUNTS.items()}


@STORIES.tell
async def when_the_lost_page_is_paid_after_all(world: Stage) -> None:
    """Somebody found the first page: its money counts once, whatever is paid on the second goes back."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    await world.fault("paystack", "paystack.initialize", "reset_after")
    made = await world.invest(ada, campaign, 77_000, "paystack")
    await world.pay_page(await world.next_action(ada, f"/v1/investments/{made['id']}"))
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    lost = (await world.payment(ada, made))["attempts"][0]["reference"]
    await world.pay_page(await world.page_of(lost))
    await world.event(ada, made, "refund_succeeded")
    assert (await world.investment(ada, made))["status"] == "captured"
    assert await world.taken("paystack") == [(77_000, 0), (77_000, 77_000)]
    assert await world.counters(campaign) == (0, 0, 77_000)
