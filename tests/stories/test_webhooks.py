"""Webhooks get lost, come late, out of order, and from strangers. They are only hints, so nothing depends on them."""

import asyncio
import hashlib
import hmac
import json
import time

import pytest

from cli.demo.world import CARD
from contracts.ids import derive_id
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_lost_webhook_is_made_up_for_by_polling(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("paystack", "webhook", "drop", times=100)
    made = await world.invest(ada, campaign, 50_000, "paystack")
    await world.pay_page(made["next_action"])
    assert [each["captured"] for each in await world.book("paystack")] == [50_000]
    await asyncio.sleep(0.5)
    assert (await world.investment(ada, made))["status"] == "awaiting_payment"
    await world.forward(made["payment_id"], minutes=2)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    assert await world.sql("select 1 from webhook_inbox where tenant_id = %(tenant)s") == []
    assert await world.taken("paystack") == [(50_000, 0)]
    assert await world.counters(campaign) == (0, 0, 50_000)


@STORIES.tell
async def late_and_reordered_webhooks_change_nothing(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "webhook", "reorder", times=1)
    await world.fault("paystack", "webhook", "late", seconds=1.5)
    card = await world.invest(ada, campaign, 50_000, "stripe", instrument=CARD)
    page = await world.invest(ada, campaign, 60_000, "paystack")
    await world.pay_page(page["next_action"])
    for made in (card, page):
        seen = await world.until(ada, f"/v1/investments/{made['id']}", "captured")
        assert events(seen).count("investment_captured") == 1
    assert await world.taken("stripe") == [(50_000, 0)] and await world.taken("paystack") == [(60_000, 0)]
    await world.until_true(
        lambda: world.deliveries("stripe"),
        lambda sent: {d["state"] for d in sent} == {"delivered"},
        "all delivered",
        20,
    )
    kinds = await world.sql(
        "select kind from webhook_inbox where tenant_id = %(tenant)s and provider = 'stripe' order by id"
    )
    assert [row["kind"] for row in kinds][-1] == "payment_intent.amount_capturable_updated", "the first came last"
    assert (await world.investment(ada, card))["status"] == "captured"


@STORIES.tell
async def a_forged_webhook_never_gets_in(world: Stage) -> None:
    """The stranger's copy says the same as the true one; only the signature tells them apart."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "webhook", "forged")
    await world.fault("paystack", "webhook", "forged")
    card = await world.invest(ada, campaign, 50_000, "stripe", instrument=CARD)
    page = await world.invest(ada, campaign, 60_000, "paystack")
    await world.pay_page(page["next_action"])
    for made in (card, page):
        await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    for provider in ("stripe", "paystack"):
        sent = await world.until_true(
            lambda p=provider: world.deliveries(p), lambda d: all(each["attempts"] for each in d), "all were tried"
        )
        forged = [each for each in sent if each["forged"]]
        assert [(each["state"], each["log"][0]["outcome"]) for each in forged] == [("refused", "401")]
        stored = await world.sql("select event_id from webhook_inbox where tenant_id = %(tenant)s")
        assert not {each["event_id"] for each in forged} & {row["event_id"] for row in stored}
    refused = await world.sql("select reason from webhook_refusals where tenant_id = %(tenant)s")
    assert [row["reason"] for row in refused] == ["mismatch", "mismatch"]


@STORIES.tell
async def a_stranger_announces_a_payment(world: Stage) -> None:
    """A well-formed event, wrongly signed, unsigned, or signed long ago: 401, and only the refusal is stored."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 50_000, "paystack")
    reference = await world.reference(ada, made)
    await world.until_rest()
    before = await world.rows()
    body = json.dumps(
        {"event": "charge.success", "data": {"id": 1, "reference": reference, "status": "success"}}
    ).encode()
    wrong = hmac.new(b"sk_test_guess", body, hashlib.sha512).hexdigest()
    old = f"t={int(time.time()) - 3_600},v1={'0' * 64}"
    tries = [
        ("paystack", {"x-paystack-signature": wrong}),
        ("paystack", {}),
        ("paystack", {"x-paystack-signature": "zz"}),
        ("stripe", {"stripe-signature": old}),
    ]
    for provider, headers in tries:
        path = f"/v1/webhooks/payments/{provider}/{derive_id('pac', world.seeded.scope, provider)}"
        answer = await world.api.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_refused")
    after = await world.rows()
    assert {table for table in after if after[table] != before[table]} == {"webhook_refusals"}
    assert (await world.investment(ada, made))["status"] == "awaiting_payment"
    assert (await world.api.post("/v1/webhooks/payments/stripe/pac_nobody", content=body)).status_code == 404


@STORIES.tell
async def the_bank_lets_go_of_a_held_card(world: Stage) -> None:
    """Somebody cancels the payment in the provider's own dashboard: the pledge ends, its place is free, the payer told."""
    campaign = await world.campaign("all_or_nothing", goal=500_000)
    ada = await world.person()
    made = await world.held(ada, campaign, 140_000)
    intent = (await world.payment(ada, made))["attempts"][-1]["provider_id"]
    key = {"Authorization": f"Bearer {world.seeded.sandbox_keys['stripe']}"}
    (await world.sandbox.post(f"/stripe/v1/payment_intents/{intent}/cancel", headers=key)).raise_for_status()
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled", "expired")
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.taken("stripe") == []
    await world.mailed(ada, "Your payment of")
