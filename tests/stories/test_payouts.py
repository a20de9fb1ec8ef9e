"""Money out of a wallet, through the public API: held with the request, sent once, given back when it was not sent."""

from datetime import timedelta
from typing import Any

import pytest

from tests.fixtures.payouts import AMOUNT, WALLET, saver, settle_transfer
from tests.fixtures.stage import Stage, events, forward, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
FOR_EVER = 100_000
LARGE = 10_000_000
"""The tenant's limit: from here on a second person approves."""
FAILS, RETURNED, PENDING, PASSWORD, NOBODY = "9001000011", "9002000011", "9003000011", "9004000011", "9009000011"


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_withdrawal_is_paid(world: Stage) -> None:
    ada = await saver(world)
    made = await ada.withdraw()
    seen = await ada.until(made, "succeeded")
    assert events(seen)[0] == "payout_requested" and events(seen)[-1] == "payout_succeeded"
    assert await ada.sent() == [("success", AMOUNT)]
    assert await world.wallet(ada.person) == WALLET - AMOUNT
    await world.mailed(ada.person, "is on its way")
    payee = await ada.person.get(f"/v1/beneficiaries/{ada.payee['id']}")
    assert (payee["account"], payee["holder_name"]) == ("••••6789", payee["name"])
    assert await world.cases() == []


