"""The release of a campaign's money at the edge, without Temporal: who may ask, what is refused, and what refusals leave."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from contracts.base import Mode, Scope
from infra.database import Database
from models.audit import audit_books
from models.user import Role, User
from tests.api.test_payouts import payee
from tests.api.test_webhooks import add_account
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import campaign_body, fill_wallet
from tests.fixtures.postgres import add_tenant

SHOWN_ON_READING = ("timeline", "reviews", "warnings")
PARTS = [{"title": "Oven", "share_bps": 4_000, "due_days": 10}, {"title": "Bread", "share_bps": 6_000, "due_days": 20}]
RAISED = 900_000
EVIDENCE = {"evidence": "A photograph.", "destination": "wallet"}


@pytest.fixture(autouse=True)
def tenant(edge: Edge) -> None:
    edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    add_account(edge, "paystack", edge.scope)


async def call(
    edge: Edge, user: User, path: str, body: Any = None, method: str = "POST", key: str = ""
) -> httpx.Response:
    return await edge.http.request(method, f"/v1{path}", json=body, headers=edge.headers(user, key or uuid4().hex))


async def wrong_books(edge: Edge) -> list[str]:
    """What the auditor finds in the tenant's books."""
    auditor = Database(edge.settings.role_url("chama_audit"), name="audit", max_size=1)
    await auditor.open()
    async with auditor.transaction() as tx:
        found = [str(each) for each in await audit_books(tx)]
    await auditor.close()
    return [each for each in found if str(edge.scope.tenant_id) in each]


