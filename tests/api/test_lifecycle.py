"""A campaign's commands at the edge: what each may do in which state, and that a refusal leaves nothing behind."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from domain.campaign import EDITABLE, CampaignStatus
from infra.database import Database
from models.campaign import delete_draft
from models.user import Role, User
from tests.api.test_webhooks import add_account
from tests.fixtures.api import Edge, assert_problem, set_scope
from tests.fixtures.hostile import campaign_body, fill_wallet

C = CampaignStatus
WRITTEN = (
    "campaigns", "campaign_reviews", "campaign_updates", "timeline", "audit_log", "outbox", "notifications",
    "idempotency_keys", "investments",
)  # fmt: skip
WHY = {"reason": "It rained."}


def days(number: float) -> str:
    return (datetime.now(UTC) + timedelta(days=number)).isoformat()


class People:
    """An owner, an admin, an investor and a stranger, and what they ask of one campaign."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.owner, self.stranger = edge.user(Role.BUSINESS_OWNER), edge.user(Role.BUSINESS_OWNER)
        self.admin, self.investor = edge.user(Role.ADMIN), edge.user()

    async def ask(self, who: User, verb: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
        return await self.edge.http.request(verb, path, json=body, headers=self.edge.headers(who, key or uuid4().hex))

    async def act(self, who: User, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.ask(who, "POST", path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def draft(self, **terms: Any) -> str:
        made = await self.act(self.owner, "/v1/campaigns", campaign_body(draft=True, **terms))
        assert made["status"] == "draft"
        return str(made["id"])

    async def submitted(self, **terms: Any) -> str:
        return str((await self.act(self.owner, "/v1/campaigns", campaign_body(**terms)))["id"])

    async def review(self, campaign: str, decision: str, **more: Any) -> dict[str, Any]:
        return await self.act(
            self.admin, f"/v1/admin/campaigns/{campaign}/verify", {"decision": decision, "note": "So.", **more}
        )

    async def live(self, **terms: Any) -> str:
        campaign = await self.submitted(**terms)
        assert (await self.review(campaign, "approve"))["status"] == "live"
        return campaign

    async def paused(self) -> str:
        campaign = await self.live()
        await self.act(self.owner, f"/v1/campaigns/{campaign}/pause", WHY)
        return campaign

    async def changes_requested(self) -> str:
        campaign = await self.submitted()
        await self.review(campaign, "request_changes")
        return campaign

    async def scheduled(self) -> str:
        campaign = await self.submitted()
        assert (await self.review(campaign, "approve", go_live_at=days(3)))["status"] == "scheduled"
        return campaign

    async def canceled(self) -> str:
        campaign = await self.live()
        await self.act(self.owner, f"/v1/campaigns/{campaign}/cancel", WHY)
        return campaign

    async def over(self) -> str:
        """Live still, but its deadline has passed: the process has not acted yet."""
        campaign = await self.live()
        self.edge.sql("update campaigns set deadline_at = now() - interval '1 second' where id = %s", campaign)
        return campaign

    async def waiting(self) -> str:
        campaign = await self.over()
        self.edge.sql("update campaigns set status = 'waiting_funds' where id = %s", campaign)
        return campaign

    async def settled(self) -> str:
        campaign = await self.live()
        self.edge.sql("update campaigns set status = 'funded', outcome = 'success' where id = %s", campaign)
        return campaign

    async def extended(self) -> str:
        """As often as policy allows."""
        campaign = await self.live()
        for number in range(3):
            await self.act(self.owner, f"/v1/campaigns/{campaign}/deadline", {"deadline_at": days(40 + number), **WHY})
        return campaign

    async def paused_by_admin(self) -> str:
        campaign = await self.live()
        await self.act(self.admin, f"/v1/campaigns/{campaign}/pause", WHY)
        return campaign

    def written(self) -> dict[str, Any]:
        return {
            table: self.edge.sql(f"select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from {table} t")
            for table in WRITTEN
        }


@pytest.fixture(scope="module")
async def people(edge: Edge) -> People:
    add_account(edge, "stripe", edge.scope)
    made = People(edge)
    await fill_wallet(edge, made.investor)
    return made


State = Callable[[People], Awaitable[str]]
DRAFT, SUBMITTED, BACK, SCHEDULED, LIVE = (
    People.draft, People.submitted, People.changes_requested, People.scheduled, People.live,
)  # fmt: skip
PAUSED, CANCELED, OVER, WAITING, SETTLED = (
    People.paused, People.canceled, People.over, People.waiting, People.settled,
)  # fmt: skip
PLEDGE = {"amount": 500, "currency": "NGN", "provider": "wallet"}
EDIT, DELETE, SUBMIT, VERIFY = ("PATCH", ""), ("DELETE", ""), ("POST", "/submit"), ("POST", "verify")
PAUSE, RESUME, DEADLINE, CANCEL = ("POST", "/pause"), ("POST", "/resume"), ("POST", "/deadline"), ("POST", "/cancel")
INVEST, UPDATE = ("POST", "/invest"), ("POST", "/updates")
NEWS = {"title": "The oven", "body": "It is here."}
GOAL = {"goal": {"amount": 800_000, "currency": "NGN"}}

REFUSALS: list[tuple[State, str, tuple[str, str], Any, int, str]] = [
    (SUBMITTED, "owner", EDIT, {"title": "New"}, 409, "campaign_under_review"),
    (LIVE, "owner", EDIT, GOAL, 409, "terms_are_fixed"),
    (LIVE, "owner", EDIT, {"title": "New", "success_floor_bps": 1}, 409, "terms_are_fixed"),
    (LIVE, "owner", EDIT, {"category": "food"}, 409, "terms_are_fixed"),
    (DRAFT, "owner", EDIT, {"country": "XX"}, 422, "invalid_request"),
    (DRAFT, "owner", EDIT, {"category": "bread"}, 422, "invalid_request"),
    (SCHEDULED, "owner", EDIT, {"deadline_at": days(20)}, 409, "terms_are_fixed"),
    (PAUSED, "owner", EDIT, {"kind": "keep_what_you_raise"}, 409, "terms_are_fixed"),
    (SETTLED, "owner", EDIT, {"title": "New"}, 409, "campaign_decided"),
    (DRAFT, "owner", EDIT, {}, 422, "nothing_to_change"),
    (DRAFT, "owner", EDIT, {"cap": {"amount": 1, "currency": "NGN"}}, 422, "cap_below_goal"),
    (DRAFT, "owner", EDIT, {"goal": {"amount": 1, "currency": "ZZZ"}}, 422, "unknown_currency"),
    (DRAFT, "owner", EDIT, {"deadline_at": days(-1)}, 422, "invalid_deadline"),
    (DRAFT, "stranger", EDIT, {"title": "New"}, 404, "not_found"),
    (DRAFT, "admin", EDIT, {"title": "New"}, 403, "forbidden"),
    (LIVE, "owner", DELETE, None, 409, "campaign_submitted"),
    (BACK, "owner", DELETE, None, 409, "campaign_submitted"),
    (DRAFT, "stranger", DELETE, None, 404, "not_found"),
    (SUBMITTED, "owner", SUBMIT, None, 409, "campaign_submitted"),
    (CANCELED, "owner", SUBMIT, None, 409, "campaign_submitted"),
    (DRAFT, "stranger", SUBMIT, None, 404, "not_found"),
    (DRAFT, "admin", VERIFY, {"decision": "approve"}, 409, "campaign_not_submitted"),
    (LIVE, "admin", VERIFY, {"decision": "reject", "note": "No."}, 409, "campaign_not_submitted"),
    (SUBMITTED, "admin", VERIFY, {"decision": "reject"}, 422, "note_required"),
    (SUBMITTED, "admin", VERIFY, {"decision": "request_changes"}, 422, "note_required"),
    (SUBMITTED, "admin", VERIFY, {"decision": "approve", "go_live_at": days(31)}, 422, "invalid_go_live"),
    (SUBMITTED, "owner", VERIFY, {"decision": "approve"}, 403, "forbidden"),
    (SCHEDULED, "owner", PAUSE, WHY, 409, "campaign_not_live"),
    (OVER, "owner", PAUSE, WHY, 409, "campaign_not_live"),
    (LIVE, "stranger", PAUSE, WHY, 404, "not_found"),
    (LIVE, "investor", PAUSE, WHY, 403, "forbidden"),
    (LIVE, "owner", PAUSE, {}, 422, "invalid_request"),
    (LIVE, "owner", RESUME, WHY, 409, "campaign_not_paused"),
    (People.paused_by_admin, "owner", RESUME, WHY, 403, "paused_by_admin"),
    (DRAFT, "owner", DEADLINE, {"deadline_at": days(20), **WHY}, 409, "campaign_not_verified"),
    (SUBMITTED, "owner", DEADLINE, {"deadline_at": days(20), **WHY}, 409, "campaign_not_verified"),
    (LIVE, "owner", DEADLINE, {"deadline_at": days(367), **WHY}, 422, "deadline_past_policy"),
    (LIVE, "owner", DEADLINE, {"deadline_at": days(0.9), **WHY}, 422, "deadline_too_soon"),
    (LIVE, "owner", DEADLINE, {"deadline_at": days(-5), **WHY}, 422, "deadline_too_soon"),
    (SCHEDULED, "owner", DEADLINE, {"deadline_at": days(3.5), **WHY}, 422, "deadline_too_soon"),
    (People.extended, "owner", DEADLINE, {"deadline_at": days(60), **WHY}, 409, "too_many_extensions"),
    (OVER, "owner", DEADLINE, {"deadline_at": days(20), **WHY}, 409, "deadline_passed"),
    (WAITING, "admin", DEADLINE, {"deadline_at": days(20), **WHY}, 409, "deadline_passed"),
    (SETTLED, "admin", DEADLINE, {"deadline_at": days(20), **WHY}, 409, "campaign_decided"),
    (LIVE, "stranger", DEADLINE, {"deadline_at": days(20), **WHY}, 404, "not_found"),
    (DRAFT, "owner", CANCEL, WHY, 409, "campaign_not_submitted"),
    (SETTLED, "owner", CANCEL, WHY, 409, "campaign_decided"),
    (CANCELED, "admin", CANCEL, WHY, 409, "campaign_decided"),
    (LIVE, "stranger", CANCEL, WHY, 404, "not_found"),
    (LIVE, "investor", CANCEL, WHY, 403, "forbidden"),
    (DRAFT, "investor", INVEST, PLEDGE, 409, "campaign_not_verified"),
    (BACK, "investor", INVEST, PLEDGE, 409, "campaign_not_verified"),
    (SCHEDULED, "investor", INVEST, PLEDGE, 409, "campaign_not_live"),
    (PAUSED, "investor", INVEST, PLEDGE, 409, "campaign_paused"),
    (CANCELED, "investor", INVEST, PLEDGE, 409, "campaign_closed"),
    (SUBMITTED, "owner", UPDATE, NEWS, 409, "campaign_not_verified"),
    (LIVE, "stranger", UPDATE, NEWS, 404, "not_found"),
    (LIVE, "admin", UPDATE, NEWS, 403, "forbidden"),
]


def told(case: tuple[State, str, tuple[str, str], Any, int, str]) -> str:
    state, who, (verb, path), _, _, code = case
    return f"{state.__name__}-{who}-{path.strip('/') or verb.lower()}-{code}"


@pytest.mark.parametrize("case", REFUSALS, ids=told)
async def test_refused_and_nothing_is_written(
    people: People, case: tuple[State, str, tuple[str, str], Any, int, str]
) -> None:
    state, who, (verb, path), body, status, code = case
    campaign = await state(people)
    place = f"/v1/admin/campaigns/{campaign}/verify" if path == "verify" else f"/v1/campaigns/{campaign}{path}"
    before = people.written()
    assert_problem(await people.ask(getattr(people, who), verb, place, body), status, code)
    assert people.written() == before


async def test_the_same_deadline_is_no_change(people: People) -> None:
    campaign = await people.live(deadline_at=(at := days(30)))
    answer = await people.ask(people.owner, "POST", f"/v1/campaigns/{campaign}/deadline", {"deadline_at": at, **WHY})
    assert_problem(answer, 422, "deadline_unchanged")


@pytest.mark.parametrize(
    "promise",
    [
        {"profit_until": (datetime.now(UTC) + timedelta(days=60)).date().isoformat()},
        {
            "milestones": [
                {"title": title, "share_bps": 5_000, "due_at": days(60 + n)} for n, title in enumerate(("A", "B"))
            ]
        },
    ],
    ids=["profit_until", "milestones"],
)
async def test_a_deadline_does_not_pass_what_was_promised_for_later(people: People, promise: dict[str, Any]) -> None:
    """Else the campaign would be completed, or its milestones missed, on the day it is funded."""
    campaign = await people.live(**promise)
    place = f"/v1/campaigns/{campaign}/deadline"
    refused = assert_problem(
        await people.ask(people.admin, "POST", place, {"deadline_at": days(70), **WHY}), 422, "deadline_past_policy"
    )
    assert refused["errors"][0]["field"] == "deadline_at"
    assert (await people.act(people.admin, place, {"deadline_at": days(50), **WHY}))["status"] == "live"


async def test_a_draft_is_edited_submitted_sent_back_and_approved(people: People) -> None:
    campaign = await people.draft()
    assert people.edge.count("outbox", "order_key like %s", f"%{campaign}") == 0, "no process for a draft"
    edited = await people.ask(
        people.owner,
        "PATCH",
        f"/v1/campaigns/{campaign}",
        {**GOAL, "title": "Ovens", "country": "NG", "category": "food"},
    )
    data = edited.json()["data"]
    assert (data["country"], data["category"]) == ("NG", "food")
    assert (data["goal"]["amount"], data["cap"]["amount"], data["title"]) == (800_000, 800_000, "Ovens")
    await people.act(people.owner, f"/v1/campaigns/{campaign}/submit")
    assert people.edge.count("outbox", "order_key like %s and kind = 'start'", f"%{campaign}") == 1
    await people.review(campaign, "request_changes", note="Say what for.")
    seen = (await people.ask(people.owner, "GET", f"/v1/campaigns/{campaign}")).json()["data"]
    assert [(each["decision"], each["note"]) for each in seen["reviews"]] == [("request_changes", "Say what for.")]
    later = {"description": "For bread.", "deadline_at": days(60), "max_per_investor": None, "category": None}
    assert (await people.ask(people.owner, "PATCH", f"/v1/campaigns/{campaign}", later)).is_success
    await people.act(people.owner, f"/v1/campaigns/{campaign}/submit")
    await people.review(campaign, "approve", note=None)
    seen = (await people.ask(people.admin, "GET", f"/v1/campaigns/{campaign}")).json()["data"]
    assert [each["decision"] for each in seen["reviews"]] == ["request_changes", "approve"]
    assert {each["reviewer_id"] for each in seen["reviews"]} == {people.admin.id}
    assert [each["event"] for each in seen["timeline"]] == [
        "campaign_drafted", "campaign_edited", "campaign_submitted", "campaign_changes_requested", "campaign_edited",
        "campaign_submitted", "campaign_approved", "campaign_live",
    ]  # fmt: skip
    renamed = await people.ask(people.owner, "PATCH", f"/v1/campaigns/{campaign}", {"title": "Two ovens"})
    assert renamed.json()["data"]["title"] == "Two ovens"


async def test_drafts_and_reviews_are_not_for_everybody(people: People) -> None:
    hidden, live = [await people.draft(), await people.changes_requested()], await people.live()
    for campaign in hidden:
        for who in (people.owner, people.admin):
            assert (await people.ask(who, "GET", f"/v1/campaigns/{campaign}")).is_success
        for who in (people.investor, people.stranger):
            assert_problem(await people.ask(who, "GET", f"/v1/campaigns/{campaign}"), 404, "not_found")
    for status in EDITABLE:
        path = f"/v1/campaigns?status={status}&limit=100"
        assert (await people.ask(people.investor, "GET", path)).json()["data"] == []
        mine = {each["id"] for each in (await people.ask(people.owner, "GET", path)).json()["data"]}
        assert mine & {*hidden}
    assert (await people.ask(people.investor, "GET", f"/v1/campaigns/{live}")).json()["data"]["reviews"] is None


async def test_a_deleted_draft_is_gone_and_only_a_draft_can_be(people: People, database: Database) -> None:
    campaign, live = await people.draft(), await people.live()
    assert (await people.ask(people.owner, "DELETE", f"/v1/campaigns/{campaign}")).is_success
    assert_problem(await people.ask(people.owner, "GET", f"/v1/campaigns/{campaign}"), 404, "not_found")
    assert_problem(await people.ask(people.owner, "DELETE", f"/v1/campaigns/{campaign}"), 404, "not_found")
    assert people.edge.count("audit_log", "entity_id = %s and action = 'campaign.deleted'", campaign) == 1
    async with database.transaction(people.edge.scope) as tx:
        assert not await delete_draft(tx, live)
    with psycopg.connect(people.edge.settings.app_url) as connection:  # whatever a statement of ours might forget
        set_scope(connection, people.edge.scope)
        assert connection.execute("delete from campaigns where id = %s", (live,)).rowcount == 0


@pytest.mark.parametrize(
    "term", ["goal_minor = 1", "kind = 'keep_what_you_raise'", "success_floor_bps = 0", "country = 'GH'"]
)
async def test_no_statement_changes_the_terms_of_an_approved_campaign(people: People, term: str) -> None:
    campaign, draft = await people.live(), await people.draft()
    people.edge.sql(f"update campaigns set {term} where id = %s", draft)
    with pytest.raises(psycopg.errors.CheckViolation, match="are fixed"):
        people.edge.sql(f"update campaigns set {term} where id = %s", campaign)


async def test_a_moved_deadline_tells_the_owner_and_each_investor_once(people: People) -> None:
    campaign = await people.live()
    for _ in range(2):
        await people.act(people.investor, f"/v1/campaigns/{campaign}/invest", PLEDGE)
    moved = await people.act(people.owner, f"/v1/campaigns/{campaign}/deadline", {"deadline_at": days(45), **WHY})
    assert moved["deadline_extensions"] == 1 and moved["next_action_at"] is None
    [(occasion,)] = people.edge.sql(
        "select subject_id from notifications where template = 'campaign_deadline_owner' and user_id = %s "
        "order by created_at desc limit 1",
        people.owner.id,
    )
    told = people.edge.sql(
        "select user_id, template, params ->> 'amount_minor' from notifications where subject_id = %s order by template",
        occasion,
    )
    assert told == [
        (people.investor.id, "campaign_deadline", "1000"),
        (people.owner.id, "campaign_deadline_owner", "1000"),
    ]
    assert people.edge.count("outbox", "order_key like %s and kind = 'start'", f"notices/%{occasion}") == 1
    shorter = await people.act(people.admin, f"/v1/campaigns/{campaign}/deadline", {"deadline_at": days(2), **WHY})
    assert shorter["deadline_extensions"] == 1, "shortening is no extension"


async def test_updates_are_read_newest_first(people: People) -> None:
    campaign = await people.live()
    await people.act(people.investor, f"/v1/campaigns/{campaign}/invest", PLEDGE)
    made = [await people.act(people.owner, f"/v1/campaigns/{campaign}/updates", NEWS) for _ in range(3)]
    first = (await people.ask(people.investor, "GET", f"/v1/campaigns/{campaign}/updates?limit=2")).json()
    rest = (
        await people.ask(
            people.investor, "GET", f"/v1/campaigns/{campaign}/updates?cursor={first['meta']['next_cursor']}"
        )
    ).json()
    assert [*first["data"], *rest["data"]] == made[::-1]
    assert people.edge.count("notifications", "template = 'campaign_update' and subject_id = %s", made[0]["id"]) == 1


async def test_what_was_made_long_ago_is_not_made_again(people: People) -> None:
    """The same request after its answer is forgotten: no second campaign, pledge or update, and no error of ours."""
    campaign = f"/v1/campaigns/{await people.live()}"
    asked = [(people.owner, "/v1/campaigns", campaign_body()), (people.investor, f"{campaign}/invest", PLEDGE),
             (people.owner, f"{campaign}/updates", NEWS)]  # fmt: skip
    for who, path, body in asked:
        assert (await people.ask(who, "POST", path, body, "long-ago")).is_success
    before = [people.edge.count(table) for table in WRITTEN]
    people.edge.forget("long-ago")
    for who, path, body in asked:
        assert_problem(await people.ask(who, "POST", path, body, "long-ago"), 409, "already_done")
    assert [people.edge.count(table) for table in WRITTEN] == before


async def test_the_goal_wakes_the_process_once(people: People) -> None:
    goal = {"amount": 1_000, "currency": "NGN"}
    cap = {"amount": 5_000, "currency": "NGN"}
    campaign = await people.live(goal=goal, cap=cap, close_when_funded=True)
    for _ in range(4):
        await people.act(people.investor, f"/v1/campaigns/{campaign}/invest", PLEDGE)
    where = "order_key like %s and signal_name = 'funding_changed'"
    assert people.edge.count("outbox", where, f"%{campaign}") == 1
    patient = await people.live(goal=goal, cap=cap)
    for _ in range(2):
        await people.act(people.investor, f"/v1/campaigns/{patient}/invest", PLEDGE)
    assert people.edge.count("outbox", where, f"%{patient}") == 0
