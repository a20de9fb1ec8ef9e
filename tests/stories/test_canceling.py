"""Taking a pledge back: before payment, while held, twice, in a race, and when the money comes all the same."""

import pytest

from cli.demo.world import CARD
from tests.fixtures.stage import Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def canceled_before_payment_then_paid(world: Stage) -> None:
    """Paystack cannot close a page: what is paid there afterwards goes back."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 45_000, "paystack")
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    assert await world.counters(campaign) == (0, 0, 0)
    await world.mailed(ada, "was canceled")

    await world.pay_page(made["next_action"])
    await world.event(ada, made, "refund_succeeded")
    seen = await world.investment(ada, made)
    assert seen["status"] == "canceled" and "case_late_success" in events(seen)
    assert await world.taken("paystack") == [(45_000, 45_000)]
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.cases() == [("late_success", "resolved", "refunded")]
    await world.mailed(ada, "Refund of")


@STORIES.tell
async def a_held_card_is_released(world: Stage) -> None:
    campaign = await world.campaign("all_or_nothing", goal=500_000)
    ada = await world.person()
    made = await world.held(ada, campaign, 150_000)
    assert await world.counters(campaign) == (0, 150_000, 0)
    await world.cancel(ada, made)
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    assert events(seen)[-3:] == ["cancel_requested", "payment_canceled", "investment_canceled"]
    assert await world.counters(campaign) == (0, 0, 0)
    assert [each["status"] for each in await world.book("stripe")] == ["canceled"]
    assert await world.taken("stripe") == []
    again = await ada.call("POST", f"/v1/investments/{made['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "not_cancelable")


@STORIES.tell
async def a_held_wallet_gets_its_money_back(world: Stage) -> None:
    campaign = await world.campaign("all_or_nothing", goal=500_000)
    ada = await world.person()
    await world.deposit(ada, 200_000)
    made = await world.invest(ada, campaign, 150_000, "wallet")
    assert made["status"] == "held" and await world.wallet(ada) == 50_000
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    assert await world.wallet(ada) == 200_000
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.taken("stripe") == [(200_000, 0)], "the money stays in the wallet, not on the card"


@STORIES.tell
async def canceled_twice_at_once(world: Stage) -> None:
    campaign = await world.campaign("all_or_nothing", goal=500_000)
    ada = await world.person()
    made = await world.held(ada, campaign, 110_000)
    path = f"/v1/investments/{made['id']}/cancel"
    answers = await together(*(ada.call("POST", path) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert any(answer.status_code == 202 for answer in answers)
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    for once in ("cancel_requested", "payment_canceled", "investment_canceled"):
        assert events(seen).count(once) == 1, events(seen)
    assert [each["status"] for each in await world.book("stripe")] == ["canceled"]
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def canceled_before_the_first_call(world: Stage) -> None:
    """The provider is too busy to hear of the payment; canceled in the meantime, it never does."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "any", "429", times=1_000, retry_after=2)
    made = await world.invest(ada, campaign, 35_000, "stripe", instrument=CARD)
    assert (await world.investment(ada, made))["status"] == "pledged"
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    assert await world.book("stripe") == []
    await world.clear_faults("stripe")
    assert await world.counters(campaign) == (0, 0, 0)


@STORIES.tell
async def a_capture_that_wins_the_race_is_refunded(world: Stage) -> None:
    """The money was taken, but the answer was lost, and the cancel is accepted before anybody knows: the money goes back."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "reset_after")
    await world.fault("stripe", "stripe.get", "500_before", times=1_000)
    await world.fault("stripe", "webhook", "drop", times=1_000)
    made = await world.invest(ada, campaign, 65_000, "stripe", instrument=CARD)
    await world.event(ada, made, "outcome_unknown")
    await world.cancel(ada, made)
    await world.clear_faults("stripe")
    await world.event(ada, made, "refund_succeeded")
    seen = await world.investment(ada, made)
    assert seen["status"] == "canceled", events(seen)
    assert await world.taken("stripe") == [(65_000, 65_000)]
    assert await world.counters(campaign) == (0, 0, 0)
    await world.mailed(ada, "Refund of")


@STORIES.tell
async def captured_money_cannot_be_canceled(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 55_000, "stripe", instrument=CARD)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    refused = await ada.call("POST", f"/v1/investments/{made['id']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_cancelable")
    assert await world.taken("stripe") == [(55_000, 0)]
    assert await world.counters(campaign) == (0, 0, 55_000)


@STORIES.tell
async def slow_money_canceled_on_its_way_that_no_event_tells_of(world: Stage) -> None:
    """The transfer cannot be stopped, and its webhook is lost: it is looked for, and nobody waits for that."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("paystack", "webhook", "drop", times=1_000)
    made = await world.invest(ada, campaign, 85_000, "paystack")
    await world.pay_page(made["next_action"], "bank")
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    await world.mailed(ada, "was canceled")
    ended = (await world.temporal()).get_workflow_handle(made["workflow_id"])
    assert (await ended.result())["status"] == "canceled"
    assert (await world.payment(ada, made))["next_action_at"] is not None

    await world.settle("paystack", await world.reference(ada, made), "succeeded")
    await world.forward(made["payment_id"], hours=4)
    await world.clear_faults("paystack")
    await world.event(ada, made, "refund_succeeded")
    assert await world.taken("paystack") == [(85_000, 85_000)]
    assert await world.cases() == [("late_success", "resolved", "refunded")]
    seen = await world.payment(ada, made)
    assert (seen["status"], seen["next_action_at"]) == ("canceled", None), "nothing more is looked for"


@STORIES.tell
async def slow_money_canceled_on_its_way(world: Stage) -> None:
    """A bank transfer cannot be stopped: when it arrives it is only held at the provider, and released."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 75_000, "stripe", instrument="pm_bank_slow")
    await world.until_true(
        lambda: world.payment(ada, made), lambda p: p["status"] == "processing", "the transfer is on its way"
    )
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")
    assert await world.counters(campaign) == (0, 0, 0)
    await world.settle("stripe", await world.reference(ada, made), "succeeded")
    await world.event(ada, made, "case_late_success")
    await world.until_true(
        lambda: world.book("stripe"), lambda book: [p["status"] for p in book] == ["canceled"], "the hold is released"
    )
    assert await world.taken("stripe") == []
    assert (await world.investment(ada, made))["status"] == "canceled"
