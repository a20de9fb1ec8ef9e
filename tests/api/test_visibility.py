"""Who sees a campaign: the one rule, in the domain and in SQL, and the list, the detail and the stream that follow it."""

from collections.abc import AsyncIterator

import pytest

from api.auth import Principal
from api.streams import Streams
from domain.campaign import CampaignStatus, is_public
from domain.errors import NotFound
from infra.database import Database
from models.user import User
from tests.fixtures.api import Edge
from tests.fixtures.feed import Feed
from tests.fixtures.hostile import campaign_body

C = CampaignStatus
HIDDEN = {C.DRAFT, C.SUBMITTED, C.CHANGES_REQUESTED, C.REJECTED}
GIVEN_UP = {C.CANCELED, C.REFUNDING, C.CLOSED_FAILED}


@pytest.fixture
async def here(edge: Edge, database: Database) -> AsyncIterator[Feed]:
    yield Feed(edge, database)


async def seen_by(here: Feed, who: User, campaign: str) -> dict[str, bool]:
    """Whether `who` finds the campaign, by each way there is."""
    read = await here.edge.http.get(f"/v1/campaigns/{campaign}", headers=here.edge.headers(who))
    assert read.status_code in (200, 404)
    slug = here.sql("select slug from campaigns where id = %s", campaign)[0][0]
    by_slug = await here.edge.http.get(f"/v1/campaigns/{slug}", headers=here.edge.headers(who))
    streams: Streams = here.edge.app.state.streams
    try:
        stream = await streams.open(Principal(who.id, who.role, here.scope), campaign, None)
        stream._left()
        watched = True
    except NotFound:
        watched = False
    return {
        "list": campaign in {row["id"] for row in await here.rows("", who)},
        "detail": read.status_code == 200,
        "slug": by_slug.status_code == 200,
        "stream": watched,
    }


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("status", C)
async def test_everybody_or_its_owner_and_the_admins(here: Feed, status: CampaignStatus, approved: bool) -> None:
    campaign = str((await here.act(here.owner, "/campaigns", campaign_body()))["id"])
    here.sql(
        "update campaigns set status = %s, go_live_at = case when %s then now() end where id = %s",
        str(status), approved, campaign,
    )  # fmt: skip
    public = status not in HIDDEN and (approved or status not in GIVEN_UP)
    assert is_public(status, approved=approved) is public
    assert here.sql("select campaign_public(status, go_live_at) from campaigns where id = %s", campaign) == [(public,)]
    for who in (here.investor, here.stranger):
        assert set((await seen_by(here, who, campaign)).values()) == {public}, await seen_by(here, who, campaign)
    for who in (here.owner, here.admin):
        assert set((await seen_by(here, who, campaign)).values()) == {True}
