"""Money out of the Paystack twin: what the balance does, what is refused, and what survives a restart."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Merchant, Receiver, eventually, merchant_at, running_sandbox
from tests.sandbox.test_paystack import begin, choose

GOOD, FAILS, SLOW = "1234567890", "9001567890", "9003567890"


async def recipient(merchant: Merchant, number: str = GOOD, **more: Any) -> str:
    body = {"type": "nuban", "name": "Ada", "account_number": number, "bank_code": "058", "currency": "NGN", **more}
    answer = await merchant.post("/transferrecipient", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["recipient_code"])


async def send(merchant: Merchant, amount: int, number: str = GOOD, **more: Any) -> httpx.Response:
    reference = more.pop("reference", None) or f"payout-{merchant.reference()}"
    to = more.pop("recipient", None) or await recipient(merchant, number)
    body = {"source": "balance", "amount": amount, "recipient": to, "reference": reference, **more}
    return await merchant.post("/transfer", body)


async def held(merchant: Merchant) -> int:
    """The balance in the book; never without its reason in the rows."""
    book = await merchant.ask("GET", "book")
    return int(book["balances"].get("NGN", 0))


async def status(merchant: Merchant, reference: str) -> str:
    return str((await merchant.client.get(f"/transfer/verify/{reference}")).json()["data"]["status"])


async def test_the_balance_grows_by_charges_and_falls_by_refunds_and_transfers(paystack: Merchant) -> None:
    data = await begin(paystack, 1000)
    assert await held(paystack) == 0, "nobody has paid yet"
    await choose(paystack, data, "pay")
    assert await held(paystack) == 1000
    await paystack.post("/refund", {"transaction": data["reference"], "amount": 300})
    assert await held(paystack) == 700
    await paystack.fault("paystack.refund", "decline")
    await paystack.post("/refund", {"transaction": data["reference"], "amount": 100})
    assert await held(paystack) == 600

    async def given_back() -> bool:
        return await held(paystack) == 700

    await eventually(given_back)
    assert (await send(paystack, 500)).status_code == 200
    assert await held(paystack) == 200
    failing = (await send(paystack, 200, FAILS)).json()["data"]
    assert (failing["status"], await held(paystack)) == ("pending", 0)

    async def failed() -> bool:
        return await status(paystack, failing["reference"]) == "failed"

    await eventually(failed)
    assert await held(paystack) == 200
    assert (await paystack.ask("POST", "topup", currency="NGN", amount=50))["balance"] == 250
    await paystack.post("/refund", {"transaction": data["reference"], "amount": 700})
    assert await held(paystack) == -450, "what was paid out already is owed"
    shown = (await paystack.client.get("/balance")).json()["data"]
    assert shown == [{"currency": "NGN", "balance": 0}]


async def test_a_transfer_is_sent_a_moment_later_and_announced_once(paystack: Merchant, receiver: Receiver) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    made = (await send(paystack, 400, reason="Thanks")).json()["data"]
    assert (made["status"], made["amount"], made["reason"]) == ("pending", 400, "Thanks")
    event = (await receiver.take(made["reference"]))[0].json
    assert (event["event"], event["data"]["transfer_code"]) == ("transfer.success", made["transfer_code"])
    by_number = (await paystack.client.get(f"/transfer/{made['id']}")).json()["data"]
    assert (by_number["status"], by_number["transfer_code"]) == ("success", made["transfer_code"])
    book = await paystack.ask("GET", "book")
    assert [(t["reference"], t["status"], t["taken"]) for t in book["transfers"]] == [
        (made["reference"], "success", 400)
    ]
    assert len((await paystack.ask("GET", "webhooks"))["deliveries"]) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": 10.5}, "invalid_params"),
        ({"amount": 0}, "invalid_params"),
        ({"amount": None}, "invalid_params"),
        ({"source": "card"}, "missing_params"),
        ({"recipient": "RCP_nobody"}, "invalid_transfer_recipient"),
        ({"currency": "GHS"}, "invalid_transfer_recipient"),
        ({"reference": "too-short"}, "invalid_reference"),
        ({"reference": "NOT-IN-LOWER-CASE"}, "invalid_reference"),
        ({"amount": 1001}, "insufficient_balance"),
    ],
)
async def test_bad_transfers(paystack: Merchant, changes: dict[str, Any], code: str) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    to = await recipient(paystack)
    body = {"source": "balance", "amount": 1000, "recipient": to, "reference": "payout-0123456789", **changes}
    answer = await paystack.post("/transfer", body)
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (400, False, code)
    book = await paystack.ask("GET", "book")
    assert (book["transfers"], book["balances"]) == ([], {"NGN": 1000})


async def test_duplicates_and_other_accounts(paystack: Merchant, sandbox_url: str) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    reference = "payout-0123456789"
    assert (await send(paystack, 100, reference=reference)).status_code == 200
    again = await send(paystack, 100, reference=reference)
    assert (again.status_code, again.json()["code"]) == (400, "duplicate_reference")
    assert await held(paystack) == 900
    async with merchant_at(sandbox_url, "paystack") as other:
        missing = await other.client.get(f"/transfer/verify/{reference}")
        assert (missing.status_code, missing.json()) == (404, {"status": False, "message": "Transfer not found"})
        foreign = await send(other, 100, recipient=await recipient(paystack))
        assert foreign.json()["code"] == "invalid_transfer_recipient"
        await other.ask("POST", "topup", currency="NGN", amount=100)
        assert (await send(other, 100, reference=reference)).status_code == 200


async def test_lists_and_banks(paystack: Merchant) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    made = [(await send(paystack, 100, SLOW)).json()["data"]["reference"] for _ in range(3)]
    pages = [(await paystack.client.get("/transfer", params={"perPage": 2, "page": n})).json() for n in (1, 2)]
    assert [t["reference"] for page in pages for t in page["data"]] == made[::-1]
    assert (pages[0]["meta"]["total"], pages[0]["meta"]["pageCount"]) == (3, 2)
    none = await paystack.client.get("/transfer", params={"status": "success"})
    assert none.json()["data"] == []
    banks = (await paystack.client.get("/bank", params={"currency": "GHS"})).json()["data"]
    assert {bank["code"] for bank in banks} == {"030100", "MTN"}


async def test_a_person_sees_transfers_and_the_balance(paystack: Merchant) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=500_000)
    made = (await send(paystack, 123_400, SLOW)).json()["data"]
    page = (await paystack.control.get("/")).text
    shown = page.split(f"<td>{made['reference']}</td>")[1]
    assert "NGN 1,234.00" in shown and "Balance: NGN 3,766.00" in shown


async def test_only_what_can_follow_may_be_settled(paystack: Merchant) -> None:
    await paystack.ask("POST", "topup", currency="NGN", amount=1000)
    reference = (await send(paystack, 400, SLOW)).json()["data"]["reference"]
    body = {"secret_key": paystack.key, "transfer": reference}

    async def settle(outcome: str) -> int:
        return (await paystack.control.post("/_sandbox/settle", json={**body, "outcome": outcome})).status_code

    assert [await settle(outcome) for outcome in ("returned", "nonsense", "failed", "succeeded")] == [
        400,
        400,
        200,
        400,
    ]
    assert await held(paystack) == 1000
    missing = {"secret_key": paystack.key, "transfer": "nobody", "outcome": "failed"}
    assert (await paystack.control.post("/_sandbox/settle", json=missing)).status_code == 404


async def test_a_restarted_sandbox_sends_what_the_last_one_queued(tmp_path: Path, receiver: Receiver) -> None:
    book = tmp_path / "book.sqlite"
    async with running_sandbox(book) as (url, _), merchant_at(url, "paystack", receiver.url) as merchant:
        await merchant.ask("POST", "topup", currency="NGN", amount=1000)
        made = (await send(merchant, 400)).json()["data"]
        key = merchant.key
    async with running_sandbox(book) as (url, _):
        await receiver.take(made["reference"])
        async with httpx.AsyncClient(base_url=url) as client:
            kept = (await client.get("/_sandbox/book", params={"secret_key": key})).json()
        assert (kept["transfers"][0]["status"], kept["balances"]) == ("success", {"NGN": 600})


async def test_a_book_older_than_balances_begins_with_what_it_holds(tmp_path: Path) -> None:
    book = tmp_path / "book.sqlite"
    async with running_sandbox(book) as (url, _), merchant_at(url, "paystack") as merchant:
        await merchant.ask("POST", "payments/orphan", amount=700, currency="NGN")
        key = merchant.key
    old = sqlite3.connect(book)
    old.executescript(
        "drop trigger payment_made; drop trigger payment_moved; drop table transfers; drop table balances;"
    )
    old.close()
    async with running_sandbox(book) as (url, _), httpx.AsyncClient(base_url=url) as client:
        more = {"secret_key": key, "amount": 5, "currency": "NGN"}
        assert (await client.post("/_sandbox/payments/orphan", json=more)).status_code == 200
        kept = (await client.get("/_sandbox/book", params={"secret_key": key})).json()
    assert kept["balances"] == {"NGN": 705}
