"""Beneficiaries and payouts at the edge, without Temporal: who may ask, what is refused, and that refusals leave nothing."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.base import Mode, Scope
from models.beneficiary import BeneficiaryRow
from models.payout import Payout
from models.user import Role, User
from tests.api.test_webhooks import add_account
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import fill_wallet
from tests.fixtures.postgres import add_tenant

LARGE = 10_000_000
NUMBER = "0123456789"


@pytest.fixture(autouse=True)
def tenant(edge: Edge) -> None:
    edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    add_account(edge, "paystack", edge.scope)


async def call(edge: Edge, user: User, method: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
    headers = edge.headers(user, key or uuid4().hex)
    return await edge.http.request(method, f"/v1{path}", json=body, headers=headers)


async def add(edge: Edge, user: User, key: str = "", **changes: Any) -> httpx.Response:
    body = {"currency": "NGN", "bank_code": "058", "account_number": NUMBER, "name": "Ada Okafor"} | changes
    return await call(edge, user, "POST", "/beneficiaries", body, key)


async def payee(edge: Edge, user: User, status: str = "verified") -> str:
    """A beneficiary as its process would leave it."""
    made = (await add(edge, user)).json()["data"]["id"]
    edge.sql("update beneficiaries set status = %s, recipient = 'RCP_1' where id = %s", status, made)
    return str(made)


async def withdraw(edge: Edge, user: User, beneficiary: str, amount: int = 20_000, **changes: Any) -> httpx.Response:
    body = {"beneficiary_id": beneficiary, "amount": amount, "currency": "NGN"} | changes
    return await call(edge, user, "POST", "/payouts", body)


async def asked(edge: Edge, *, amount: int = 20_000) -> tuple[User, str]:
    """Somebody's payout."""
    ada = edge.user()
    await fill_wallet(edge, ada, 2 * LARGE)
    answer = await withdraw(edge, ada, await payee(edge, ada), amount)
    assert answer.status_code == 202, answer.text
    return ada, str(answer.json()["data"]["id"])


def nothing_written(edge: Edge) -> bool:
    """No payout, and no posting of one (the owner sees every tenant's transfers)."""
    held = edge.count("ledger_transfers", "key like 'payout/%%' and tenant_id = %s", edge.scope.tenant_id)
    return not edge.count("payouts") and not held


async def test_a_beneficiary_is_kept_sealed_and_shown_masked(edge: Edge) -> None:
    ada = edge.user()
    answer = await add(edge, ada)
    assert answer.status_code == 202 and NUMBER not in answer.text
    data = answer.json()["data"]
    assert (data["status"], data["account"]) == ("pending", "••••6789")
    for table in ("beneficiaries", "outbox", "audit_log", "timeline", "idempotency_keys"):
        (rows,) = edge.sql(f"select coalesce(string_agg(t::text, ' '), '') from {table} t")
        assert NUMBER not in rows[0], table
    listed = (await call(edge, ada, "GET", "/beneficiaries")).json()["data"]
    assert [each["id"] for each in listed] == [data["id"]]
    assert edge.count("outbox", "workflow_type = 'BeneficiaryWorkflow'") == 1


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"currency": "USD"}, 422, "currency_unsupported"),
        ({"account_number": "01234567x9"}, 422, "invalid_account_number"),
        ({"account_number": "٠١٢٣٤٥٦٧٨٩"}, 422, "invalid_account_number"),
        ({"account_number": "12345"}, 422, "invalid_request"),
        ({"account_number": 1234567890}, 422, "invalid_request"),
        ({"bank_code": "0 58"}, 422, "invalid_request"),
        ({"provider": "stripe"}, 422, "invalid_request"),
        ({"name": " "}, 422, "invalid_request"),
        ({"owner_id": "usr_2"}, 422, "invalid_request"),
    ],
)
async def test_a_beneficiary_is_refused(edge: Edge, changes: dict[str, Any], status: int, code: str) -> None:
    assert_problem(await add(edge, edge.user(), **changes), status, code)
    assert not edge.count("beneficiaries")


