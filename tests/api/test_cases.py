"""A case that nothing closes by itself is closed by an admin, with a word on what was done."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.base import Mode, Scope
from models.user import Role
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.pledges import add_pledge
from tests.fixtures.postgres import add_tenant

_CASE = """
insert into cases (tenant_id, mode, id, kind, subject_id, status, detail, opened_at)
values (%s, %s, %s, %s, %s, 'open', %s, now())
"""
STILL_OPEN = "id = %s and status = 'open'"


def opened(edge: Edge, kind: str = "late_payout", subject: str = "pyo_1", detail: str = "{}") -> str:
    case_id = f"cas_{uuid4().hex}"
    edge.sql(_CASE, edge.scope.tenant_id, str(edge.scope.mode), case_id, kind, subject, detail)
    return case_id


async def resolve(edge: Edge, case_id: str, body: Any, role: Role = Role.ADMIN, key: str = "k-1") -> httpx.Response:
    headers = edge.headers(edge.user(role), key)
    return await edge.http.post(f"/v1/admin/cases/{case_id}/resolve", json=body, headers=headers)


async def test_it_is_closed_once_and_audited(edge: Edge) -> None:
    case_id = opened(edge)
    answer = await resolve(edge, case_id, {"resolution": "The bank returned it on 3 May."})
    assert answer.status_code == 200
    seen = answer.json()["data"]
    assert (seen["status"], seen["resolution"]) == ("resolved", "The bank returned it on 3 May.")
    assert seen["resolved_at"] is not None
    assert edge.count("audit_log", "action = 'case.resolved' and entity_id = %s", case_id) == 1
    assert_problem(await resolve(edge, case_id, {"resolution": "Again."}), 409, "case_resolved")
    assert edge.sql("select resolution from cases where id = %s", case_id) == [("The bank returned it on 3 May.",)]


@pytest.mark.parametrize(
    "kind",
    ["unknown_outcome", "late_success", "amount_mismatch", "payout_mismatch", "provider_balance", "payout_pending"],
)
async def test_what_closes_by_itself_is_not_closed_by_hand(edge: Edge, kind: str) -> None:
    """An unknown outcome is ruled on; money that came too late goes back first."""
    case_id = opened(edge, kind)
    assert_problem(await resolve(edge, case_id, {"resolution": "Fine."}), 409, "case_closes_itself")
    assert edge.count("cases", STILL_OPEN, case_id) == 1


async def test_money_taken_in_what_cannot_be_booked_is_closed_by_hand(edge: Edge) -> None:
    """No refund of ours will ever close it."""
    case_id = opened(edge, "amount_mismatch", "ch-1", '{"unbooked": true}')
    assert (await resolve(edge, case_id, {"resolution": "Refunded at the provider."})).status_code == 200
    assert edge.count("cases", STILL_OPEN, case_id) == 0


@pytest.mark.parametrize("body", [{}, {"resolution": ""}, {"resolution": 5}, {"resolution": "x", "more": 1}, None])
async def test_it_wants_a_word(edge: Edge, body: Any) -> None:
    case_id = opened(edge)
    answer = await resolve(edge, case_id, body)
    assert answer.status_code == 422
    assert edge.count("cases", STILL_OPEN, case_id) == 1


async def test_by_an_admin_of_the_tenant_only(edge: Edge) -> None:
    case_id = opened(edge)
    assert_problem(await resolve(edge, case_id, {"resolution": "Mine."}, role=Role.INVESTOR), 403, "forbidden")
    elsewhere = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    headers = edge.headers(edge.user(Role.ADMIN, scope=elsewhere), "k-1")
    body = {"resolution": "Not theirs."}
    assert_problem(
        await edge.http.post(f"/v1/admin/cases/{case_id}/resolve", json=body, headers=headers), 404, "not_found"
    )
    assert_problem(await resolve(edge, "cas_none", {"resolution": "Nothing."}), 404, "not_found")
    assert edge.count("cases", STILL_OPEN, case_id) == 1


async def test_not_while_its_settlement_works_on_the_line(edge: Edge) -> None:
    """It may yet succeed: whoever paid it by hand meanwhile would have paid twice."""
    pledge = await add_pledge(edge.app.state.database, edge.scope, edge.owner_url)
    scope = (edge.scope.tenant_id, str(edge.scope.mode))
    edge.sql(
        "insert into settlements (tenant_id, mode, id, campaign_id, outcome, round, status, lines, created_at) "
        "values (%s, %s, 'set_1', %s, 'release', 1, 'running', 1, now())",
        *scope, pledge.campaign.id,
    )  # fmt: skip
    edge.sql(
        "insert into settlement_lines (tenant_id, mode, settlement_id, line_no, investment_id, payment_id, action, status) "
        "values (%s, %s, 'set_1', 1, %s, %s, 'refund', 'queued')",
        *scope, pledge.investment.id, pledge.payment.id,
    )  # fmt: skip
    case_id = opened(edge, "failed_line", pledge.investment.id)
    assert_problem(await resolve(edge, case_id, {"resolution": "Paid by cheque."}), 409, "case_worked_on")
    assert edge.count("cases", STILL_OPEN, case_id) == 1
    edge.sql("update settlement_lines set status = 'failed' where settlement_id = 'set_1'")
    answer = await resolve(edge, case_id, {"resolution": "Paid by cheque."}, key="k-2")
    assert (
        answer.status_code == 200
        and edge.count("settlement_lines", "dealt_with_at is not null and line_no = %s", 1) == 1
    )