class Raised:
    """A funded campaign of wallet pledges, as its process would leave it."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.owner, self.admin = edge.user(Role.BUSINESS_OWNER), edge.user(Role.ADMIN)
        self.holders = [edge.user(), edge.user()]
        self.id = ""

    @classmethod
    async def make(cls, edge: Edge, milestones: Any = PARTS, *, funded: bool = True, fee_bps: int = 100) -> "Raised":
        made = cls(edge)
        body = campaign_body(kind="keep_what_you_raise", milestones=milestones)
        answer = await call(edge, made.owner, "/campaigns", body)
        assert answer.status_code == 201, answer.text
        made.id = answer.json()["data"]["id"]
        review = {"decision": "approve", "platform_fee_bps": fee_bps}
        assert (await call(edge, made.admin, f"/admin/campaigns/{made.id}/verify", review)).is_success
        for holder, amount in zip(made.holders, (RAISED * 2 // 3, RAISED // 3), strict=True):
            await fill_wallet(edge, holder, amount)
            pledge = {"amount": amount, "currency": "NGN", "provider": "wallet"}
            answer = await call(edge, holder, f"/campaigns/{made.id}/invest", pledge)
            assert answer.status_code == 202 and answer.json()["data"]["status"] == "captured", answer.text
        if funded:
            edge.sql("update campaigns set status = 'funded', next_action_at = null where id = %s", made.id)
        return made

    async def post(
        self, who: User, verb: str, body: Any = None, *, number: int | None = 1, key: str = ""
    ) -> httpx.Response:
        """`verb` may begin with `admin/`."""
        admin, _, plain = verb.rpartition("/")
        at = "" if number is None else f"/milestones/{number}"
        path = f"/{admin + '/' if admin else ''}campaigns/{self.id}{at}/{plain}"
        return await call(self.edge, who, path, body, key=key)

    async def seen(self, who: User | None = None) -> dict[str, Any]:
        answer = await call(self.edge, who or self.owner, f"/campaigns/{self.id}/milestones", method="GET")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]
        return found

    def balance(self, code: str) -> int:
        """What a liability account holds."""
        rows = self.edge.sql(
            "select coalesce(-sum(b.posted_minor), 0)::bigint from ledger_accounts a join ledger_balances b"
            " on (b.tenant_id, b.mode, b.account_id) = (a.tenant_id, a.mode, a.id) where a.tenant_id = %s and a.code = %s",
            self.edge.scope.tenant_id, code,
        )  # fmt: skip
        return int(rows[0][0])


async def test_a_tranche_from_evidence_to_the_wallet(edge: Edge) -> None:
    raised = await Raised.make(edge)
    answer = await raised.post(raised.owner, "evidence", EVIDENCE)
    assert answer.status_code == 202, answer.text
    assert [each["status"] for each in answer.json()["data"]["tranches"]] == ["submitted", "open"]
    answer = await raised.post(raised.admin, "admin/approve")
    data = answer.json()["data"]
    assert answer.status_code == 202, answer.text
    first = data["tranches"][0]
    assert (first["status"], first["amount"]["amount"], first["fee"]["amount"]) == ("released", 360_000, 3_600)
    assert (data["released"]["amount"], data["in_escrow"]["amount"], data["unsent"]["amount"]) == (360_000, 540_000, 0)
    cmp = raised.id
    books = [raised.balance(code) for code in (f"escrow:{cmp}:NGN", f"proceeds:{cmp}:NGN", "platform_fees:NGN",
                                               f"wallet:{raised.owner.id}:NGN")]  # fmt: skip
    assert books == [540_000, 0, 3_600, 356_400]
    assert edge.count("outbox", "workflow_type = 'MilestoneWorkflow'") == 2, "its process looks after each"
    public = (await raised.seen(raised.holders[0]))["tranches"][0]
    assert (public["destination"], public["payout"], public["note"]) == (None, None, None)
    assert public["evidence"] == "A photograph."


async def test_rejected_evidence_may_be_mended(edge: Edge) -> None:
    raised = await Raised.make(edge)
    await raised.post(raised.owner, "evidence", EVIDENCE)
    answer = await raised.post(raised.admin, "admin/reject", {"note": "Too dark."})
    tranche = answer.json()["data"]["tranches"][0]
    assert (answer.status_code, tranche["status"], tranche["note"]) == (200, "open", "Too dark.")
    assert_problem(await raised.post(raised.admin, "admin/approve"), 409, "milestone_not_submitted")
    assert (await raised.post(raised.owner, "evidence", EVIDENCE)).status_code == 202
    assert (await raised.post(raised.admin, "admin/approve")).status_code == 202


async def test_who_may_not(edge: Edge) -> None:
    raised = await Raised.make(edge)
    stranger, investor = edge.user(Role.BUSINESS_OWNER), raised.holders[0]
    assert_problem(await raised.post(stranger, "evidence", EVIDENCE), 404, "not_found")
    assert_problem(await raised.post(investor, "evidence", EVIDENCE), 403, "forbidden")
    assert_problem(await raised.post(raised.admin, "evidence", EVIDENCE), 403, "forbidden")
    await raised.post(raised.owner, "evidence", EVIDENCE)
    for verb, body in (("admin/approve", None), ("admin/reject", {"note": "No."})):
        assert_problem(await raised.post(raised.owner, verb, body), 403, "forbidden")
    edge.sql("update users set role = 'admin' where id = %s", raised.owner.id)
    promoted = raised.owner.model_copy(update={"role": Role.ADMIN})
    for verb, body in (("admin/approve", None), ("admin/reject", {"note": "No."})):
        assert_problem(await raised.post(promoted, verb, body), 403, "cannot_approve_own")
    assert raised.balance(f"escrow:{raised.id}:NGN") == RAISED, "nothing has moved"


async def test_nothing_is_released_twice_or_too_early(edge: Edge) -> None:
    raised = await Raised.make(edge)
    assert_problem(await raised.post(raised.admin, "admin/approve"), 409, "milestone_not_submitted")
    early = {"destination": "wallet", "milestone": 2}
    assert_problem(await raised.post(raised.owner, "payouts", early, number=None), 409, "milestone_not_approved")
    assert_problem(await raised.post(raised.owner, "evidence", EVIDENCE, number=3), 404, "not_found")
    await raised.post(raised.owner, "evidence", EVIDENCE)
    assert_problem(await raised.post(raised.owner, "evidence", EVIDENCE), 409, "milestone_not_open")
    await raised.post(raised.admin, "admin/approve")
    assert_problem(await raised.post(raised.admin, "admin/approve"), 409, "milestone_not_submitted")
    again = await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None)
    assert_problem(again, 409, "tranche_released")
    assert_problem(await raised.post(raised.holders[0], "votes", {"choice": "refund"}), 409, "no_vote")
    assert_problem(await raised.post(raised.owner, "complete", number=None), 409, "tranche_open")
    assert raised.balance(f"wallet:{raised.owner.id}:NGN") == 356_400


async def test_before_it_is_funded(edge: Edge) -> None:
    raised = await Raised.make(edge, funded=False)
    before = edge.count("outbox")
    assert_problem(await raised.post(raised.owner, "evidence", EVIDENCE), 409, "campaign_not_funded")
    assert_problem(await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None), 409,
                   "campaign_not_funded")  # fmt: skip
    assert_problem(await raised.post(raised.holders[0], "votes", {"choice": "refund"}), 409, "campaign_not_funded")
    assert_problem(await raised.post(raised.admin, "complete", number=None), 409, "campaign_not_funded")
    answer = await call(edge, raised.owner, f"/campaigns/{raised.id}/milestones", method="GET")
    assert_problem(answer, 404, "not_found")
    assert (edge.count("tranches"), edge.count("outbox")) == (0, before)


async def test_where_the_money_may_go(edge: Edge) -> None:
    raised = await Raised.make(edge, None)
    for beneficiary in ("ben_nobody", await payee(edge, raised.holders[0])):
        answer = await raised.post(raised.owner, "payouts", {"destination": beneficiary}, number=None)
        assert_problem(answer, 404, "not_found")
    pending = await payee(edge, raised.owner, "pending")
    answer = await raised.post(raised.owner, "payouts", {"destination": pending}, number=None)
    assert_problem(answer, 409, "beneficiary_not_verified")
    assert_problem(await raised.post(raised.owner, "payouts", {}, number=None), 422, "invalid_request")
    assert raised.balance(f"escrow:{raised.id}:NGN") == RAISED, "nothing has moved"
    mine = await payee(edge, raised.owner)
    answer = await raised.post(raised.owner, "payouts", {"destination": mine}, number=None)
    assert answer.status_code == 202, answer.text
    (tranche,) = answer.json()["data"]["tranches"]
    assert tranche["payout"]["status"] == "approved" and tranche["unsent"]["amount"] == 0
    assert edge.count("outbox", "workflow_type = 'PayoutWorkflow'") == 1
    answer = await call(edge, raised.owner, f"/payouts/{tranche['payout']['id']}/cancel")
    assert answer.status_code == 200
    (tranche,) = (await raised.seen())["tranches"]
    assert (tranche["payout"]["status"], tranche["unsent"]["amount"]) == ("canceled", 891_000)
    assert (await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None)).status_code == 202
    assert raised.balance(f"wallet:{raised.owner.id}:NGN") == 891_000


async def test_an_account_disabled_before_the_approval_leaves_the_money_with_its_owner(edge: Edge) -> None:
    raised = await Raised.make(edge)
    mine = await payee(edge, raised.owner)
    await raised.post(raised.owner, "evidence", {**EVIDENCE, "destination": mine})
    edge.sql("update beneficiaries set status = 'disabled' where id = %s", mine)
    tranche = (await raised.post(raised.admin, "admin/approve")).json()["data"]["tranches"][0]
    assert (tranche["status"], tranche["payout"], tranche["unsent"]["amount"]) == ("released", None, 356_400)
    assert (await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None)).status_code == 202
    assert raised.balance(f"wallet:{raised.owner.id}:NGN") == 356_400


async def test_a_key_of_long_ago_sends_another_campaigns_money_by_itself(edge: Edge) -> None:
    """Were the payout's id the key's alone, the second tranche would take the first one's payout for its own."""
    first, second = await Raised.make(edge), await Raised.make(edge)
    payouts = []
    for raised in (first, second):
        mine = await payee(edge, raised.owner)
        await raised.post(raised.owner, "evidence", {**EVIDENCE, "destination": mine})
        edge.forget("approve")
        answer = await raised.post(first.admin, "admin/approve", key="approve")
        tranche = answer.json()["data"]["tranches"][0]
        assert (answer.status_code, tranche["unsent"]["amount"]) == (202, 0), answer.text
        payouts.append(tranche["payout"]["id"])
    rows = edge.sql("select id, owner_id, source_account from payouts order by created_at")
    assert rows == [(payouts[n], each.owner.id, f"proceeds:{each.id}:NGN") for n, each in enumerate((first, second))]
    assert edge.count("notifications", "template = 'milestone_released_owner'") == 2
    assert await wrong_books(edge) == []