async def test_without_an_account_at_the_provider_nobody_is_paid(edge: Edge) -> None:
    edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    assert_problem(await add(edge, edge.user()), 422, "provider_unavailable")


async def test_a_beneficiary_is_its_owners(edge: Edge) -> None:
    ada, eve, admin = edge.user(), edge.user(), edge.user(Role.ADMIN)
    made = await payee(edge, ada)
    for method in ("GET", "DELETE"):
        assert_problem(await call(edge, eve, method, f"/beneficiaries/{made}"), 404, "not_found")
    assert (await call(edge, eve, "GET", "/beneficiaries")).json()["data"] == []
    assert (await call(edge, admin, "GET", f"/beneficiaries/{made}")).status_code == 200
    assert_problem(await add(edge, admin), 403, "forbidden")
    disabled = await call(edge, ada, "DELETE", f"/beneficiaries/{made}")
    assert disabled.json()["data"]["status"] == "disabled"
    assert_problem(await call(edge, ada, "DELETE", f"/beneficiaries/{made}"), 409, "beneficiary_over")


async def test_a_review_is_an_admins_and_once(edge: Edge) -> None:
    ada, admin = edge.user(), edge.user(Role.ADMIN)
    made = await payee(edge, ada, "needs_review")
    path, body = f"/admin/beneficiaries/{made}/review", {"decision": "reject", "note": "Somebody else's."}
    assert_problem(await call(edge, ada, "POST", path, body), 403, "forbidden")
    assert (await call(edge, admin, "POST", path, body)).json()["data"]["status"] == "rejected"
    assert_problem(await call(edge, admin, "POST", path, body), 409, "not_under_review")
    assert edge.count("outbox", "workflow_type = 'NoticesWorkflow'") == 1


async def test_money_is_held_with_the_request(edge: Edge) -> None:
    ada, made = await asked(edge)
    (wallet,) = (await call(edge, ada, "GET", "/wallet")).json()["data"]
    assert (wallet["posted"], wallet["available"]) == (2 * LARGE, 2 * LARGE - 20_000)
    seen = (await call(edge, ada, "GET", f"/payouts/{made}")).json()["data"]
    assert (seen["status"], seen["reason"], seen["subject_id"]) == ("approved", "withdrawal", ada.id)
    assert [each["event"] for each in seen["timeline"]] == ["payout_requested"]
    assert edge.count("outbox", "workflow_type = 'PayoutWorkflow'") == 1


async def test_a_repeated_request_is_one_payout(edge: Edge) -> None:
    ada = edge.user()
    await fill_wallet(edge, ada)
    body = {"beneficiary_id": await payee(edge, ada), "amount": 20_000, "currency": "NGN"}
    first, again = [await call(edge, ada, "POST", "/payouts", body, "the-same-key") for _ in range(2)]
    assert first.content == again.content and again.headers["idempotent-replayed"] == "true"
    assert edge.count("payouts") == 1
    edge.forget("the-same-key")
    late = await call(edge, ada, "POST", "/payouts", body, "the-same-key")
    assert (late.status_code, late.json()["data"]["id"]) == (202, first.json()["data"]["id"])
    edge.forget("the-same-key")
    other = await call(edge, ada, "POST", "/payouts", body | {"amount": 30_000}, "the-same-key")
    assert (other.status_code, other.json()["data"]["amount"]["amount"]) == (202, 30_000)
    (wallet,) = (await call(edge, ada, "GET", "/wallet")).json()["data"]
    assert (edge.count("payouts"), wallet["available"]) == (2, wallet["posted"] - 50_000)


