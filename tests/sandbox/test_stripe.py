import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.sandbox.conftest import Merchant, Receiver, merchant_at

VISA = {"confirm": "true", "payment_method": "pm_card_visa"}


async def test_authorize_capture_and_refund(stripe: Merchant, receiver: Receiver) -> None:
    reference = stripe.reference()
    held = (await stripe.intent(5000, reference=reference, capture_method="manual", **VISA)).json()
    assert (held["status"], held["amount_capturable"], held["amount_received"]) == ("requires_capture", 5000, 0)
    taken = (await stripe.post(f"/v1/payment_intents/{held['id']}/capture", {"amount_to_capture": 4000})).json()
    assert (taken["status"], taken["amount_capturable"], taken["amount_received"]) == ("succeeded", 0, 4000)
    assert taken["latest_charge"].startswith("ch_")
    part = await stripe.post(
        "/v1/refunds", {"payment_intent": held["id"], "amount": 1500, "metadata[reference]": "r-1"}
    )
    assert (part.status_code, part.json()["status"], part.json()["metadata"]) == (
        200,
        "succeeded",
        {"reference": "r-1"},
    )
    too_much = await stripe.post("/v1/refunds", {"payment_intent": held["id"], "amount": 2501})
    assert too_much.status_code == 400 and too_much.json()["error"]["param"] == "amount"
    assert (await stripe.post("/v1/refunds", {"payment_intent": held["id"]})).json()["amount"] == 2500
    again = await stripe.post("/v1/refunds", {"payment_intent": held["id"]})
    assert again.json()["error"]["code"] == "charge_already_refunded"
    book = await stripe.ask("GET", "book")
    row = book["payments"][0]
    assert (row["reference"], row["captured"], row["refunded"]) == (reference, 4000, 4000)
    assert [r["amount"] for r in book["refunds"]] == [1500, 2500]
    assert [
        r["id"] for r in (await stripe.client.get("/v1/refunds", params={"payment_intent": held["id"]})).json()["data"]
    ] == [r["id"] for r in reversed(book["refunds"])]
    kinds = [e.json["type"] for e in await receiver.take(held["id"], 6)]
    assert sorted(kinds) == sorted(
        ["payment_intent.amount_capturable_updated", "payment_intent.succeeded"]
        + ["charge.refunded", "refund.created"] * 2
    )


async def test_wrong_steps_are_refused_in_stripes_words(stripe: Merchant) -> None:
    held = (await stripe.intent(capture_method="manual", **VISA)).json()
    over = await stripe.post(f"/v1/payment_intents/{held['id']}/capture", {"amount_to_capture": 5001})
    assert (over.status_code, over.json()["error"]["code"]) == (400, "amount_too_large")
    early = await stripe.post("/v1/refunds", {"payment_intent": held["id"]})
    assert early.status_code == 400 and "successful charge" in early.json()["error"]["message"]
    await stripe.post(f"/v1/payment_intents/{held['id']}/capture")
    for step in ("capture", "cancel", "confirm"):
        answer = await stripe.post(
            f"/v1/payment_intents/{held['id']}/{step}", {} if step != "confirm" else {"payment_method": "pm_card_visa"}
        )
        assert answer.status_code == 400, step
        assert answer.json()["error"]["code"] == "payment_intent_unexpected_state"
        assert answer.json()["error"]["payment_intent"]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("method", "code", "reason"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
    ],
)
async def test_decline(stripe: Merchant, receiver: Receiver, method: str, code: str, reason: str) -> None:
    answer = await stripe.intent(confirm="true", payment_method=method)
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["decline_code"]) == ("card_error", code, reason)
    intent = error["payment_intent"]
    assert intent["status"] == "requires_payment_method" and intent["last_payment_error"]["code"] == code
    assert (await stripe.client.get(f"/v1/payment_intents/{intent['id']}")).json()[
        "status"
    ] == "requires_payment_method"
    assert (await receiver.take(intent["id"]))[0].json["type"] == "payment_intent.payment_failed"
    retried = await stripe.post(f"/v1/payment_intents/{intent['id']}/confirm", {"payment_method": "pm_card_visa"})
    assert retried.json()["status"] == "succeeded"


async def test_cancel_releases_and_says_so(stripe: Merchant, receiver: Receiver) -> None:
    held = (await stripe.intent(capture_method="manual", **VISA)).json()
    gone = (await stripe.post(f"/v1/payment_intents/{held['id']}/cancel", {"cancellation_reason": "abandoned"})).json()
    assert (gone["status"], gone["cancellation_reason"], gone["amount_capturable"]) == ("canceled", "abandoned", 0)
    assert "payment_intent.canceled" in [e.json["type"] for e in await receiver.take(held["id"], 2)]


