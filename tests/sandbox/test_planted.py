"""A book filled at once behaves as one filled payment by payment."""

import pytest

from tests.sandbox.conftest import Merchant, Receiver


async def test_planted_holds_are_captured_once(stripe: Merchant, receiver: Receiver) -> None:
    payments = [[f"pi_planted{n}", f"planted-{n}", 1_000 + n] for n in range(3)]
    await stripe.ask("POST", "payments/many", currency="NGN", payments=payments)
    found = (await stripe.client.get("/v1/payment_intents")).json()["data"]
    assert {(p["id"], p["status"], p["amount_received"]) for p in found} == {
        (f"pi_planted{n}", "requires_capture", 0) for n in range(3)
    }
    first = await stripe.client.post("/v1/payment_intents/pi_planted1/capture")
    assert (first.json()["status"], first.json()["amount_received"]) == ("succeeded", 1_001)
    assert (await stripe.client.post("/v1/payment_intents/pi_planted1/capture")).status_code == 400
    assert [each.json["type"] for each in await receiver.take("pi_planted1")] == ["payment_intent.succeeded"]


async def test_planted_charges_are_refunded_once(stripe: Merchant) -> None:
    payments = [["pi_taken", "taken", 700]]
    await stripe.ask("POST", "payments/many", currency="NGN", payments=payments, captured=True)
    answer = await stripe.client.post("/v1/refunds", data={"payment_intent": "pi_taken", "amount": "700"})
    assert (answer.json()["status"], answer.json()["amount"]) == ("succeeded", 700)
    assert (await stripe.client.post("/v1/refunds", data={"payment_intent": "pi_taken"})).status_code == 400


@pytest.mark.parametrize(
    "payments", [[], [["pi_1", "ref"]], [["pi_1", "ref", 0]], [["pi_1", "ref", "7"]], [["", "ref", 7]], "pi_1"]
)
async def test_what_is_no_payment_is_refused(stripe: Merchant, paystack: Merchant, payments: object) -> None:
    body = {"currency": "NGN", "payments": payments}
    answer = await stripe.control.post("/_sandbox/payments/many", json={"secret_key": stripe.key, **body})
    assert answer.status_code == 400 and answer.json()["error"]
    sound = {"secret_key": paystack.key, "currency": "NGN", "payments": [["1", "ref", 7]]}
    assert (await stripe.control.post("/_sandbox/payments/many", json=sound)).status_code == 400
