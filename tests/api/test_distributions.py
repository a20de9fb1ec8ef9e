"""A distribution's commands at the edge: who may do what in which state, and that a refusal leaves nothing behind."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.distribution import DistributionStatus
from infra.database import Database
from models.user import Role, User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.distributions import Holders, Run
from tests.fixtures.pledges import NGN
from tests.fixtures.postgres import role_url

D = DistributionStatus
WRITTEN = ("distributions", "distribution_lines", "distribution_adjustments", "payout_holds", "investments", "timeline",
           "audit_log", "outbox", "notifications", "idempotency_keys", "ledger_transfers")  # fmt: skip
WHY = {"reason": "It rained."}
[FIGURES] = (
    case
    for case in json.loads(
        (Path(__file__).parent.parent / "reference" / "allocation" / "profit_distribution_derived.json").read_text()
    )["cases"]
    if case["id"] == "alloc-derived-16"
)


def body(**changes: Any) -> dict[str, Any]:
    """A declaration for the first quarter of 2026."""
    return {"declared_profit": {"amount": 600_000, "currency": NGN}, "period_start": "2026-01-01", "period_end": "2026-03-31",
            "record_date": "2026-03-31", "evidence": "The books."} | changes  # fmt: skip


@dataclass
class Office:
    """An owner with a funded campaign, two administrators, a stranger and an investor."""

    edge: Edge
    fund: Holders
    owner: User
    admin: User
    second: User
    stranger: User
    investor: User

    async def ask(self, who: User, verb: str, path: str, json: Any = None) -> httpx.Response:
        return await self.edge.http.request(verb, path, json=json, headers=self.edge.headers(who, uuid4().hex))

    async def act(self, who: User, path: str, json: Any = None) -> dict[str, Any]:
        answer = await self.ask(who, "POST", path, json)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    @property
    def runs(self) -> str:
        return f"/v1/campaigns/{self.fund.campaign.id}/distributions"

    def at(self, run: str, verb: str = "") -> str:
        return f"{self.runs}/{run}{verb}"

    async def draft(self, who: User | None = None, **changes: Any) -> str:
        self.edge.sql(
            "update distributions set status = 'canceled' where status not in ('paying', 'partially_paid', 'paid')"
        )
        return str((await self.act(who or self.owner, self.runs, body(**changes)))["id"])

    async def calculated(self, who: User | None = None, **changes: Any) -> str:
        run = await self.draft(who, **changes)
        await self.act(self.owner, self.at(run, "/calculate"))
        await Run(self.fund, run).calculate()
        return run

    async def submitted(self, who: User | None = None) -> str:
        run = await self.calculated(who)
        await self.act(self.owner, self.at(run, "/submit"))
        return run

    async def approved(self) -> str:
        run = await self.submitted()
        await self.act(self.admin, f"/v1/admin/distributions/{run}/approve")
        return run

    async def funding(self) -> str:
        run = await self.approved()
        await Run(self.fund, run).advance()
        return run

    def written(self) -> dict[str, Any]:
        return {
            table: self.edge.sql(f"select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from {table} t")
            for table in WRITTEN
        }


@pytest.fixture
async def office(edge: Edge) -> AsyncIterator[Office]:
    db = Database(role_url(edge.owner_url, "chama_app"), name="test", max_size=4)
    await db.open()
    owner = edge.user(Role.BUSINESS_OWNER)
    fund = await Holders.make(db, edge.scope, edge.owner_url, *FIGURES["input"]["ratios"], owner=owner.id)
    edge.sql("update investments set created_at = '2025-12-01'")
    yield Office(
        edge, fund, owner, edge.user(Role.ADMIN), edge.user(Role.ADMIN), edge.user(Role.BUSINESS_OWNER), edge.user()
    )
    await db.close()


State = Callable[[Office], Awaitable[str]]
REFUSED: dict[str, tuple[State, str, str, Any, int, str]] = {
    "another's campaign": (Office.draft, "stranger", "…", body(), 404, "not_found"),
    "an investor declares": (Office.draft, "investor", "…", body(), 403, "forbidden"),
    "the period again": (Office.draft, "owner", "…", body(), 409, "distribution_exists"),
    "a part of the period": (
        Office.draft, "owner", "…", body(period_start="2026-03-31", period_end="2026-04-30", record_date="2026-04-30"), 409,
        "distribution_exists",
    ),
    "another currency": (
        Office.draft, "owner", "…", body(declared_profit={"amount": 5, "currency": "USD"}), 422, "currency_mismatch",
    ),
    "a record date to come": (Office.draft, "owner", "…", body(record_date="2100-01-01"), 422, "invalid_terms"),
    "a schedule by a milestone it has not": (
        Office.draft, "owner", "…", body(schedule={"at": "milestone", "milestone": 2}), 422, "invalid_terms",
    ),
    "a record date that never comes": (
        Office.draft, "owner", "…", body(record_date="9999-12-31", schedule={"at": "record_date"}), 422, "invalid_terms",
    ),
    "a schedule by no milestone": (Office.draft, "owner", "…", body(schedule={"at": "milestone"}), 422, "invalid_terms"),
    "a schedule of a dry run": (
        Office.draft, "owner", "…", body(schedule={"at": "record_date"}, dry_run=True), 422, "invalid_terms",
    ),
    "a period that ends before it begins": (Office.draft, "owner", "…", body(period_end="2025-12-31"), 422, "invalid_terms"),
    "no day": (Office.draft, "owner", "…", body(period_start="2026-02-30"), 422, "invalid_request"),
    "submitted before it is calculated": (Office.draft, "owner", "/submit", None, 409, "distribution_not_calculated"),
    "calculated while submitted": (Office.submitted, "owner", "/calculate", None, 409, "distribution_fixed"),
    "calculated after approval": (Office.approved, "owner", "/calculate", None, 409, "distribution_fixed"),
    "another's run": (Office.calculated, "stranger", "/submit", None, 404, "not_found"),
    "approved by its owner": (Office.submitted, "owner", "approve", None, 403, "forbidden"),
    "approved before it is submitted": (Office.calculated, "admin", "approve", None, 409, "distribution_not_submitted"),
    "approved twice": (Office.approved, "second", "approve", None, 409, "distribution_not_submitted"),
    "rejected after approval": (Office.approved, "second", "reject", WHY, 409, "distribution_not_submitted"),
    "funded before it is approved": (Office.submitted, "owner", "/fund", None, 409, "distribution_not_funding"),
    "more than there is": (Office.funding, "owner", "/fund", None, 409, "not_funded"),
    "retried before it pays": (Office.funding, "admin", "retry", None, 409, "nothing_to_retry"),
    "closed before it pays": (Office.funding, "admin", "close", {"rest": "unclaimed", **WHY}, 409, "nothing_to_close"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_a_refusal_leaves_nothing_behind(office: Office, what: str) -> None:
    state, who, verb, sent, status, code = REFUSED[what]
    run = await state(office)
    path = (
        office.runs
        if verb == "…"
        else office.at(run, verb)
        if verb[0] == "/"
        else f"/v1/admin/distributions/{run}/{verb}"
    )
    before = office.written()
    assert_problem(await office.ask(getattr(office, who), "POST", path, sent), status, code)
    assert office.written() == before


async def test_nobody_approves_what_is_their_own(office: Office) -> None:
    """Neither who declared it, nor who handed it in."""
    declared = await office.submitted(office.admin)
    refused = await office.ask(office.admin, "POST", f"/v1/admin/distributions/{declared}/approve")
    assert_problem(refused, 403, "cannot_approve_own")
    handed_in = await office.calculated()
    await office.act(office.admin, office.at(handed_in, "/submit"))
    refused = await office.ask(office.admin, "POST", f"/v1/admin/distributions/{handed_in}/approve")
    assert_problem(refused, 403, "cannot_approve_own")
    found = await office.act(office.second, f"/v1/admin/distributions/{handed_in}/approve")
    assert (found["status"], found["decided_by"]) == ("approved", office.second.id)


async def test_the_reference_figures_through_the_api(office: Office) -> None:
    """alloc-derived-16: seven holders share 52 units."""
    run = await office.calculated(declared_profit={"amount": FIGURES["input"]["minor_units"], "currency": NGN})
    answer = await office.ask(office.owner, "GET", office.at(run, "/lines"))
    lines = answer.json()["data"]
    assert [each["figures"]["share"] for each in lines] == FIGURES["expected"]
    assert [int(each["weight"]) for each in lines] == FIGURES["input"]["ratios"]
    after = await office.ask(office.owner, "GET", office.at(run, "/lines?after=5&limit=1&status=calculated"))
    assert [each["line_no"] for each in after.json()["data"]] == [6]


async def test_from_approval_to_wallets_by_a_word_of_the_owner(office: Office) -> None:
    run = await office.funding()
    await office.fund.tops_up(600_000)
    found = await office.act(office.owner, office.at(run, "/fund"))
    assert (found["status"], found["blocked_reason"]) == ("funding", None)
    steps = Run(office.fund, run)
    await steps.advance()
    await steps.activities.begin_distribution(steps.task)
    await steps.pay_range()
    await steps.activities.finish_distribution(steps.task)
    seen = (await office.ask(office.second, "GET", office.at(run))).json()["data"]
    assert (seen["status"], seen["totals"]["net"], seen["lines"]) == ("paid", 600_000, 7)
    cancel = await office.ask(office.owner, "POST", office.at(run, "/cancel"), WHY)
    assert_problem(cancel, 409, "distribution_paying")


async def test_canceling_frees_money_and_period(office: Office) -> None:
    run = await office.funding()
    await office.fund.tops_up(600_000)
    await office.act(office.owner, office.at(run, "/fund"))
    assert await office.fund.wallet(office.owner.id) == 0
    found = await office.act(office.owner, office.at(run, "/cancel"), WHY)
    assert (found["status"], found["next_action_at"]) == ("canceled", None)
    assert await office.fund.wallet(office.owner.id) == 600_000
    await office.act(office.owner, office.runs, body())


async def test_a_rejection_sends_back_or_ends(office: Office) -> None:
    run = await office.submitted()
    found = await office.act(office.admin, f"/v1/admin/distributions/{run}/reject", WHY)
    assert found["status"] == "calculated"
    await office.act(office.owner, office.at(run, "/calculate"))
    await Run(office.fund, run).calculate()
    await office.act(office.owner, office.at(run, "/submit"))
    found = await office.act(office.admin, f"/v1/admin/distributions/{run}/reject", {**WHY, "final": True})
    assert found["status"] == "rejected"


async def test_a_campaign_that_is_not_funded(office: Office) -> None:
    office.edge.sql("update campaigns set status = 'live' where id = %s", office.fund.campaign.id)
    assert_problem(await office.ask(office.owner, "POST", office.runs, body()), 409, "campaign_not_funded")


async def test_holders_see_their_own_lines_once_it_pays(office: Office) -> None:
    run = await office.funding()
    investor = office.investor
    office.edge.sql("alter table distribution_lines disable trigger user")
    office.edge.sql(
        "update distribution_lines set holder_id = %s where line_no = 3 and distribution_id = %s", investor.id, run
    )
    office.edge.sql("alter table distribution_lines enable trigger user")
    own = f"/v1/users/{investor.id}/distributions"
    assert (await office.ask(investor, "GET", own)).json()["data"] == []
    office.edge.sql("update distributions set status = 'paying' where id = %s", run)
    [line] = (await office.ask(investor, "GET", own)).json()["data"]
    assert (line["distribution_id"], line["status"], line["currency"]) == (run, "calculated", NGN)
    assert_problem(await office.ask(office.stranger, "GET", own), 404, "not_found")
    assert (await office.ask(office.admin, "GET", own)).json()["data"] == [line]
    assert_problem(await office.ask(investor, "GET", office.at(run)), 403, "forbidden")


async def test_a_chargeback_and_a_hold_are_recorded_once(office: Office) -> None:
    [holder, *_] = office.fund.pledges
    path = f"/v1/admin/investments/{office.fund.pledges[holder]}/charge-back"
    assert_problem(await office.ask(office.owner, "POST", path, WHY), 403, "forbidden")
    await office.act(office.admin, path, WHY)
    assert_problem(await office.ask(office.admin, "POST", path, WHY), 409, "not_charged_back")
    hold = f"/v1/admin/users/{holder}/payout-hold"
    assert (await office.act(office.admin, hold, {"held": True, **WHY}))["held"] is True
    assert (await office.act(office.admin, hold, {"held": False, **WHY}))["held"] is False
    assert_problem(
        await office.ask(office.admin, "POST", "/v1/admin/users/usr_x/payout-hold", {"held": True, **WHY}),
        404,
        "not_found",
    )


async def test_a_page_of_runs(office: Office) -> None:
    """Newest first, with a cursor."""
    made = [await office.draft(dry_run=True) for _ in range(3)]
    first = (await office.ask(office.owner, "GET", f"{office.runs}?limit=2")).json()
    rest = (
        await office.ask(office.owner, "GET", f"{office.runs}?limit=2&cursor={first['meta']['next_cursor']}")
    ).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == made[::-1]


async def test_what_is_left_over_is_closed_once(office: Office) -> None:
    """Of a paid run, what its lines carry; of a partially paid one, the lines that could not be paid."""
    run = await office.calculated(minimum_payout=30_000)
    held = list(office.fund.pledges)[3]
    await office.act(office.admin, f"/v1/admin/users/{held}/payout-hold", {"held": True, **WHY})
    await office.act(office.owner, office.at(run, "/submit"))
    await office.act(office.admin, f"/v1/admin/distributions/{run}/approve")
    await office.fund.tops_up(600_000)
    steps = Run(office.fund, run)
    await steps.advance()
    await steps.activities.begin_distribution(steps.task)
    await steps.pay_range()
    await steps.activities.finish_distribution(steps.task)
    close, rest = f"/v1/admin/distributions/{run}/close", {"rest": "unclaimed", **WHY}
    before = await office.fund.balance("unclaimed")
    assert (await office.act(office.admin, close, rest))["status"] == "paid"
    assert await office.fund.balance("unclaimed") - before == 200_769, "the held line's"
    carried = (await office.act(office.admin, close, rest))["totals"]["carried_out"]
    assert await office.fund.balance("unclaimed") - before == 200_769 + carried == 200_769 + 4_615 + 20_769 + 2_308
    assert_problem(await office.ask(office.admin, "POST", close, rest), 409, "nothing_to_close")
    assert await office.fund.balance(f"payable:{office.fund.campaign.id}") == 0
