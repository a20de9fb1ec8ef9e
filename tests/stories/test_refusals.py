"""Bad input and other people's things: a specific answer each, and not one row of any table changed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from cli.demo.world import CARD, Json, Person
from cli.stack.stack import Stack
from tests.fixtures.stack import new_world
from tests.fixtures.stage import Stage

GOOD: Json = {"amount": 20_000, "currency": "NGN", "provider": "stripe", "instrument": CARD}


@dataclass
class Scene:
    """One tenant with a campaign in every state that refuses, one that takes pledges, and two investors."""

    world: Stage
    ada: Person
    bem: Person
    owner: Person
    open: str
    full: str
    closed: str
    unverified: str
    foreign: str
    deposit: str
    pledge: Json

    async def invest(self, campaign: str, body: Json | bytes, person: Person | None = None) -> httpx.Response:
        path = f"/v1/campaigns/{campaign}/invest"
        if isinstance(body, dict):
            return await (person or self.ada).call("POST", path, body)
        headers = {"Authorization": f"Bearer {self.ada.token}", "Idempotency-Key": "a-key-of-raw-bytes"}
        return await self.world.api.post(path, content=body, headers=headers | {"Content-Type": "application/json"})


@pytest.fixture(scope="module")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    world, other = await new_world(stack), await new_world(stack)
    await world.start_clock()
    ada, bem = await world.person(), await world.person()
    closed = await world.campaign("keep_what_you_raise", goal=100_000, days=1)
    await world.advance(days=1, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{closed}", "closed_failed")
    terms: dict[str, Any] = {
        "min_ticket": {"amount": 10_000, "currency": "NGN"},
        "max_per_investor": {"amount": 60_000, "currency": "NGN"},
        "cap": {"amount": 120_000, "currency": "NGN"},
    }
    taking = await world.campaign("all_or_nothing", goal=100_000, **terms)
    pledge = await world.held(ada, taking, 50_000)
    full = await world.campaign("all_or_nothing", goal=30_000)
    await world.held(bem, full, 30_000)
    owner = await world.person("business_owner")
    draft = {
        "title": "Not yet", "description": "Nobody looked at it.", "kind": "all_or_nothing",
        "goal": {"amount": 1_000, "currency": "NGN"},
        "deadline_at": (await world.business_now() + timedelta(days=5)).isoformat(),
    }  # fmt: skip
    unverified = (await owner.post("/v1/campaigns", draft))["id"]
    deposit = await ada.post(
        "/v1/deposits", {"amount": 5_000, "currency": "NGN", "provider": "stripe", "instrument": CARD}
    )
    await world.until(ada, f"/v1/payments/{deposit['id']}", "succeeded")
    foreign = await other.campaign("all_or_nothing", goal=100_000)
    await world.until_rest()
    await other.until_rest()
    yield Scene(world, ada, bem, owner, taking, full, closed, unverified, foreign, deposit["id"], pledge)
    await world.close()
    await other.close()


REFUSED: dict[str, tuple[str, Json | bytes, int, str]] = {
    "closed": ("closed", GOOD, 409, "campaign_closed"),
    "unverified": ("unverified", GOOD, 409, "campaign_not_verified"),
    "full": ("full", GOOD, 409, "campaign_full"),
    "another tenant's": ("foreign", GOOD, 404, "not_found"),
    "zero": ("open", GOOD | {"amount": 0}, 422, "invalid_request: amount greater_than_equal"),
    "negative": ("open", GOOD | {"amount": -20_000}, 422, "invalid_request: amount greater_than_equal"),
    "a fraction": ("open", GOOD | {"amount": 20_000.5}, 422, "invalid_request: amount int_type"),
    "a whole float": ("open", GOOD | {"amount": 20_000.0}, 422, "invalid_request: amount int_type"),
    "text": ("open", GOOD | {"amount": "20000"}, 422, "invalid_request: amount int_type"),
    "true": ("open", GOOD | {"amount": True}, 422, "invalid_request: amount int_type"),
    "beyond 2^53": ("open", GOOD | {"amount": 2**53}, 422, "invalid_request: amount less_than_equal"),
    "below the minimum": ("open", GOOD | {"amount": 9_999}, 422, "below_minimum"),
    "over the investor's limit": ("open", GOOD | {"amount": 10_001}, 409, "investor_limit"),
    "wrong currency": ("open", GOOD | {"currency": "USD"}, 422, "currency_mismatch"),
    "a currency the provider does not take": ("open", GOOD | {"currency": "JPY"}, 422, "currency_unsupported"),
    "no currency": ("open", GOOD | {"currency": "naira"}, 422, "invalid_request: currency string_pattern_mismatch"),
    "unknown provider": ("open", GOOD | {"provider": "cash"}, 422, "invalid_request: provider literal_error"),
    "a field too many": ("open", GOOD | {"amount_minor": 5}, 422, "invalid_request: body extra_forbidden"),
    "return_url of a stranger": (
        "open", GOOD | {"return_url": "https://app.demo.test.evil.example/done"}, 422, "return_url_not_allowed",
    ),
    "more than the wallet has": (
        "open", {"amount": 10_000, "currency": "NGN", "provider": "wallet"}, 409, "insufficient_funds",
    ),
    "NaN": ("open", b'{"amount": NaN, "currency": "NGN", "provider": "stripe"}', 400, "malformed_json"),
    "half a surrogate pair": (
        "open", b'{"amount": 20000, "currency": "NGN", "provider": "stripe", "instrument": "\\ud800"}', 400, "malformed_json",
    ),
    "NUL": (
        "open", b'{"amount": 20000, "currency": "NGN", "provider": "stripe", "instrument": "a\\u0000"}', 422, "invalid_text",
    ),
    "no JSON": ("open", b'{"amount": 20000', 400, "malformed_json"),
}  # fmt: skip


def _code(answer: httpx.Response) -> str:
    """The problem's code; of a field that breaks its own bounds also which field and which bound."""
    problem = answer.json()
    if problem["code"] != "invalid_request":
        return str(problem["code"])
    return "invalid_request: " + ", ".join(f"{each['field']} {each['code']}" for each in problem["errors"])


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_changes_no_row(scene: Scene, name: str) -> None:
    where, body, status, code = REFUSED[name]
    before = await scene.world.rows()
    answer = await scene.invest(getattr(scene, where), body)
    assert (answer.status_code, _code(answer)) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await scene.world.rows() == before


