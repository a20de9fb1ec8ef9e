"""Money that goes back where its investor wants it, and a settlement of every kind of money whose worker is killed."""

import asyncio
from datetime import timedelta

import pytest

from cli.demo.world import Json, Person
from tests.fixtures.stage import Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
CARDS, WALLETS, PAGES = 12, 6, 2
REFUSED, HANGING = 10_003, 10_005


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def _page(world: Stage, person: Person, campaign: str, amount: int, **more: str) -> Json:
    made = await world.invest(person, campaign, amount, "paystack", **more)
    await world.pay_page(made["next_action"])
    return await world.until(person, f"/v1/investments/{made['id']}", "captured")


@STORIES.tell
async def into_the_wallet_by_choice(world: Stage) -> None:
    """The goal is missed. One wants the money here for the next campaign, one wants it back, one changed her mind twice."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=9_000_000, days=2)
    ada, bem, chi = await together(*(world.person() for _ in range(3)))
    here = await _page(world, ada, campaign, 30_001, refund_to="wallet")
    back = await _page(world, bem, campaign, 30_002)
    late = await _page(world, chi, campaign, 30_003)
    assert [each["refund_to"] for each in (here, back, late)] == ["wallet", "source", "source"]
    for to in ("wallet", "source", "wallet"):
        chosen = await chi.post(f"/v1/investments/{late['id']}/refund-to", {"to": to})
        assert chosen["refund_to"] == to
    other = await bem.call("POST", f"/v1/investments/{late['id']}/refund-to", {"to": "source"})
    assert other.status_code == 404, "it is not his"
    await world.advance(days=2, hours=1)
    seen = await world.until(ada, f"/v1/investments/{here['id']}", "credited_to_wallet")
    assert events(seen)[-3:] == ["investment_refunding", "refund_succeeded", "investment_credited_to_wallet"]
    await world.until(chi, f"/v1/investments/{late['id']}", "credited_to_wallet")
    await world.until(bem, f"/v1/investments/{back['id']}", "refunded")
    assert [await world.wallet(each) for each in (ada, bem, chi)] == [30_001, 0, 30_003]
    assert await world.taken("paystack") == [(30_001, 0), (30_002, 30_002), (30_003, 0)]
    refused = await chi.call("POST", f"/v1/investments/{late['id']}/refund-to", {"to": "source"})
    assert (refused.status_code, refused.json()["code"]) == (409, "refund_decided")
    await world.mailed(ada, "is back in your wallet")
    totals = (await ada.get(f"/v1/users/{ada.user_id}/dashboard"))["totals"]["NGN"]
    assert (totals["paid_in"]["amount"], totals["invested"]["amount"]) == (30_001, 0), totals
    today = (await world.business_now()).date()
    said = await ada.get(f"/v1/statements/NGN?from={today - timedelta(days=9)}&to={today + timedelta(days=1)}")
    assert [(each["event"], each["amount"]["amount"]) for each in said["investments"]] == [
        ("investment_captured", -30_001), ("investment_credited_to_wallet", 30_001),
    ]  # fmt: skip
    assert [(each["event"], each["amount"]["amount"]) for each in said["movements"]] == [("refund_succeeded", 30_001)]
    again = await world.campaign("keep_what_you_raise", goal=20_000)
    made = await world.invest(ada, again, 20_000, "wallet")
    assert made["status"] == "captured", "the money is hers to invest again"


@STORIES.tell
async def a_card_that_was_only_held_is_released(world: Stage) -> None:
    """Nothing was taken, so nothing can be put into a wallet: the choice changes nothing."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=9_000_000, days=2)
    ada = await world.person()
    held = await world.held(ada, campaign, 40_000, refund_to="wallet")
    await world.advance(days=2, hours=1)
    await world.until(ada, f"/v1/investments/{held['id']}", "canceled")
    assert await world.wallet(ada) == 0 and await world.taken("stripe") == []


async def test_a_settlement_of_all_rails_whose_worker_is_killed(told: Told, world: Stage) -> None:
    """Killed between the calls and their record: every call is looked up and none repeated; one card refuses, and fails alone."""
    await told.everything()
    cards = [10_000 + n for n in range(CARDS)]
    wallets = [20_000 + n for n in range(WALLETS)]
    pages = [30_000 + n for n in range(PAGES)]
    ada, bem, chi = await together(*(world.person() for _ in range(3)))
    goal = sum(cards) + sum(wallets) + sum(pages)
    campaign = await world.campaign("all_or_nothing", goal=goal, close_when_funded=True)
    await world.deposit(bem, sum(wallets))
    made = await together(*(world.held(ada, campaign, amount) for amount in cards))
    await together(*(_page(world, chi, campaign, amount) for amount in pages))
    await world.fault("stripe", "stripe.capture", "decline", match={"amount": REFUSED})
    await world.fault("stripe", "stripe.capture", "hang_after", seconds=3, match={"amount": HANGING})
    async with world.before("investments", "new.provider = 'stripe' and new.status = 'captured'"):
        for amount in wallets:
            await world.invest(bem, campaign, amount, "wallet")
        await world.until_true(
            lambda: world.faults_fired("stripe"), lambda fired: fired == 2, "the calls are under way"
        )
        await asyncio.to_thread(world.stack.kill, "worker")
    held = await world.sql(
        "select count(*)::int as n from investments where tenant_id = %(tenant)s and status = 'held' and provider = 'stripe'"
    )
    await asyncio.to_thread(world.stack.start, "worker")
    assert held[0]["n"] == CARDS, "no call was recorded yet"
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded", seconds=120)
    refused = next(each for each in made if each["amount"]["amount"] == REFUSED)
    await world.until(ada, f"/v1/investments/{refused['id']}", "failed")
    settlement = (await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements"))[0]
    assert (settlement["done"], settlement["failed"], settlement["open"]) == (CARDS + WALLETS - 1, 1, 0)
    taken = [(amount, 0) for amount in cards if amount != REFUSED]
    assert await world.taken("stripe") == sorted([*taken, (sum(wallets), 0)]), (
        "each once; the last is the wallet's top-up"
    )
    assert await world.counters(campaign) == (0, 0, goal - REFUSED)