async def test_authorization_lapses_on_the_business_clock(stripe: Merchant, receiver: Receiver) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    await stripe.ask("POST", "clock", now=start.isoformat())
    held = (await stripe.intent(capture_method="manual", **VISA)).json()
    assert held["created"] == int(start.timestamp())
    await stripe.ask("POST", "clock", now=(start + timedelta(days=7, seconds=-1)).isoformat())
    assert (await stripe.client.get(f"/v1/payment_intents/{held['id']}")).json()["status"] == "requires_capture"
    await stripe.ask("POST", "clock", now=(start + timedelta(days=30)).isoformat())
    lapsed = (await stripe.client.get(f"/v1/payment_intents/{held['id']}")).json()
    assert (lapsed["status"], lapsed["cancellation_reason"]) == ("canceled", "automatic")
    assert lapsed["canceled_at"] == int((start + timedelta(days=7)).timestamp())
    late = await stripe.post(f"/v1/payment_intents/{held['id']}/capture")
    assert late.json()["error"]["code"] == "payment_intent_unexpected_state"
    back = await stripe.control.post("/_sandbox/clock", json={"secret_key": stripe.key, "now": start.isoformat()})
    assert back.status_code == 400
    assert "payment_intent.canceled" in [e.json["type"] for e in await receiver.take(held["id"], 2)]


async def test_slow_money_by_clock_and_by_hand(stripe: Merchant, receiver: Receiver) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    await stripe.ask("POST", "clock", now=start.isoformat())
    first = (await stripe.intent(confirm="true", payment_method="pm_bank_slow")).json()
    second = (await stripe.intent(confirm="true", payment_method="pm_bank_slow")).json()
    third = (await stripe.intent(confirm="true", payment_method="pm_bank_slow_fail")).json()
    assert {first["status"], second["status"], third["status"]} == {"processing"}
    await stripe.ask("POST", "settle", payment_id=second["id"], outcome="failed")
    await stripe.ask("POST", "clock", now=(start + timedelta(days=2)).isoformat())
    states = [(await stripe.client.get(f"/v1/payment_intents/{one['id']}")).json() for one in (first, second, third)]
    assert [s["status"] for s in states] == ["succeeded", "requires_payment_method", "requires_payment_method"]
    assert [s["amount_received"] for s in states] == [5000, 0, 0]
    kinds = {e.json["type"] for e in await receiver.take(first["id"], 2)}
    assert kinds == {"payment_intent.processing", "payment_intent.succeeded"}


async def test_saved_instrument_charges_off_session_until_it_declines(stripe: Merchant) -> None:
    customer = (await stripe.post("/v1/customers", {"email": "payer@example.test"})).json()["id"]
    first = (await stripe.intent(customer=customer, setup_future_usage="off_session", **VISA)).json()
    method = first["payment_method"]
    assert method.startswith("pm_") and method != "pm_card_visa" and first["customer"] == customer
    off = {"confirm": "true", "off_session": "true", "payment_method": method}
    assert (await stripe.intent(customer=customer, **off)).json()["status"] == "succeeded"
    assert (await stripe.intent(**off)).status_code == 400, "another customer's instrument"
    await stripe.ask("POST", f"instruments/{method}", decline=True)
    assert (await stripe.intent(customer=customer, **off)).status_code == 402
    unsaved = (await stripe.intent(**VISA)).json()["payment_method"]
    assert (await stripe.intent(confirm="true", off_session="true", payment_method=unsaved)).status_code == 400


async def test_off_session_cannot_ask_the_payer(stripe: Merchant) -> None:
    answer = await stripe.intent(confirm="true", off_session="true", payment_method="pm_card_authenticationRequired")
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "authentication_required")


async def test_list_pages_and_search(stripe: Merchant) -> None:
    made = [(await stripe.intent(**VISA)).json() for _ in range(5)]
    seen: list[str] = []
    after: dict[str, str] = {}
    for _ in range(3):
        page = (await stripe.client.get("/v1/payment_intents", params={"limit": 2, **after})).json()
        seen += [p["id"] for p in page["data"]]
        after = {"starting_after": seen[-1]}
    assert seen == [p["id"] for p in reversed(made)] and page["has_more"] is False
    since = {"created[gte]": made[0]["created"] + 3600}
    assert (await stripe.client.get("/v1/payment_intents", params=since)).json()["data"] == []
    wanted = made[2]["metadata"]["reference"]
    found = await stripe.client.get("/v1/payment_intents/search", params={"query": f"metadata['reference']:'{wanted}'"})
    assert [p["id"] for p in found.json()["data"]] == [made[2]["id"]]
    assert (await stripe.client.get("/v1/payment_intents/search", params={"query": "garbage"})).status_code == 400