async def test_a_beneficiary_added_long_ago_is_not_added_again(edge: Edge) -> None:
    ada = edge.user()
    assert (await add(edge, ada, "account")).status_code == 202
    edge.forget("account")
    assert_problem(await add(edge, ada, "account"), 409, "already_done")
    edge.forget("account")
    assert (await add(edge, ada, "account", bank_code="044")).status_code == 202
    assert edge.count("beneficiaries") == 2


@pytest.mark.parametrize("status", ["pending", "needs_review", "rejected", "disabled"])
async def test_an_unverified_beneficiary_is_not_paid(edge: Edge, status: str) -> None:
    ada = edge.user()
    await fill_wallet(edge, ada)
    assert_problem(await withdraw(edge, ada, await payee(edge, ada, status)), 409, "beneficiary_not_verified")
    assert nothing_written(edge)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"amount": 1_000_001}, 409, "insufficient_funds"),
        ({"amount": 9_999}, 422, "below_payout_minimum"),
        ({"amount": 0}, 422, "invalid_request"),
        ({"amount": 20_000.0}, 422, "invalid_request"),
        ({"currency": "GHS"}, 422, "currency_mismatch"),
        ({"beneficiary_id": "ben_nobody"}, 404, "not_found"),
        ({"source_account": "suspense:NGN"}, 422, "invalid_request"),
    ],
)
async def test_a_withdrawal_is_refused(edge: Edge, changes: dict[str, Any], status: int, code: str) -> None:
    ada = edge.user()
    await fill_wallet(edge, ada)
    assert_problem(await withdraw(edge, ada, await payee(edge, ada), **changes), status, code)
    assert nothing_written(edge)


async def test_somebody_elses_beneficiary_does_not_exist(edge: Edge) -> None:
    ada, eve = edge.user(), edge.user()
    await fill_wallet(edge, eve)
    assert_problem(await withdraw(edge, eve, await payee(edge, ada)), 404, "not_found")
    assert nothing_written(edge)


async def test_a_payout_is_its_owners(edge: Edge) -> None:
    ada, made = await asked(edge)
    eve, admin = edge.user(), edge.user(Role.ADMIN)
    assert_problem(await call(edge, eve, "GET", f"/payouts/{made}"), 404, "not_found")
    assert_problem(await call(edge, eve, "POST", f"/payouts/{made}/cancel"), 404, "not_found")
    for verb in ("approve", "check"):
        assert_problem(await call(edge, ada, "POST", f"/admin/payouts/{made}/{verb}"), 403, "forbidden")
    assert (await call(edge, eve, "GET", "/payouts")).json()["data"] == []
    assert len((await call(edge, admin, "GET", "/payouts?status=approved")).json()["data"]) == 1
    assert (await call(edge, admin, "GET", "/payouts?status=failed")).json()["data"] == []


