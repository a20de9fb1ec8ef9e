import asyncio
import time

import httpx
import pytest

from tests.sandbox.conftest import Merchant, Receiver, eventually
from tests.sandbox.test_paystack import begin, choose, verify

VISA = {"confirm": "true", "payment_method": "pm_card_visa"}


async def payments(merchant: Merchant) -> list[dict[str, object]]:
    return list((await merchant.ask("GET", "book"))["payments"])


async def test_500_before_has_no_effect(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "500_before")
    first = await stripe.intent(key="k", reference="one", **VISA)
    assert (first.status_code, first.json()["error"]["type"]) == (500, "api_error")
    assert await payments(stripe) == []
    assert (await stripe.intent(key="k", reference="one", **VISA)).json()["status"] == "succeeded"
    assert (await stripe.ask("GET", "faults"))["faults"][0]["fired"] == 1


@pytest.mark.parametrize("kind", ["500_after", "hang_after", "reset_after", "malformed"])
async def test_after_the_effect_the_repeat_tells_the_truth(stripe: Merchant, kind: str) -> None:
    await stripe.fault("stripe.create", kind, seconds=0.3)
    try:
        first = await stripe.intent(key="k", reference="one", **VISA)
        assert kind in {"500_after", "malformed"}
        if kind == "500_after":
            assert first.status_code == 500
        else:
            with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
                first.json()
    except httpx.RemoteProtocolError as error:
        assert kind in {"hang_after", "reset_after"}
        assert "without sending a response" in str(error)
    assert [p["status"] for p in await payments(stripe)] == ["succeeded"]
    assert (await stripe.intent(key="k", reference="one", **VISA)).json()["status"] == "succeeded"
    assert len(await payments(stripe)) == 1


