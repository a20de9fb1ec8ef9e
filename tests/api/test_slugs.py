"""A campaign's address: made of its title, its own, and kept once it is out."""

import asyncio

import pytest

from infra.database import Database
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.feed import Feed
from tests.fixtures.hostile import campaign_body


@pytest.fixture
async def here(edge: Edge, database: Database) -> Feed:
    return Feed(edge, database)


async def test_slugs_are_made_of_titles_and_are_addresses(here: Feed) -> None:
    first = await here.act(here.owner, "/campaigns", campaign_body(draft=True, title="Ọdún titun: a 2nd Oven!"))
    second = await here.act(here.owner, "/campaigns", campaign_body(title="Odun Titun – a 2nd oven"))
    assert first["slug"] == "odun-titun-a-2nd-oven" and second["slug"].startswith("odun-titun-a-2nd-oven-")
    assert (await here.act(here.owner, "/campaigns", campaign_body(title="面包")))["slug"] == "campaign"
    for made in (first, second):
        headers = here.edge.headers(here.owner)
        read = (await here.edge.http.get(f"/v1/campaigns/{made['slug']}", headers=headers)).json()["data"]
        assert read["id"] == made["id"] and read["slug"] == made["slug"]
    renamed = await here.act(here.owner, f"/campaigns/{first['id']}", {"title": "Campaign"}, "PATCH")
    assert renamed["slug"].startswith("campaign-")
    live = await here.live(title="A third oven")
    kept = await here.act(here.owner, f"/campaigns/{live}", {"title": "Another name"}, "PATCH")
    assert (kept["title"], kept["slug"]) == ("Another name", "a-third-oven"), "an address that is out stays"
    stranger = here.edge.headers(here.investor)
    assert_problem(await here.edge.http.get(f"/v1/campaigns/{renamed['slug']}", headers=stranger), 404, "not_found")
    assert_problem(await here.edge.http.get("/v1/campaigns/no-such-thing", headers=stranger), 404, "not_found")
    at_once = await asyncio.gather(
        *(here.act(here.owner, "/campaigns", campaign_body(title="At once")) for _ in range(8))
    )
    assert len({made["slug"] for made in at_once}) == 8