@STORIES.tell
async def a_large_one_needs_a_second_person(world: Stage) -> None:
    """And so does a small one that comes within a day of it."""
    ada = await saver(world, wallet=2 * LARGE)
    large, small = await ada.withdraw(LARGE, "awaiting_approval"), await ada.withdraw(AMOUNT, "awaiting_approval")
    refused = await ada.person.call("POST", f"/v1/admin/payouts/{large['id']}/approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    approved = await world.admin.post(f"/v1/admin/payouts/{large['id']}/approve")
    assert (approved["status"], approved["decided_by"]) == ("approved", world.admin.user_id)
    await world.admin.post(f"/v1/admin/payouts/{small['id']}/reject", {"note": "Please ask again tomorrow."})
    await ada.until(large, "succeeded")
    assert (await ada.until(small, "rejected"))["note"] == "Please ask again tomorrow."
    assert await ada.sent() == [("success", LARGE)]
    assert await world.wallet(ada.person) == LARGE
    await world.mailed(ada.person, "was not approved")


@STORIES.tell
async def an_answer_that_never_came_is_looked_up(world: Stage) -> None:
    ada = await saver(world)
    for kind in ("hang_after", "reset_after", "500_after", "malformed"):
        await world.fault("paystack", "paystack.transfer", kind)
    await world.fault("paystack", "webhook", "drop", times=10)
    made = [await ada.withdraw(100_000) for _ in range(4)]
    seen = await together(*(ada.until(each, "succeeded") for each in made))
    assert all("payout_unknown" in events(each) for each in seen)
    assert await world.faults_fired("paystack") >= 4
    assert await ada.sent() == [("success", 100_000)] * 4, "none was sent twice"


@STORIES.tell
async def an_outcome_unknown_for_days_is_put_before_a_person(world: Stage) -> None:
    """And is only looked up, for ever: nobody can rule that it be sent again."""
    ada = await saver(world)
    await world.fault("paystack", "paystack.transfer", "reset_after")
    await world.fault("paystack", "paystack.verify_transfer", "500_before", times=FOR_EVER)
    await world.fault("paystack", "webhook", "drop", times=FOR_EVER)
    made = await ada.withdraw()
    await ada.until(made, "unknown")
    await forward(await world.temporal(), made["workflow_id"], timedelta(hours=30))
    seen = await ada.until_blocked(made, "payout_unknown")
    assert events(seen).count("payout_unknown") == 1, "told once, not at every look-up"
    assert ("unknown_outcome", "open", None) in await world.cases()
    found = (await world.admin.get("/v1/admin/stuck"))["findings"]
    assert [each["do"] for each in found if each["subject"] == made["id"] and each["kind"] == "blocked"]
    await world.clear_faults("paystack")
    await world.admin.post(f"/v1/admin/payouts/{made['id']}/check")
    assert (await ada.until(made, "succeeded"))["blocked_reason"] is None
    assert await ada.sent() == [("success", AMOUNT)]
    assert [case[:2] for case in await world.cases()] == [("unknown_outcome", "resolved")]


@STORIES.tell
async def a_request_that_never_arrived_is_sent_again_after_the_grace(world: Stage) -> None:
    ada = await saver(world)
    await world.fault("paystack", "paystack.transfer", "500_before")
    made = await ada.withdraw()
    await ada.until(made, "unknown")
    assert await ada.sent() == [], "within the grace period an absence proves nothing"
    await world.let_grace_pass()
    await ada.until(made, "succeeded")
    assert await ada.sent() == [("success", AMOUNT)]


@STORIES.tell
async def an_empty_provider_account_is_topped_up(world: Stage) -> None:
    """Meanwhile another one is given up."""
    ada = await saver(world, top_up=0)
    kept, given_up = await ada.withdraw(), await ada.withdraw(100_000)
    for each in (kept, given_up):
        await ada.until_blocked(each, "provider_balance")
    assert [case[:2] for case in await world.cases()] == [("provider_balance", "open")] * 2
    while not (await ada.person.call("POST", f"/v1/payouts/{given_up['id']}/cancel")).is_success:
        await ada.until_blocked(given_up, "provider_balance")  # just now it is being tried again
    await world.top_up(AMOUNT)
    await world.admin.post(f"/v1/admin/payouts/{kept['id']}/check")
    seen = await ada.until(kept, "succeeded")
    assert events(seen).count("payout_waits_for_balance") == 1
    assert await ada.sent() == [("success", AMOUNT)]
    assert await world.wallet(ada.person) == WALLET - AMOUNT
    await ada.until(given_up, "canceled")
    assert {case[1] for case in await world.cases()} == {"resolved"}


@STORIES.tell
async def a_transfer_that_fails_gives_the_money_back(world: Stage) -> None:
    ada = await saver(world, FAILS)
    made = await ada.withdraw()
    seen = await ada.until(made, "failed")
    assert seen["error_code"] == "transfer_could_not_be_processed"
    assert await ada.sent() == [("failed", 0)]
    assert await world.wallet(ada.person) == WALLET
    await world.mailed(ada.person, "could not send")


@STORIES.tell
async def money_the_bank_returns_is_in_the_wallet_again(world: Stage) -> None:
    """A day later, by the tenant's clock; the process has long ended, and is begun again by the webhook."""
    await world.start_clock()
    ada = await saver(world, RETURNED)
    made = await ada.withdraw()
    await ada.until(made, "succeeded")
    await (await world.temporal()).get_workflow_handle(made["workflow_id"]).result()
    await world.advance(days=1, hours=1)
    seen = await ada.until(made, "returned")
    assert events(seen)[-2:] == ["payout_succeeded", "payout_returned"]
    assert await world.wallet(ada.person) == WALLET
    await world.mailed(ada.person, "came back")


@STORIES.tell
async def a_return_nobody_told_of_is_found_by_looking(world: Stage) -> None:
    ada = await saver(world)
    made = await ada.withdraw()
    await ada.until(made, "succeeded")
    await world.fault("paystack", "webhook", "drop", times=10)
    await settle_transfer(world, made, "returned")
    await world.admin.post(f"/v1/admin/payouts/{made['id']}/check")
    await ada.until(made, "returned")
    assert await world.wallet(ada.person) == WALLET


@STORIES.tell
async def a_webhook_comes_before_the_answer(world: Stage) -> None:
    ada = await saver(world)
    await world.fault("paystack", "paystack.transfer", "hang_after", seconds=1)
    made = await ada.withdraw()
    await ada.until(made, "succeeded")
    assert "payout_unknown" in events(await ada.seen(made)), "the answer itself never came"
    assert await ada.sent() == [("success", AMOUNT)]
    assert [each["body"]["event"] for each in await world.deliveries("paystack")] == ["transfer.success"]


@STORIES.tell
async def a_transfer_that_waits_for_somebody_says_so(world: Stage) -> None:
    """One for a one-time password, one for nobody knows whom: the provider decides in the end."""
    ada = await saver(world, PASSWORD)
    made = await ada.withdraw()
    await ada.until_blocked(made, "provider_approval")
    await settle_transfer(world, made, "succeeded")
    seen = await ada.until(made, "succeeded")
    assert seen["blocked_reason"] is None


@STORIES.tell
async def on_its_way_for_days_it_is_put_before_a_person(world: Stage) -> None:
    """Nothing is known to be wrong, and nothing is done about it; but somebody should ask."""
    ada = await saver(world, PENDING)
    made = await ada.withdraw()
    await ada.until(made, "pending")
    await forward(await world.temporal(), made["workflow_id"], timedelta(days=5))
    await ada.until_blocked(made, "payout_pending")
    assert ("payout_pending", "open", None) in await world.cases()
    await settle_transfer(world, made, "succeeded")
    assert (await ada.until(made, "succeeded"))["blocked_reason"] is None
    assert [case[:2] for case in await world.cases()] == [("payout_pending", "resolved")]


@STORIES.tell
async def another_amount_is_never_booked(world: Stage) -> None:
    """Until the provider agrees about what was asked."""
    ada = await saver(world, PENDING)
    made = await ada.withdraw()
    await ada.until(made, "pending")
    await world.fault("paystack", "paystack.verify_transfer", "wrong_amount", amount=AMOUNT - 1, times=1)
    await settle_transfer(world, made, "succeeded")
    await world.until_true(world.cases, bool, "a case")
    seen = await ada.until(made, "succeeded")
    assert seen["amount"]["amount"] == AMOUNT
    assert [case[:2] for case in await world.cases()] == [("payout_mismatch", "resolved")]


@STORIES.tell
async def an_account_disabled_in_between_is_not_paid(world: Stage) -> None:
    ada = await saver(world, wallet=LARGE)
    made = await ada.withdraw(LARGE, "awaiting_approval")
    assert (await ada.person.call("DELETE", f"/v1/beneficiaries/{ada.payee['id']}")).is_success
    await world.admin.post(f"/v1/admin/payouts/{made['id']}/approve")
    assert (await ada.until(made, "failed"))["error_code"] == "beneficiary_disabled"
    assert await ada.sent() == []
    assert await world.wallet(ada.person) == LARGE


@STORIES.tell
async def names_that_differ_are_for_a_person(world: Stage) -> None:
    ada = await world.person()
    body: dict[str, Any] = {
        "currency": "NGN",
        "bank_code": "058",
        "account_number": "0123456789",
        "name": "Ada Lovelace",
    }
    odd = await ada.post("/v1/beneficiaries", body)
    none = await world.payee(ada, NOBODY)
    abroad = await world.payee(ada, "254700111222", "KES", "MPESA")
    for each, status, code in ((odd, "needs_review", "name_mismatch"), (none, "rejected", "account_not_found")):
        assert (await world.until(ada, f"/v1/beneficiaries/{each['id']}", status))["error_code"] == code
    assert (await world.until(ada, f"/v1/beneficiaries/{abroad['id']}", "rejected"))["error_code"]
    accepted = await world.admin.post(
        f"/v1/admin/beneficiaries/{odd['id']}/review", {"decision": "accept", "note": "Her maiden name."}
    )
    assert accepted["status"] == "verified"
    assert [case[:2] for case in await world.cases()] == [("beneficiary_mismatch", "resolved")]
    await world.mailed(ada, "can be paid to")