async def test_what_was_sent_long_ago_is_not_said_to_be_sent_again(edge: Edge) -> None:
    raised = await Raised.make(edge, None)
    body = {"destination": await payee(edge, raised.owner)}
    answer = await raised.post(raised.owner, "payouts", body, number=None, key="send")
    payout = answer.json()["data"]["tranches"][0]["payout"]["id"]
    assert (await call(edge, raised.owner, f"/payouts/{payout}/cancel")).status_code == 200
    edge.forget("send")
    assert_problem(await raised.post(raised.owner, "payouts", body, number=None, key="send"), 409, "already_done")
    answer = await raised.post(raised.owner, "payouts", body, number=None, key="send-again")
    assert answer.json()["data"]["tranches"][0]["payout"]["id"] != payout and edge.count("payouts") == 2


async def test_without_a_second_person_a_large_release_waits_for_one(edge: Edge) -> None:
    """An approved milestone was seen by a second person; the one tranche of a campaign without milestones was not."""
    edge.sql("update tenant_settings set payout_approval_minor = 1000")
    plain, staged = await Raised.make(edge, None), await Raised.make(edge)
    answer = await plain.post(plain.owner, "payouts", {"destination": await payee(edge, plain.owner)}, number=None)
    assert answer.json()["data"]["tranches"][0]["payout"]["status"] == "awaiting_approval"
    await staged.post(staged.owner, "evidence", {**EVIDENCE, "destination": await payee(edge, staged.owner)})
    answer = await staged.post(staged.admin, "admin/approve")
    assert answer.json()["data"]["tranches"][0]["payout"]["status"] == "approved"


