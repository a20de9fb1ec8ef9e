"""What an admin says of a person, and what a campaign asks of its investors."""

from typing import Any

import psycopg
import pytest

from tests.api.test_lifecycle import People
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import fill_wallet

PLEDGE = {"amount": 1_000, "currency": "NGN", "provider": "wallet"}


@pytest.fixture
async def people(edge: Edge) -> People:
    made = People(edge)
    await fill_wallet(edge, made.investor, 100_000)
    return made


async def verify(people: People, level: int, country: str | None) -> dict[str, Any]:
    path = f"/v1/admin/users/{people.investor.id}/verification"
    return await people.act(people.admin, path, {"kyc_level": level, "country": country, "reason": "passport seen"})


async def pledge(people: People, campaign: str) -> Any:
    return await people.ask(people.investor, "POST", f"/v1/campaigns/{campaign}/invest", PLEDGE)


async def test_a_campaign_takes_only_whom_it_asked_for(people: People) -> None:
    campaign = await people.live(min_kyc_level=2, countries=["NG", "GH"])
    assert_problem(await pledge(people, campaign), 409, "kyc_required")
    assert (await verify(people, 2, "KE"))["kyc_level"] == 2
    assert_problem(await pledge(people, campaign), 409, "country_not_allowed")
    await verify(people, 2, None)
    assert_problem(await pledge(people, campaign), 409, "country_not_allowed")
    seen = (await people.ask(people.investor, "GET", "/v1/campaigns/" + campaign)).json()["data"]
    assert (seen["min_kyc_level"], seen["countries"]) == (2, ["GH", "NG"])
    assert seen["pledged"]["amount"] == seen["held"]["amount"] == 0
    await verify(people, 2, "GH")
    assert (await pledge(people, campaign)).status_code == 202
    me = (await people.ask(people.investor, "GET", "/v1/users/me")).json()["data"]
    assert (me["kyc_level"], me["country"]) == (2, "GH")


async def test_only_admins_say_so_and_the_ground_is_kept(edge: Edge, people: People) -> None:
    path = f"/v1/admin/users/{people.investor.id}/verification"
    body = {"kyc_level": 3, "country": "NG", "reason": "passport seen"}
    assert_problem(await people.ask(people.investor, "POST", path, body), 403, "forbidden")
    assert_problem(
        await people.ask(people.admin, "POST", "/v1/admin/users/usr_none/verification", body), 404, "not_found"
    )
    for wrong in ({"kyc_level": 4}, {"kyc_level": -1}, {"country": "ng"}, {"country": "NGA"}, {"reason": ""}):
        answer = await people.ask(people.admin, "POST", path, body | wrong)
        problem = assert_problem(answer, 422, "invalid_request")
        assert [each["field"] for each in problem["errors"]] == [next(iter(wrong))]
    assert edge.sql("select kyc_level, country from users where id = %s", people.investor.id) == [(0, None)]
    await people.act(people.admin, path, body)
    kept = edge.sql(
        "select action, detail ->> 'reason' from audit_log where entity_id = %s order by id desc limit 1",
        people.investor.id,
    )
    assert kept == [("user.verified", "passport seen")]


async def test_what_is_asked_is_fixed_once_approved(edge: Edge, people: People) -> None:
    campaign = await people.draft(countries=["NG"])
    edited = await people.ask(
        people.owner, "PATCH", f"/v1/campaigns/{campaign}", {"countries": None, "min_kyc_level": 1}
    )
    assert (edited.json()["data"]["countries"], edited.json()["data"]["min_kyc_level"]) == (None, 1)
    live = await people.live(min_kyc_level=1)
    answer = await people.ask(people.owner, "PATCH", f"/v1/campaigns/{live}", {"min_kyc_level": 0})
    assert_problem(answer, 409, "terms_are_fixed")
    with pytest.raises(psycopg.errors.CheckViolation, match="are fixed"):
        edge.sql("update campaigns set min_kyc_level = 0 where id = %s", live)
