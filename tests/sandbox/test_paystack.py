from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.conftest import Merchant, Receiver, eventually, merchant_at

PAYER = "payer@example.test"


async def begin(merchant: Merchant, amount: int = 500_000, **more: Any) -> dict[str, Any]:
    reference = more.pop("reference", None) or merchant.reference()
    body = {"email": PAYER, "amount": amount, "currency": "NGN", "reference": reference, **more}
    answer = await merchant.post("/transaction/initialize", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def choose(merchant: Merchant, data: dict[str, Any], choice: str) -> Any:
    return await merchant.client.post(data["authorization_url"], data={"choice": choice})


async def verify(merchant: Merchant, reference: str) -> dict[str, Any]:
    return (await merchant.client.get(f"/transaction/verify/{reference}")).json()["data"]


async def test_initialize_pay_verify(paystack: Merchant, receiver: Receiver) -> None:
    data = await begin(paystack, callback_url="https://shop.example.test/back?cart=7", metadata={"order": "7"})
    unpaid = await verify(paystack, data["reference"])
    assert (unpaid["status"], unpaid["paid_at"], unpaid["authorization"]) == ("abandoned", None, {})
    back = await choose(paystack, data, "pay")
    assert back.status_code == 303
    assert back.headers["location"] == (
        f"https://shop.example.test/back?cart=7&trxref={data['reference']}&reference={data['reference']}"
    )
    paid = await verify(paystack, data["reference"])
    assert (paid["status"], paid["amount"], paid["currency"], paid["requested_amount"]) == (
        "success",
        500_000,
        "NGN",
        500_000,
    )
    assert paid["authorization"]["reusable"] and paid["metadata"] == {"order": "7"}
    await choose(paystack, data, "pay")
    event = (await receiver.take(data["reference"]))[0].json
    assert (event["event"], event["data"]["id"], event["data"]["status"]) == ("charge.success", paid["id"], "success")
    assert (await paystack.payment(data["reference"]))["captured"] == 500_000
    assert len((await paystack.ask("GET", "webhooks"))["deliveries"]) == 1, "paying twice pays once"


async def test_declined_on_the_page_is_failed_without_an_event(paystack: Merchant) -> None:
    data = await begin(paystack)
    shown = await choose(paystack, data, "decline")
    assert "Payment declined" in shown.text
    assert (await verify(paystack, data["reference"]))["status"] == "failed"
    assert (await paystack.ask("GET", "webhooks"))["deliveries"] == []


async def test_duplicate_reference(paystack: Merchant) -> None:
    data = await begin(paystack)
    again = await paystack.post(
        "/transaction/initialize", {"email": PAYER, "amount": 1, "reference": data["reference"]}
    )
    assert again.status_code == 400
    assert (again.json()["status"], again.json()["message"], again.json()["code"]) == (
        False,
        "Duplicate Transaction Reference",
        "duplicate_reference",
    )


async def test_unknown_reference_key_and_other_account(paystack: Merchant, sandbox_url: str) -> None:
    data = await begin(paystack)
    missing = await paystack.client.get("/transaction/verify/nobody-knows")
    assert (missing.status_code, missing.json()["code"]) == (404, "transaction_not_found")
    stranger = await paystack.client.get("/transaction", headers={"Authorization": "Bearer sk_test_nobody"})
    assert (stranger.status_code, stranger.json()["message"]) == (401, "Invalid key")
    async with merchant_at(sandbox_url, "paystack") as other:
        assert (await other.client.get(f"/transaction/verify/{data['reference']}")).status_code == 404
        await begin(other, reference=data["reference"])  # references are unique per account, not among all


@pytest.mark.parametrize(
    "body",
    [
        {"email": PAYER, "amount": 10.5},
        {"email": PAYER, "amount": 0},
        {"email": PAYER, "amount": True},
        {"email": PAYER, "amount": "10.00"},
        {"email": "nobody", "amount": 100},
        {"email": PAYER, "amount": 100, "reference": "under_score"},
        {"email": PAYER, "amount": 100, "currency": "EUR"},
    ],
)
async def test_bad_parameters(paystack: Merchant, body: dict[str, Any]) -> None:
    answer = await paystack.post("/transaction/initialize", body)
    assert answer.status_code in {400, 403} and answer.json()["status"] is False
    assert (await paystack.ask("GET", "book"))["payments"] == []


async def test_refunds_complete_by_themselves_and_stop_at_the_amount(paystack: Merchant, receiver: Receiver) -> None:
    data = await begin(paystack, 1000)
    await choose(paystack, data, "pay")
    first = (
        await paystack.post("/refund", {"transaction": data["reference"], "amount": 400, "merchant_note": "rf-1"})
    ).json()["data"]
    assert (first["status"], first["amount"], first["merchant_note"]) == ("pending", 400, "rf-1")
    over = await paystack.post("/refund", {"transaction": data["reference"], "amount": 601})
    assert over.status_code == 400
    await paystack.post("/refund", {"transaction": data["reference"]})
    events = await receiver.take("refund.", 4)
    assert sorted(e.json["event"] for e in events) == ["refund.pending"] * 2 + ["refund.processed"] * 2
    fetched = (await paystack.client.get(f"/refund/{first['id']}")).json()["data"]
    assert (fetched["status"], fetched["transaction_reference"]) == ("processed", data["reference"])
    listed = (await paystack.client.get("/refund", params={"transaction": data["reference"]})).json()
    assert [r["amount"] for r in listed["data"]] == [600, 400] and listed["meta"]["total"] == 2
    assert (await verify(paystack, data["reference"]))["status"] == "reversed"
    assert (await paystack.post("/refund", {"transaction": data["reference"]})).status_code == 400


async def test_refund_that_fails_leaves_the_money(paystack: Merchant) -> None:
    data = await begin(paystack, 1000)
    await choose(paystack, data, "pay")
    await paystack.fault("paystack.refund", "decline")
    refund = (await paystack.post("/refund", {"transaction": data["reference"]})).json()["data"]

    async def failed() -> bool:
        return (await paystack.client.get(f"/refund/{refund['id']}")).json()["data"]["status"] == "failed"

    await eventually(failed)
    assert (await paystack.payment(data["reference"]))["refunded"] == 0


async def test_saved_authorization(paystack: Merchant) -> None:
    data = await begin(paystack)
    await choose(paystack, data, "pay")
    code = (await verify(paystack, data["reference"]))["authorization"]["authorization_code"]
    body = {"email": PAYER, "amount": 900, "authorization_code": code}
    charged = (await paystack.post("/transaction/charge_authorization", {**body, "reference": "again-1"})).json()[
        "data"
    ]
    assert (charged["status"], charged["amount"]) == ("success", 900)
    repeated = await paystack.post("/transaction/charge_authorization", {**body, "reference": "again-1"})
    assert repeated.json()["code"] == "duplicate_reference"
    stranger = await paystack.post("/transaction/charge_authorization", {**body, "email": "other@example.test"})
    assert stranger.status_code == 400
    await paystack.ask("POST", f"instruments/{code}", decline=True)
    refused = (await paystack.post("/transaction/charge_authorization", {**body, "reference": "again-2"})).json()[
        "data"
    ]
    assert refused["status"] == "failed"


async def test_bank_transfer_is_slow_and_a_checkout_closes(paystack: Merchant) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    await paystack.ask("POST", "clock", now=start.isoformat())
    slow, idle = await begin(paystack), await begin(paystack)
    await choose(paystack, slow, "bank")
    assert (await verify(paystack, slow["reference"]))["status"] == "pending"
    await paystack.client.get(idle["authorization_url"])
    assert (await verify(paystack, idle["reference"]))["status"] == "ongoing"
    await paystack.ask("POST", "clock", now=(start + timedelta(days=2)).isoformat())
    assert (await verify(paystack, slow["reference"]))["status"] == "success"
    assert (await verify(paystack, idle["reference"]))["status"] == "abandoned"
    await choose(paystack, idle, "pay")
    assert (await verify(paystack, idle["reference"]))["status"] == "abandoned", "the session is over"


async def test_list_pages(paystack: Merchant) -> None:
    made = [await begin(paystack) for _ in range(5)]
    references = [m["reference"] for m in reversed(made)]
    pages = [(await paystack.client.get("/transaction", params={"perPage": 2, "page": n})).json() for n in (1, 2, 3, 4)]
    assert [t["reference"] for p in pages for t in p["data"]] == references
    assert (pages[0]["meta"]["total"], pages[0]["meta"]["pageCount"]) == (5, 3)
    seen, cursor = [], {}
    for _ in range(3):
        page = (await paystack.client.get("/transaction", params={"use_cursor": "true", "perPage": 2, **cursor})).json()
        seen += [t["reference"] for t in page["data"]]
        cursor = {"next": page["meta"]["next"]}
    assert seen == references and cursor == {"next": None}
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await paystack.client.get("/transaction", params={"from": future})).json()["data"] == []