async def test_idempotency_key(stripe: Merchant) -> None:
    reference = stripe.reference()
    first = await stripe.intent(700, key="k-1", reference=reference, **VISA)
    again = await stripe.intent(700, key="k-1", reference=reference, **VISA)
    assert first.json() == again.json() and again.headers["idempotent-replayed"] == "true"
    other = await stripe.intent(701, key="k-1", reference=reference, **VISA)
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
    assert len((await stripe.ask("GET", "book"))["payments"]) == 1
    declined = [
        await stripe.intent(key="k-2", reference="r", confirm="true", payment_method="pm_card_chargeDeclined")
        for _ in range(2)
    ]
    assert [d.status_code for d in declined] == [402, 402] and declined[0].json() == declined[1].json()
    assert (await stripe.intent(0, key="k-3", reference="s")).status_code == 400
    assert (await stripe.intent(10, key="k-3", reference="s")).status_code == 200, "validation errors are not kept"


async def test_same_key_in_flight_is_a_conflict(stripe: Merchant) -> None:
    await stripe.fault("stripe.create", "hang_before", seconds=0.5)
    slow = asyncio.create_task(stripe.intent(key="k", reference="one", **VISA))
    await asyncio.sleep(0.2)
    assert (await stripe.intent(key="k", reference="one", **VISA)).status_code == 409
    with pytest.raises(httpx.RemoteProtocolError):
        await slow
    assert (await stripe.intent(key="k", reference="one", **VISA)).json()["status"] == "succeeded"


async def test_fifty_copies_make_one_payment(stripe: Merchant) -> None:
    answers = await asyncio.gather(*(stripe.intent(key="same", reference="one", **VISA) for _ in range(50)))
    good = [a.json()["id"] for a in answers if a.status_code == 200]
    assert len(set(good)) == 1 and {a.status_code for a in answers} <= {200, 409}
    assert len((await stripe.ask("GET", "book"))["payments"]) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"currency": "usd"}, "parameter_missing"),
        ({"amount": "10.5", "currency": "usd"}, "parameter_invalid_integer"),
        ({"amount": "-1", "currency": "usd"}, "parameter_invalid_integer"),
        ({"amount": "١٠", "currency": "usd"}, "parameter_invalid_integer"),
        ({"amount": "10", "currency": "usd", "surprise": "x"}, "parameter_unknown"),
        ({"amount": "10", "currency": "usd", "customer": "cus_none"}, "resource_missing"),
        ({"amount": "10", "currency": "usd", "confirm": "true", "payment_method": "pm_none"}, "resource_missing"),
    ],
)
async def test_bad_parameters(stripe: Merchant, data: dict[str, str], code: str) -> None:
    answer = await stripe.post("/v1/payment_intents", data)
    assert answer.status_code in {400, 404} and answer.json()["error"]["code"] == code
    assert (await stripe.ask("GET", "book"))["payments"] == []


async def test_unknown_key_and_other_account_see_nothing(stripe: Merchant, sandbox_url: str) -> None:
    mine = (await stripe.intent(**VISA)).json()["id"]
    stranger = httpx.Headers({"Authorization": "Bearer sk_test_nobody"})
    refused = await stripe.client.get(f"/v1/payment_intents/{mine}", headers=stranger)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_request_error")
    async with merchant_at(sandbox_url, "stripe") as other:
        assert (await other.client.get(f"/v1/payment_intents/{mine}")).status_code == 404
        assert (await other.post(f"/v1/payment_intents/{mine}/cancel")).status_code == 404
        assert (await other.client.get("/v1/payment_intents")).json()["data"] == []


async def test_client_secret_confirms_without_the_key(stripe: Merchant) -> None:
    intent = (await stripe.intent()).json()
    assert intent["status"] == "requires_payment_method"
    url = f"{stripe.base}/stripe/v1/payment_intents/{intent['id']}/confirm"
    wrong = await stripe.control.post(url, data={"client_secret": "guess", "payment_method": "pm_card_visa"})
    assert wrong.status_code == 401
    right = await stripe.control.post(
        url, data={"client_secret": intent["client_secret"], "payment_method": "pm_card_visa"}
    )
    assert right.json()["status"] == "succeeded"
