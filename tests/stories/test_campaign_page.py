"""A campaign's page on the running stack: found by what it is, seen with its cover, its owner warned in time."""

import os
from io import BytesIO

import pytest
from PIL import Image

from cli.demo.world import Json, Person
from tests.fixtures.stage import Stage
from tests.fixtures.stories import Stories, Told

STORIES = Stories()


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


@STORIES.tell
async def an_owner_is_warned_in_time(world: Stage) -> None:
    """Nobody invests for a week: mail, campaign, dashboard and the admins' list say so, until somebody does."""
    await world.start_clock()
    owner, ada = await world.person("business_owner"), await world.person()
    campaign = await world.campaign("all_or_nothing", goal=300_000, days=40, owner=owner)
    await world.deposit(ada, 300_000)
    await world.advance(days=8)
    assert await _warned(world, owner, campaign, ["no_activity"])
    await world.mailed(owner, "Nobody has invested")
    (listed,) = await world.admin.get("/v1/admin/warnings")
    assert (listed["campaign_id"], listed["kind"]) == (campaign, "no_activity")
    dashboard = await owner.get(f"/v1/users/{owner.user_id}/dashboard")
    assert [each["warnings"] for each in dashboard["campaigns"]] == [["no_activity"]]
    assert (await ada.get(f"/v1/campaigns/{campaign}"))["warnings"] is None
    await world.invest(ada, campaign, 300_000, "wallet")
    assert await _warned(world, owner, campaign, [])
    await world.advance(days=45)
    seen = await world.until(owner, f"/v1/campaigns/{campaign}", "funded")
    assert seen["warnings"] == []
    assert len([each for each in await world.mails(owner) if "Nobody has invested" in each]) == 1


@STORIES.tell
async def a_cover_is_sent_and_seen(world: Stage) -> None:
    """A megabyte of noise, through a real server; and the campaign found by category and country."""
    owner, ada = await world.person("business_owner"), await world.person()
    campaign = await world.campaign("all_or_nothing", goal=300_000, owner=owner, category="food", country="NG")
    sent = BytesIO()
    Image.frombytes("RGB", (700, 600), os.urandom(700 * 600 * 3)).save(sent, "PNG")
    assert len(sent.getvalue()) > 1_000_000
    path = f"/v1/campaigns/{campaign}/cover"

    def token(person: Person, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {person.token}", **more}

    answer = await owner.http.put(path, content=sent.getvalue(), headers=token(owner))
    assert answer.status_code == 200, answer.text
    stranger = await owner.http.put(path, content=sent.getvalue(), headers=token(ada))
    assert stranger.status_code == 403
    too_large = await owner.http.put(path, content=sent.getvalue() * 5, headers=token(owner))
    assert too_large.status_code == 413
    (found,) = await ada.get("/v1/campaigns?category=food&country=NG&q=bakery")
    assert found["id"] == campaign and found["cover"] == answer.json()["data"]["cover"]
    assert await ada.get("/v1/campaigns?category=food&country=GH") == []
    seen = await ada.http.get(found["cover"]["320"], headers=token(ada))
    assert Image.open(BytesIO(seen.content)).size == (320, 274) and "immutable" in seen.headers["cache-control"]
    tag = {"If-None-Match": seen.headers["etag"]}
    assert (await ada.http.get(found["cover"]["320"], headers=token(ada, **tag))).status_code == 304


async def _warned(world: Stage, owner: Person, campaign: str, kinds: list[str]) -> bool:
    """Wait until the owner is warned of just that: the relay looks every second or so."""

    def as_expected(seen: Json) -> bool:
        return [each["kind"] for each in seen["warnings"]] == kinds

    path = f"/v1/campaigns/{campaign}"
    await world.until_true(lambda: owner.get(path), as_expected, f"warnings {kinds}", 30)
    return True