async def test_a_campaign_is_completed_when_nothing_is_open(edge: Edge) -> None:
    raised = await Raised.make(edge, None)
    assert_problem(await raised.post(raised.admin, "complete", number=None), 409, "tranche_open")
    await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None)
    yesterday = f"{(datetime.now(UTC) - timedelta(days=2)).date()}"
    run = {"declared_profit": {"amount": 100, "currency": "NGN"}, "evidence": "Books.", "period_start": yesterday,
           "period_end": yesterday, "record_date": yesterday}  # fmt: skip
    made = (await raised.post(raised.owner, "distributions", run, number=None)).json()["data"]
    assert_problem(await raised.post(raised.owner, "complete", number=None), 409, "distribution_open")
    answer = await call(
        edge, raised.owner, f"/campaigns/{raised.id}/distributions/{made['id']}/cancel", {"reason": "No."}
    )
    assert answer.status_code == 200, answer.text
    assert_problem(await raised.post(edge.user(Role.BUSINESS_OWNER), "complete", number=None), 404, "not_found")
    answer = await raised.post(raised.owner, "complete", number=None)
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "completed")
    assert_problem(await raised.post(raised.owner, "complete", number=None), 409, "campaign_completed")
    assert_problem(await raised.post(raised.owner, "distributions", run, number=None), 409, "campaign_completed")


def changed(**first: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in (PARTS[0] | first).items() if value is not None}, PARTS[1]]


@pytest.mark.parametrize(
    ("milestones", "code"),
    [
        (changed(share_bps=4_001), "invalid_milestones"),
        (changed(due_days=None), "invalid_milestones"),
        (changed(due_at="2026-01-01T00:00:00Z", due_days=None), "invalid_milestones"),
        (changed(due_at="2099-01-01T00:00:00Z"), "invalid_milestones"),
        (changed(due_days=None, due_at="9999-12-31T00:00:00Z"), "invalid_milestones"),
        (PARTS[:1], "invalid_request"),
        ([PARTS[0]] * 21, "invalid_request"),
        (changed(share_bps=0), "invalid_request"),
        (changed(share_bps="4000"), "invalid_request"),
        (changed(due_days=True), "invalid_request"),
        (changed(amount=1), "invalid_request"),
        ([], "invalid_request"),
    ],
)
async def test_milestones_are_refused(edge: Edge, milestones: Any, code: str) -> None:
    answer = await call(edge, edge.user(Role.BUSINESS_OWNER), "/campaigns", campaign_body(milestones=milestones))
    assert_problem(answer, 422, code)
    assert not edge.count("campaigns")


async def test_terms_of_release_are_kept_shown_and_fixed(edge: Edge) -> None:
    owner, admin = edge.user(Role.BUSINESS_OWNER), edge.user(Role.ADMIN)
    edge.sql("update tenant_settings set platform_fee_bps = 250")
    year = datetime.now(UTC).year + 3
    body = campaign_body(milestones=PARTS, profit_until=f"{year}-12-31", draft=True)
    made = (await call(edge, owner, "/campaigns", body)).json()["data"]
    assert made["platform_fee_bps"] == 250 and made["profit_until"] == f"{year}-12-31"
    path = f"/campaigns/{made['id']}"
    for never in ("2020-01-01", "9999-12-31"):
        refused = await call(edge, owner, path, {"profit_until": never}, method="PATCH")
        assert assert_problem(refused, 422, "invalid_profit_until")["errors"][0]["field"] == "profit_until"
    dated = [
        {"title": "Oven", "share_bps": 5_000, "due_at": f"{year}-01-01T02:00:00+02:00"},
        changed(share_bps=5_000)[0],
    ]
    edited = (await call(edge, owner, path, {"milestones": dated}, method="PATCH")).json()["data"]
    assert edited["milestones"][0] == {"title": "Oven", "due_at": f"{year}-01-01T00:00:00Z", "due_days": None,
                                       "share_bps": 5_000}  # fmt: skip
    read = (await call(edge, owner, path, method="GET")).json()["data"]
    assert {name: read[name] for name in edited if name not in SHOWN_ON_READING} == {
        name: value for name, value in edited.items() if name not in SHOWN_ON_READING
    }
    await call(edge, owner, f"{path}/submit")
    verified = await call(edge, admin, f"/admin{path}/verify", {"decision": "approve", "platform_fee_bps": 300})
    assert verified.json()["data"]["platform_fee_bps"] == 300
    assert_problem(await call(edge, owner, path, {"milestones": None}, method="PATCH"), 409, "terms_are_fixed")
    for change in ("milestones = null", "platform_fee_bps = 0", "profit_until = null"):
        with pytest.raises(Exception, match="are fixed"):
            edge.sql(f"update campaigns set {change} where id = %s", made["id"])