async def test_hang_after_outlasts_the_client(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "hang_after", seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        await stripe.client.post("/v1/payment_intents", data={"amount": 5, "currency": "usd", **VISA}, timeout=0.3)
    assert len(await payments(stripe)) == 1


async def test_500_after_with_store_is_kept_as_stripe_keeps_it(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "500_after", store=True)
    answers = [(await stripe.intent(key="k", reference="one", **VISA)).status_code for _ in range(2)]
    assert answers == [500, 500] and len(await payments(stripe)) == 1


async def test_429_says_when(stripe: Merchant, paystack: Merchant) -> None:
    await stripe.fault("stripe.get", "429", retry_after=7)
    intent = (await stripe.intent()).json()
    limited = await stripe.client.get(f"/v1/payment_intents/{intent['id']}")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    await paystack.fault("paystack.verify", "429")
    assert (await paystack.client.get("/transaction/verify/x")).json()["status"] is False


async def test_match_and_times(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "500_before", times=2, match={"reference": "two"})
    codes = [(await stripe.intent(reference=r, **VISA)).status_code for r in ("one", "two", "two", "two")]
    assert codes == [200, 500, 500, 200]
    held = (await stripe.intent(reference="three", capture_method="manual", **VISA)).json()
    await stripe.fault("stripe.capture", "500_after", match={"payment_id": held["id"], "amount": 5000})
    assert (await stripe.post(f"/v1/payment_intents/{held['id']}/capture")).status_code == 500
    assert (await stripe.payment("three"))["captured"] == 5000
    await stripe.fault("stripe.create", "decline", times=5)
    await stripe.ask("DELETE", "faults")
    assert (await stripe.intent(**VISA)).status_code == 200


async def test_decline_action_and_wrong_amount(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "decline")
    assert (await stripe.intent(**VISA)).status_code == 402
    await stripe.fault("stripe.confirm", "requires_action")
    asked = (await stripe.intent()).json()
    waiting = (
        await stripe.post(f"/v1/payment_intents/{asked['id']}/confirm", {"payment_method": "pm_card_visa"})
    ).json()
    assert waiting["status"] == "requires_action" and waiting["next_action"]["redirect_to_url"]["url"].startswith(
        stripe.base
    )
    await stripe.fault("stripe.create", "wrong_amount")
    assert (await stripe.intent(5000, **VISA)).json()["amount_received"] == 4999
    await stripe.fault("stripe.get", "wrong_amount", amount=1)
    truth = (await stripe.intent(5000, **VISA)).json()
    assert (await stripe.client.get(f"/v1/payment_intents/{truth['id']}")).json()["amount"] == 1
    assert (await stripe.client.get(f"/v1/payment_intents/{truth['id']}")).json()["amount"] == 5000
    held = (await stripe.intent(reference="c", capture_method="manual", **VISA)).json()
    await stripe.fault("stripe.capture", "decline")
    assert (await stripe.post(f"/v1/payment_intents/{held['id']}/capture")).status_code == 402
    assert (await stripe.payment("c"))["status"] == "requires_payment_method"


async def test_paystack_faults(paystack: Merchant) -> None:
    await paystack.fault("paystack.initialize", "reset_after")
    with pytest.raises(httpx.RemoteProtocolError):
        await begin(paystack, reference="lost-1")
    assert (await verify(paystack, "lost-1"))["status"] == "abandoned"
    await paystack.fault("paystack.initialize", "wrong_amount", amount=7)
    data = await begin(paystack, 1000)
    await choose(paystack, data, "pay")
    paid = await verify(paystack, data["reference"])
    assert (paid["amount"], paid["requested_amount"]) == (7, 1000)
    await paystack.fault("paystack.initialize", "decline")
    doomed = await begin(paystack)
    await choose(paystack, doomed, "pay")
    assert (await verify(paystack, doomed["reference"]))["status"] == "failed"
    await paystack.fault("paystack.refund", "500_after")
    assert (await paystack.post("/refund", {"transaction": data["reference"]})).status_code == 500
    assert len((await paystack.client.get("/refund", params={"transaction": data["reference"]})).json()["data"]) == 1


async def test_webhook_drop_and_duplicate(stripe: Merchant, receiver: Receiver) -> None:
    await stripe.fault("webhook", "drop", match={"reference": "dropped"})
    await stripe.fault("webhook", "duplicate", n=3, match={"reference": "copied"})
    await stripe.intent(reference="dropped", **VISA)
    await stripe.intent(reference="copied", **VISA)
    copies = await receiver.take('"copied"', 4)
    assert len({c.json["id"] for c in copies}) == 1 and receiver.of('"dropped"') == []
    states = [d["state"] for d in (await stripe.ask("GET", "webhooks"))["deliveries"]]
    assert states[0] == "dropped"


async def test_webhook_late_and_reorder(stripe: Merchant, receiver: Receiver) -> None:
    await stripe.fault("webhook", "late", seconds=0.6, match={"reference": "late"})
    started = time.monotonic()
    await stripe.intent(reference="late", **VISA)
    assert (await receiver.take('"late"'))[0].at - started > 0.55
    await stripe.fault("webhook", "reorder", match={"event": "payment_intent.amount_capturable_updated"})
    held = (await stripe.intent(reference="swap", capture_method="manual", **VISA)).json()
    await asyncio.sleep(0.2)
    assert receiver.of('"swap"') == []
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture")
    kinds = [e.json["type"] for e in await receiver.take('"swap"', 2)]
    assert kinds == ["payment_intent.succeeded", "payment_intent.amount_capturable_updated"]


async def test_webhook_early_arrives_before_the_answer(stripe: Merchant, receiver: Receiver) -> None:
    await stripe.fault("webhook", "early")
    await stripe.intent(reference="early", **VISA)
    assert len(receiver.of('"early"')) == 1, "already here when the answer is"


async def test_webhook_forged_comes_beside_the_true_one(stripe: Merchant, receiver: Receiver) -> None:
    await stripe.fault("webhook", "forged")
    await stripe.intent(reference="forged", **VISA)
    events = await receiver.take('"forged"', 2)
    assert len({e.json["id"] for e in events}) == 2
    forged = [d for d in (await stripe.ask("GET", "webhooks"))["deliveries"] if d["forged"]]
    assert len(forged) == 1


async def test_seeded_faults_repeat_themselves(stripe: Merchant) -> None:
    rates = {"500_before": 0.2, "decline": 0.2, "429": 0.2}

    async def run(names: list[str]) -> dict[str, int]:
        await stripe.ask("DELETE", "faults")
        await stripe.ask("POST", "faults/seed", seed=11, rates=rates)
        answers = await asyncio.gather(*(stripe.intent(reference=name, **VISA) for name in names))
        return dict(zip(names, [a.status_code for a in answers], strict=True))

    names = [f"n{i}" for i in range(60)]
    first, second = await run(names), await run(names[::-1])
    assert first == second and {200, 402, 429, 500} == set(first.values())
    await stripe.ask("POST", "faults/seed", seed=12, rates=rates)
    other = [(await stripe.intent(reference=name, **VISA)).status_code for name in names]
    assert other != list(first.values())


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "stripe.dance", "kind": "429"},
        {"operation": "stripe.get", "kind": "drop"},
        {"operation": "webhook", "kind": "429"},
        {"operation": "stripe.get", "kind": "429", "times": 0},
        {"operation": "stripe.get", "kind": "429", "match": {"colour": "red"}},
    ],
)
async def test_senseless_faults_are_refused(stripe: Merchant, body: dict[str, object]) -> None:
    answer = await stripe.control.post("/_sandbox/faults", json={"secret_key": stripe.key, **body})
    assert answer.status_code == 400 and answer.json()["error"]


async def test_orphan_is_in_the_providers_list(stripe: Merchant, paystack: Merchant, receiver: Receiver) -> None:
    await stripe.ask("POST", "payments/orphan", provider="stripe", amount=321, currency="USD", reference="stray")
    found = (await stripe.client.get("/v1/payment_intents")).json()["data"]
    assert [(p["status"], p["amount_received"], p["metadata"]) for p in found] == [
        ("succeeded", 321, {"reference": "stray"})
    ]
    await paystack.ask("POST", "payments/orphan", provider="paystack", amount=321, currency="NGN", reference="stray")
    assert (await verify(paystack, "stray"))["status"] == "success"
    await eventually(lambda: asyncio.sleep(0.2, True))
    assert receiver.events == []