async def test_pages_go_on_where_they_ended(edge: Edge) -> None:
    ada = edge.user()
    await fill_wallet(edge, ada)
    beneficiary = await payee(edge, ada)
    made = [(await withdraw(edge, ada, beneficiary)).json()["data"]["id"] for _ in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        answer = (await call(edge, ada, "GET", f"/payouts?limit=2{cursor}")).json()
        seen += [each["id"] for each in answer["data"]]
        cursor = f"&cursor={answer['meta']['next_cursor']}" if answer["meta"]["next_cursor"] else None
    assert seen == made[::-1]


async def test_a_canceled_payout_gives_the_money_back(edge: Edge) -> None:
    ada, made = await asked(edge)
    assert (await call(edge, ada, "POST", f"/payouts/{made}/cancel")).json()["data"]["status"] == "canceled"
    (wallet,) = (await call(edge, ada, "GET", "/wallet")).json()["data"]
    assert wallet["available"] == 2 * LARGE
    assert_problem(await call(edge, ada, "POST", f"/payouts/{made}/cancel"), 409, "payout_sent")
    assert_problem(await call(edge, edge.user(Role.ADMIN), "POST", f"/admin/payouts/{made}/check"), 409, "payout_over")


@pytest.mark.parametrize("status", ["sending", "unknown", "pending", "succeeded", "returned", "failed"])
async def test_what_may_have_been_sent_is_not_canceled(edge: Edge, status: str) -> None:
    ada, made = await asked(edge)
    edge.sql("update payouts set status = %s", status)
    assert_problem(await call(edge, ada, "POST", f"/payouts/{made}/cancel"), 409, "payout_sent")


@pytest.mark.parametrize(("verb", "body"), [("approve", None), ("reject", {"note": "No."})])
async def test_nobody_decides_about_his_own_payout(edge: Edge, verb: str, body: Any) -> None:
    """Also not when he has become an admin since."""
    ada, made = await asked(edge, amount=LARGE)
    edge.sql("update users set role = 'admin' where id = %s", ada.id)
    ada = ada.model_copy(update={"role": Role.ADMIN})
    assert_problem(await call(edge, ada, "POST", f"/admin/payouts/{made}/{verb}", body), 403, "cannot_approve_own")
    assert edge.sql("select status, decided_by from payouts") == [("awaiting_approval", None)]
    answer = await call(edge, edge.user(Role.ADMIN), "POST", f"/admin/payouts/{made}/{verb}", body)
    assert answer.json()["data"]["status"] == ("approved" if verb == "approve" else "rejected")
    again = await call(edge, edge.user(Role.ADMIN), "POST", f"/admin/payouts/{made}/{verb}", body)
    assert_problem(again, 409, "not_awaiting_approval")


async def test_the_tenants_limit_counts_a_days_payouts_together(edge: Edge) -> None:
    ada = edge.user()
    await fill_wallet(edge, ada)
    edge.sql(
        "insert into tenant_settings (tenant_id, mode) values (%s, 'test') on conflict do nothing", edge.scope.tenant_id
    )
    edge.sql("update tenant_settings set payout_approval_minor = 50000")
    beneficiary = await payee(edge, ada)
    statuses = [(await withdraw(edge, ada, beneficiary)).json()["data"]["status"] for _ in range(3)]
    assert statuses == ["approved", "approved", "awaiting_approval"]
    edge.sql("update payouts set created_at = created_at - interval '25 hours'")
    assert (await withdraw(edge, ada, beneficiary)).json()["data"]["status"] == "approved"


@pytest.mark.parametrize("table", [Payout, BeneficiaryRow])
def test_declarations_match_the_database(edge: Edge, table: type[Payout]) -> None:
    rows = edge.sql("select column_name from information_schema.columns where table_name = %s", table.__tablename__)
    assert {column.name for column in table.__table__.columns} == {name for (name,) in rows} - {"updated_at"}


async def test_where_profit_goes_is_ones_own_to_choose(edge: Edge) -> None:
    """A verified account of one's own, or the wallet; nobody chooses for another, and what is refused changes nothing."""
    ada, bem = edge.user(), edge.user()
    own, other, fresh = await payee(edge, ada), await payee(edge, bem), await payee(edge, ada, "pending")
    path = f"/users/{ada.id}/payout-preference"

    async def choose(who: User, destination: str) -> httpx.Response:
        return await call(edge, who, "PUT", path, {"destination": destination})

    assert (await call(edge, ada, "GET", path)).json()["data"] == {"user_id": ada.id, "destination": "wallet"}
    assert (await choose(ada, own)).json()["data"]["destination"] == own
    assert_problem(await choose(ada, other), 404, "not_found")
    assert_problem(await choose(ada, fresh), 409, "beneficiary_not_verified")
    for stranger in (bem, edge.user(Role.ADMIN)):
        assert not (await choose(stranger, "wallet")).is_success
    assert not (await call(edge, bem, "GET", path)).is_success
    seen = await call(edge, edge.user(Role.ADMIN), "GET", path)
    assert seen.json()["data"]["destination"] == own, "none of the refused was taken"
    assert (await choose(ada, "wallet")).json()["data"]["destination"] == "wallet"
