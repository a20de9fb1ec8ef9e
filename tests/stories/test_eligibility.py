"""A pledge whose investor is not eligible any more when the campaign has succeeded."""

import pytest

from tests.fixtures.stage import Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def a_verification_is_withdrawn_before_the_capture(world: Stage) -> None:
    """Bem's level falls below what the campaign asks: his card is released, Ada's captured, the campaign stays funded."""
    await world.start_clock()
    ada, bem = await world.person(), await world.person()
    for person in (ada, bem):
        body = {"kyc_level": 2, "country": "NG", "reason": "passport seen"}
        await world.admin.post(f"/v1/admin/users/{person.user_id}/verification", body)
    campaign = await world.campaign("all_or_nothing", goal=1_000_000, days=2, min_kyc_level=2, countries=["NG"])
    good, bad = await together(world.held(ada, campaign, 950_000), world.held(bem, campaign, 50_000))
    withdrawn = {"kyc_level": 1, "country": "NG", "reason": "the passport was reported lost"}
    await world.admin.post(f"/v1/admin/users/{bem.user_id}/verification", withdrawn)
    await world.advance(days=2, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
    await world.until(ada, f"/v1/investments/{good['id']}", "captured")
    seen = await world.until(bem, f"/v1/investments/{bad['id']}", "canceled")
    assert "investor_not_eligible" in events(seen)
    assert await world.counters(campaign) == (0, 0, 950_000)
    assert await world.taken("stripe") == [(950_000, 0)]
    assert await world.cases() == []
