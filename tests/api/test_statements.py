"""A statement at the edge: whose it is, what it refuses, and that its figures are the ledger's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.test_lifecycle import People
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import fill_wallet

TODAY = datetime.now(UTC).date()
AROUND = {"from": str(TODAY - timedelta(days=2)), "to": str(TODAY + timedelta(days=2))}


async def ask(people: People, path: str, params: dict[str, str]) -> Any:
    headers = people.edge.headers(people.investor, None)
    return await people.edge.http.get(path, params=params, headers=headers)


async def test_a_statement_is_the_ledgers(edge: Edge) -> None:
    people = People(edge)
    await fill_wallet(edge, people.investor, 100_000)
    campaign = await people.live(kind="keep_what_you_raise", title="Okada repair")
    pledge = {"amount": 30_000, "currency": "NGN", "provider": "wallet"}
    await people.act(people.investor, f"/v1/campaigns/{campaign}/invest", pledge)
    answer = await ask(people, "/v1/statements/NGN", AROUND)
    assert answer.status_code == 200, answer.text
    seen = answer.json()["data"]
    assert [(each["event"], each["amount"]["amount"], each["balance"]["amount"]) for each in seen["movements"]] == [
        ("deposit_captured", 100_000, 100_000),
        ("pledge_captured", -30_000, 70_000),
    ]
    assert (seen["opening"]["amount"], seen["closing"]["amount"], seen["invested"]["amount"]) == (0, 70_000, 30_000)
    assert [(each["campaign"], each["amount"]["amount"]) for each in seen["investments"]] == [("Okada repair", -30_000)]
    wallet = (await ask(people, "/v1/wallet", {})).json()["data"]
    assert wallet[0]["posted"] == seen["closing"]["amount"]
    pdf = await ask(people, "/v1/statements/NGN/pdf", AROUND)
    assert (pdf.status_code, pdf.headers["content-type"]) == (200, "application/pdf")
    assert pdf.content.startswith(b"%PDF-") and "attachment" in pdf.headers["content-disposition"]


async def test_what_moved_before_is_the_opening_balance(edge: Edge) -> None:
    people = People(edge)
    await fill_wallet(edge, people.investor, 100_000)
    later = {"from": str(TODAY + timedelta(days=3)), "to": str(TODAY + timedelta(days=4))}
    seen = (await ask(people, "/v1/statements/NGN", later)).json()["data"]
    assert (seen["opening"]["amount"], seen["movements"], seen["closing"]["amount"]) == (100_000, [], 100_000)
    earlier = {"from": "2026-01-01", "to": "2026-01-31"}
    seen = (await ask(people, "/v1/statements/NGN", earlier)).json()["data"]
    assert (seen["opening"]["amount"], seen["movements"]) == (0, [])
    other = (await ask(people, "/v1/statements/KES", later)).json()["data"]
    assert (other["opening"]["amount"], other["holdings"]) == (0, [])


async def test_a_long_one_is_refused_not_cut(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    people = People(edge)
    for number in range(3):
        await fill_wallet(edge, people.investor, 100 + number, key=f"gift/{number}")
    monkeypatch.setattr("api.routes.statements.MAX_DRAWN", 2)
    assert_problem(await ask(people, "/v1/statements/NGN/pdf", AROUND), 409, "statement_too_long")
    assert len((await ask(people, "/v1/statements/NGN", AROUND)).json()["data"]["movements"]) == 3


async def test_a_bad_period_is_named(edge: Edge) -> None:
    people = People(edge)
    for params, code in (
        ({"from": "2027-01-02", "to": "2027-01-01"}, "invalid_period"),
        ({"from": "2027-01-01", "to": "2029-01-01"}, "invalid_period"),
        ({"from": "2027-02-30", "to": "2027-03-01"}, "invalid_request"),
        ({"from": "20270101", "to": "2027-03-01"}, "invalid_request"),
        ({"from": "0001-01-01", "to": "0001-01-02"}, "invalid_period"),
        ({"from": "2027-01-01"}, "invalid_request"),
    ):
        for path in ("/v1/statements/NGN", "/v1/statements/NGN/pdf"):
            problem = assert_problem(await ask(people, path, params), 422, code)
            assert problem["errors"][0]["field"] in ("from", "to", "query.from", "query.to"), problem
    assert_problem(await ask(people, "/v1/statements/ZZZ", AROUND), 422, "invalid_money")
    admin = edge.headers(people.admin, None)
    assert_problem(await edge.http.get("/v1/statements/NGN", params=AROUND, headers=admin), 403, "forbidden")


async def test_within_a_day_the_journal_says_the_order(edge: Edge) -> None:
    """What was written down second may have happened a moment earlier by another clock: no balance falls below zero."""
    people = People(edge)
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    await fill_wallet(edge, people.investor, 500, key="first", as_of=noon + timedelta(minutes=1))
    await fill_wallet(edge, people.investor, 300, key="second", as_of=noon)
    await fill_wallet(edge, people.investor, 200, key="third", as_of=noon - timedelta(days=1))
    seen = (await ask(people, "/v1/statements/NGN", {"from": "2026-03-01", "to": "2026-03-02"})).json()["data"]
    assert [each["amount"]["amount"] for each in seen["movements"]] == [200, 500, 300]
