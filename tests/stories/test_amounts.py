"""The provider took something else than was asked: never booked as the payment, always given back, always a case."""

import pytest

from cli.demo.world import CARD
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_card_is_held_for_one_unit_less(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.create", "wrong_amount")
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert "payment_in_review" in events(seen) and "case_amount_mismatch" in events(seen)
    assert (await world.payment(ada, made))["error_code"] == "amount_mismatch"
    assert [(each["amount"], each["status"]) for each in await world.book("stripe")] == [(99_999, "canceled")]
    assert await world.taken("stripe") == []
    assert await world.cases() == [("amount_mismatch", "resolved", "released")]
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def a_card_is_captured_for_less_than_was_held(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "wrong_amount", amount=40_000)
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await world.event(ada, made, "refund_succeeded")
    seen = await world.investment(ada, made)
    assert seen["status"] == "failed" and "case_amount_mismatch" in events(seen)
    detail = next(each["detail"] for each in seen["timeline"] if each["event"] == "case_amount_mismatch")
    assert (detail["asked_minor"], detail["reported_minor"]) == (100_000, 40_000)
    assert await world.taken("stripe") == [(40_000, 40_000)]
    assert await world.cases() == [("amount_mismatch", "resolved", "refunded")]
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def a_page_asks_for_too_much(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("paystack", "paystack.initialize", "wrong_amount", amount=100_500)
    made = await world.invest(ada, campaign, 100_000, "paystack")
    await world.pay_page(made["next_action"])
    await world.event(ada, made, "refund_succeeded")
    seen = await world.investment(ada, made)
    assert seen["status"] == "failed" and "case_amount_mismatch" in events(seen)
    assert await world.taken("paystack") == [(100_500, 100_500)]
    assert await world.cases() == [("amount_mismatch", "resolved", "refunded")]
    assert await world.counters(campaign) == (0, 0, 0)
    await world.mailed(ada, "Refund of")


@STORIES.tell
async def a_top_up_brings_less(world: Stage) -> None:
    ada = await world.person()
    await world.fault("paystack", "paystack.initialize", "wrong_amount", amount=1)
    made = await ada.post("/v1/deposits", {"amount": 70_000, "currency": "NGN", "provider": "paystack"})
    await world.pay_page(await world.next_action(ada, f"/v1/payments/{made['id']}"))
    await world.event(ada, made, "refund_succeeded")
    assert (await world.payment(ada, made))["status"] == "failed"
    assert await world.wallet(ada) == 0, "a wallet never shows what was not asked for"
    assert await world.taken("paystack") == [(1, 1)]