async def test_what_was_planned_or_paid_cannot_be_changed_by_any_statement(edge: Edge) -> None:
    raised = await Raised.make(edge)
    await raised.post(raised.owner, "evidence", EVIDENCE)
    await raised.post(raised.admin, "admin/approve")
    for change in ("amount_minor = amount_minor + 1", "fee_minor = 0", "share_bps = 1"):
        with pytest.raises(Exception, match="is fixed"):
            edge.sql(f"update tranches set {change} where campaign_id = %s", raised.id)
    with pytest.raises(Exception, match="is fixed"):
        edge.sql(
            "update tranches set status = 'open', released_at = null where campaign_id = %s and number = 1", raised.id
        )


async def test_the_owners_dashboard_shows_where_the_money_is(edge: Edge) -> None:
    raised = await Raised.make(edge)

    async def seen() -> tuple[dict[str, int], list[tuple[int, str, int]]]:
        answer = await call(edge, raised.owner, f"/users/{raised.owner.id}/dashboard", method="GET")
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        (campaign,) = data["campaigns"]
        money = {name: campaign[name]["amount"] for name in ("in_escrow", "released", "returned", "unsent")}
        return money, [(each["number"], each["status"], each["unsent"]["amount"]) for each in data["tranches"]]

    assert await seen() == ({"in_escrow": RAISED, "released": 0, "returned": 0, "unsent": 0}, []), "not planned yet"
    mine = await payee(edge, raised.owner)
    await raised.post(raised.owner, "evidence", {**EVIDENCE, "destination": mine})
    escrow = {"in_escrow": RAISED, "released": 0, "returned": 0, "unsent": 0}
    assert await seen() == (escrow, [(1, "submitted", 0), (2, "open", 0)])
    edge.sql("update beneficiaries set status = 'disabled' where id = %s", mine)
    await raised.post(raised.admin, "admin/approve")
    released = {"in_escrow": 540_000, "released": 360_000, "returned": 0, "unsent": 356_400}
    assert await seen() == (released, [(1, "released", 356_400), (2, "open", 0)])
    await raised.post(raised.owner, "payouts", {"destination": "wallet"}, number=None)
    assert await seen() == ({**released, "unsent": 0}, [(2, "open", 0)])


async def test_of_many_who_release_at_once_one_does(edge: Edge) -> None:
    """Twelve requests with keys of their own: the money leaves the escrow once, and goes one way."""
    plain, staged = await Raised.make(edge, None), await Raised.make(edge)
    mine = await payee(edge, plain.owner)
    bodies = [{"destination": mine if turn % 2 else "wallet"} for turn in range(12)]
    answers = await asyncio.gather(*(plain.post(plain.owner, "payouts", body, number=None) for body in bodies))
    assert sorted(each.status_code for each in answers) == [202] + [409] * 11
    assert {each.json()["code"] for each in answers if each.status_code == 409} == {"tranche_released"}
    assert plain.balance(f"escrow:{plain.id}:NGN") == 0
    await staged.post(staged.owner, "evidence", EVIDENCE)
    verbs = [("admin/approve", None), ("admin/reject", {"note": "No."})] * 6
    answers = await asyncio.gather(*(staged.post(staged.admin, verb, body) for verb, body in verbs))
    assert [each.status_code < 400 for each in answers].count(True) == 1
    first = (await staged.seen())["tranches"][0]["status"]
    assert (staged.balance(f"escrow:{staged.id}:NGN"), first) in ((540_000, "released"), (RAISED, "open"))
