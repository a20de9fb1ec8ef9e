"""What dashboards and statements say of a year with a distribution, a refund that failed, and a pledge still held."""

from datetime import timedelta

import pytest

from tests.fixtures.stage import Stage
from tests.fixtures.stories import Stories, Told
from tests.stories.test_distributions import LAGOS, Fund

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_year_at_ten_percent(world: Stage) -> None:
    """NGN 3,000.00 bring NGN 300.00 after a year: holdings, returns, obligations and the statement say the same."""
    fund = await Fund.raised(world, 300_000, 100_000)
    ada, owner = fund.holders[0], fund.owner
    dashboard = f"/v1/users/{ada.user_id}/dashboard"
    first = await ada.get(dashboard)
    assert first["totals"]["NGN"]["invested"]["amount"] == 300_000 and first["totals"]["NGN"]["earned"]["amount"] == 0
    captured = (await world.business_now()).astimezone(LAGOS).date() - timedelta(days=2)
    await world.advance(days=364)
    run = await fund.declare(80_000, days=300)
    await fund.approved(run)
    await world.until_true(
        lambda: ada.get(dashboard), lambda seen: seen["upcoming"] != [], "the distribution is announced"
    )
    seen = await ada.get(dashboard)
    assert [(each["kind"], each["amount"]["amount"]) for each in seen["upcoming"]] == [("distribution", 30_000)]
    owed = await owner.get(f"/v1/users/{owner.user_id}/dashboard")
    assert [(each["distribution_id"], each["amount"]["amount"]) for each in owed["obligations"]] == [
        (run["id"], 40_000)
    ]
    (mine,) = owed["campaigns"]
    assert (mine["progress_bps"], mine["investors"], mine["sources"]) == (10_000, 2, {"stripe": 400_000})
    await world.deposit(owner, 40_000)
    await owner.post(fund.at(run, "/fund"))
    await fund.until(run, "paid")
    seen = await ada.get(dashboard)
    (holding,) = seen["holdings"]
    assert holding["campaign_id"] == fund.campaign and seen["upcoming"] == []
    for figures in (holding, seen["totals"]["NGN"]):
        assert (figures["paid_in"]["amount"], figures["earned"]["amount"]) == (300_000, 30_000)
        assert float(figures["total_return"]) == 0.1
        assert 0.095 < float(figures["yearly_return"]) < 0.1, "a little more than a year"
    today = (await world.business_now()).astimezone(LAGOS).date()
    statement = await ada.get(f"/v1/statements/NGN?from={captured}&to={captured + timedelta(days=365)}")
    assert [(each["event"], each["amount"]["amount"]) for each in statement["investments"]] == [
        ("investment_captured", -300_000)
    ]
    after = await ada.get(f"/v1/statements/NGN?from={today - timedelta(days=3)}&to={today}")
    assert [(each["event"], each["amount"]["amount"]) for each in after["movements"]] == [
        ("distribution_credited", 30_000)
    ]
    assert after["closing"]["amount"] == await world.wallet(ada) == 30_000 and after["invested"]["amount"] == 300_000
    counts = await world.admin.get("/v1/admin/dashboard")
    assert counts["distributions"] == {"paid": 1} and counts["money"]["NGN"]["captured"] == 400_000
    stranger = await fund.holders[1].call("GET", dashboard)
    assert stranger.status_code == 404, "another's dashboard does not exist"
