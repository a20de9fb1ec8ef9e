"""A refund that had succeeded is given back by the payer's bank, days later: the money is owed again, and somebody is told."""

import pytest

from cli.demo.world import CARD, Json, Person
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def returned(world: Stage) -> tuple[str, Person, Json]:
    """A canceled campaign whose only pledge was refunded, and whose bank gave that back: campaign, investor, pledge."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 50_000, "stripe", instrument=CARD)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    await world.admin.post(f"/v1/campaigns/{campaign}/cancel", {"reason": "The oven is sold."})
    await world.until(ada, f"/v1/investments/{made['id']}", "refunded")
    await world.until_rest()
    assert await world.taken("stripe") == [(50_000, 50_000)]
    await world.return_refund("stripe", 50_000)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    return campaign, ada, made


async def settlement_of(world: Stage, campaign: str) -> Json:
    [settlement] = await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements")
    return dict(settlement)


@STORIES.tell
async def it_is_asked_for_anew(world: Stage) -> None:
    campaign, ada, made = await returned(world)
    assert await world.taken("stripe") == [(50_000, 0)]
    cases = await world.admin.get("/v1/admin/cases")
    assert sorted(each["kind"] for each in cases) == ["failed_line", "failed_refund"]
    assert [each["detail"]["amount_minor"] for each in cases if each["kind"] == "failed_refund"] == [50_000]
    assert events(await world.investment(ada, made))[-2:] == ["refund_returned", "investment_captured"]
    settlement = await settlement_of(world, campaign)
    assert (settlement["done"], settlement["failed"], settlement["blocked_reason"]) == (0, 1, "failed_lines")
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] != []

    path = f"/v1/admin/settlements/{settlement['id']}/retry-failed-lines"
    assert (await world.admin.post(path))["requeued"] == 1
    await world.until(ada, f"/v1/investments/{made['id']}", "refunded")
    await world.until_rest()
    assert await world.taken("stripe") == [(50_000, 50_000)]
    assert await world.admin.get("/v1/admin/cases") == []
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] == []


@STORIES.tell
async def it_is_settled_by_another_way(world: Stage) -> None:
    campaign, ada, made = await returned(world)
    [case] = [each for each in await world.admin.get("/v1/admin/cases") if each["kind"] == "failed_refund"]
    await world.admin.post(f"/v1/admin/cases/{case['id']}/resolve", {"resolution": "Paid by cheque 17."})
    assert await world.admin.get("/v1/admin/cases") == []
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] == []
    settlement = await settlement_of(world, campaign)
    assert (settlement["failed"], settlement["blocked_reason"]) == (1, None)
    assert (await world.investment(ada, made))["status"] == "captured"


@STORIES.tell
async def it_was_no_pledges_money(world: Stage) -> None:
    """What was sent back because it was another amount waits in suspense again, for somebody to pay it out by another way."""
    campaign, ada = await world.campaign("keep_what_you_raise", goal=500_000), await world.person()
    await world.fault("stripe", "stripe.capture", "wrong_amount", amount=40_000)
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await world.event(ada, made, "refund_succeeded")
    await world.until_rest()
    await world.return_refund("stripe", 40_000)
    await world.event(ada, made, "refund_returned")
    assert (await world.investment(ada, made))["status"] == "failed"
    assert await world.taken("stripe") == [(40_000, 0)]
    [case] = await world.admin.get("/v1/admin/cases")
    assert (case["kind"], case["detail"]["amount_minor"]) == ("failed_refund", 40_000)
    assert len((await world.admin.get("/v1/admin/stuck"))["findings"]) == 1
    await world.admin.post(f"/v1/admin/cases/{case['id']}/resolve", {"resolution": "Paid by cheque 18."})
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] == []
