"""Every way to pay: at once, on a page, with the bank's question, from the wallet, too late, or not at all."""

import pytest

from cli.demo.world import CARD, CARD_THAT_ASKS, expect
from contracts.ids import workflow_id
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
BACK = "https://app.demo.test/done"


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def the_wallet_pays_at_once(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.deposit(ada, 300_000)
    made = await world.invest(ada, campaign, 250_000, "wallet")
    assert made["status"] == "captured", "wallet money is taken with the request itself"
    assert await world.counters(campaign) == (0, 0, 250_000)
    assert await world.wallet(ada) == 50_000
    assert await world.taken("stripe") == [(300_000, 0)], "only the top-up went through the provider"
    assert events(await world.investment(ada, made)) == ["investment_pledged", "investment_captured"]
    await world.mailed(ada, "Receipt for")
    refused = await ada.call(
        "POST", f"/v1/campaigns/{campaign}/invest", {"amount": 50_001, "currency": "NGN", "provider": "wallet"}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_funds")
    assert await world.wallet(ada) == 50_000


@STORIES.tell
async def a_card_that_pays_at_once_takes_one_step(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 200_000, "stripe", instrument=CARD)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    handle = (await world.temporal()).get_workflow_handle(
        workflow_id("payment", world.seeded.scope, made["payment_id"])
    )
    await handle.result()
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled[0] == "start_attempt" and "capture_attempt" not in scheduled
    await world.mailed(ada, "Receipt for")


@STORIES.tell
async def a_wallet_is_topped_up_by_card_and_on_a_page(world: Stage) -> None:
    ada = await world.person()
    await world.deposit(ada, 70_000)
    page = await ada.post("/v1/deposits", {"amount": 30_000, "currency": "NGN", "provider": "paystack"})
    world.workflow_ids.append(page["workflow_id"])
    await world.pay_page(await world.next_action(ada, f"/v1/payments/{page['id']}"))
    seen = await world.until(ada, f"/v1/payments/{page['id']}", "succeeded")
    assert seen["captured"]["amount"] == 30_000
    assert await world.wallet(ada) == 100_000
    assert await world.taken("stripe") == [(70_000, 0)] and await world.taken("paystack") == [(30_000, 0)]
    declined = await ada.post(
        "/v1/deposits",
        {"amount": 5_000, "currency": "NGN", "provider": "stripe", "instrument": "pm_card_chargeDeclined"},
    )
    seen = await world.until(ada, f"/v1/payments/{declined['id']}", "failed")
    assert seen["error_code"] == "generic_decline"
    assert await world.wallet(ada) == 100_000
    await world.mailed(ada, "did not go through")


@STORIES.tell
async def the_payer_declines_on_the_page(world: Stage) -> None:
    """The provider sends no event for it: polling finds it."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 40_000, "paystack")
    await world.pay_page(made["next_action"], "decline")
    assert await world.counters(campaign) == (40_000, 0, 0)
    await world.forward(made["payment_id"], minutes=2)
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert (await world.payment(ada, made))["error_code"] is not None
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.taken("paystack") == []
    await world.mailed(ada, "did not go through")


@STORIES.tell
async def the_bank_asks_and_the_payer_approves(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 60_000, "stripe", instrument=CARD_THAT_ASKS, return_url=BACK)
    assert made["next_action"]["kind"] == "redirect"
    assert (await world.investment(ada, made))["status"] == "awaiting_payment"
    await world.pay_page(made["next_action"])
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    assert "payment_requires_action" in events(seen) and events(seen)[-1] == "investment_captured"
    assert await world.taken("stripe") == [(60_000, 0)]
    assert await world.counters(campaign) == (0, 0, 60_000)


@STORIES.tell
async def the_bank_asks_and_the_payer_refuses(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 60_000, "stripe", instrument=CARD_THAT_ASKS, return_url=BACK)
    await world.pay_page(made["next_action"], "decline")
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert (await world.payment(ada, made))["error_code"] == "payment_intent_authentication_failure"
    assert await world.taken("stripe") == []
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def the_second_card_in_the_form_pays(world: Stage) -> None:
    """Without an instrument the payer finishes with the provider's own form; a declined card there ends nothing."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 80_000, "stripe")
    assert made["next_action"]["kind"] == "client_token"
    form = f"/stripe/pay/{made['next_action']['client_token']}"
    await world.sandbox.post(form, data={"choice": "decline"})
    await world.until_true(
        lambda: world.payment(ada, made), lambda p: p["attempts"][-1]["decline_code"], "the decline is known"
    )
    assert (await world.investment(ada, made))["status"] == "awaiting_payment"
    await world.sandbox.post(form, data={"choice": "pay"})
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    assert await world.taken("stripe") == [(80_000, 0)]


@STORIES.tell
async def an_unpaid_page_expires_and_its_late_money_goes_back(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=90_000)
    ada, bem = await world.person(), await world.person()
    made = await world.invest(ada, campaign, 90_000, "paystack")
    wanted = {"amount": 90_000, "currency": "NGN", "provider": "stripe", "instrument": CARD}
    refused = await bem.call("POST", f"/v1/campaigns/{campaign}/invest", wanted)
    assert refused.json()["code"] == "campaign_full"
    await world.forward(made["payment_id"], hours=25)
    await world.until(ada, f"/v1/investments/{made['id']}", "expired")
    assert (await world.payment(ada, made))["status"] == "expired"
    await world.mailed(ada, "expired")
    second = await world.invest(bem, campaign, 90_000, "stripe", instrument=CARD)
    await world.until(bem, f"/v1/investments/{second['id']}", "captured")

    await world.pay_page(made["next_action"])
    await world.event(ada, made, "refund_succeeded")
    seen = await world.investment(ada, made)
    assert seen["status"] == "expired", "a late success moves no status"
    assert "case_late_success" in events(seen)
    assert await world.taken("paystack") == [(90_000, 90_000)]
    assert await world.counters(campaign) == (0, 0, 90_000)
    assert await world.cases() == [("late_success", "resolved", "refunded")]
    await world.mailed(ada, "Refund of")


@STORIES.tell
async def two_ways_at_once_into_one_campaign(world: Stage) -> None:
    campaign = await world.campaign("all_or_nothing", goal=500_000)
    ada = await world.person()
    card = await world.held(ada, campaign, 120_000)
    page = await world.invest(ada, campaign, 30_000, "paystack", return_url=BACK)
    await world.pay_page(page["next_action"])
    await world.until(ada, f"/v1/investments/{page['id']}", "captured")
    assert await world.counters(campaign) == (0, 120_000, 30_000)
    assert await world.taken("stripe") == [], "authorized is not taken"
    expect((await world.payment(ada, card))["status"] == "requires_capture", "the card is held")
    await world.mailed(ada, "reserved for")
    await world.mailed(ada, "Receipt for")