async def test_over_the_cap_changes_no_row(scene: Scene) -> None:
    """50,000 of 120,000 are taken; another investor may have 60,000, and then nobody 20,000."""
    second = await scene.world.held(scene.bem, scene.open, 60_000)
    await scene.world.until_rest()
    third = await scene.world.person()
    before = await scene.world.rows()
    answer = await scene.invest(scene.open, GOOD, third)
    assert (answer.status_code, answer.json()["code"]) == (409, "over_cap"), answer.text
    assert await scene.world.rows() == before
    await scene.world.cancel(scene.bem, second)
    await scene.world.until(scene.bem, f"/v1/investments/{second['id']}", "canceled")
    await scene.world.until_rest()


async def test_a_double_submit_is_one_pledge(scene: Scene) -> None:
    key, path = "the-button-was-pressed-twice", f"/v1/campaigns/{scene.open}/invest"
    first = await scene.bem.call("POST", path, GOOD, key)
    assert first.status_code == 202
    await scene.world.until(scene.bem, f"/v1/investments/{first.json()['data']['id']}", "held")
    await scene.world.until_rest()
    before = await scene.world.rows()
    second = await scene.bem.call("POST", path, GOOD, key)
    assert second.status_code == 202 and second.headers["idempotent-replayed"] == "true"
    assert second.json()["data"]["id"] == first.json()["data"]["id"]
    other = await scene.bem.call("POST", path, GOOD | {"amount": 20_001}, key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await scene.world.rows() == before
    assert [each["amount"] for each in await scene.world.book("stripe")].count(20_000) == 1


async def test_without_a_key_or_a_token_nothing_moves(scene: Scene) -> None:
    path, bearer = f"/v1/campaigns/{scene.open}/invest", {"Authorization": f"Bearer {scene.ada.token}"}
    before = await scene.world.rows()
    assert (await scene.world.api.post(path, json=GOOD, headers=bearer)).json()["code"] == "idempotency_key_missing"
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {scene.ada.token}"}):
        answer = await scene.world.api.post(path, json=GOOD, headers=headers | {"Idempotency-Key": "k"})
        assert answer.status_code == 401, answer.text
    assert await scene.world.rows() == before


async def test_other_peoples_things_do_not_exist(scene: Scene) -> None:
    """404, not 403: who may not see it does not learn that it is there."""
    pledge, payment = scene.pledge["id"], scene.pledge["payment_id"]
    before = await scene.world.rows()
    for person in (scene.bem, scene.owner):
        for method, path in (
            ("GET", f"/v1/investments/{pledge}"), ("POST", f"/v1/investments/{pledge}/cancel"),
            ("GET", f"/v1/payments/{payment}"), ("GET", f"/v1/payments/{scene.deposit}"),
            ("GET", f"/v1/campaigns/{scene.foreign}"),
        ):  # fmt: skip
            answer = await person.call(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert await scene.bem.get("/v1/investments?campaign_id=" + scene.open) == [] or all(
        each["investor_id"] == scene.bem.user_id for each in await scene.bem.get("/v1/investments")
    )
    assert await scene.world.rows() == before


async def test_what_a_role_may_not_do(scene: Scene) -> None:
    before = await scene.world.rows()
    ruling = {"outcome": "charged", "reason": "I would like that."}
    refused: list[tuple[Person, str, str, Json | None]] = [
        (scene.ada, "POST", f"/v1/admin/campaigns/{scene.unverified}/verify", {"decision": "approve"}),
        (scene.owner, "POST", f"/v1/admin/campaigns/{scene.unverified}/verify", {"decision": "approve"}),
        (scene.ada, "POST", f"/v1/admin/payments/{scene.pledge['payment_id']}/resolve-unknown", ruling),
        (scene.ada, "GET", "/v1/admin/cases", None),
        (scene.ada, "GET", "/v1/accounts", None),
        (scene.ada, "POST", "/v1/test-clock/advance", {"to": "2099-01-01T00:00:00Z"}),
        (scene.world.admin, "POST", f"/v1/campaigns/{scene.open}/invest", GOOD),
    ]
    for person, method, path, body in refused:
        answer = await person.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
    assert await scene.world.rows() == before


async def test_another_tenants_admin_sees_nothing(scene: Scene, world: Stage) -> None:
    before = await scene.world.rows()
    verify = {"decision": "approve"}
    for method, path, body in (
        ("GET", f"/v1/investments/{scene.pledge['id']}", None),
        ("POST", f"/v1/investments/{scene.pledge['id']}/cancel", None),
        ("GET", f"/v1/payments/{scene.pledge['payment_id']}", None),
        ("POST", f"/v1/admin/campaigns/{scene.unverified}/verify", verify),
        ("GET", f"/v1/campaigns/{scene.open}", None),
    ):
        answer = await world.admin.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for path in ("/v1/investments", "/v1/payments", "/v1/campaigns", "/v1/admin/cases", "/v1/accounts"):
        assert await world.admin.get(path) == [], path
    assert await scene.world.rows() == before
