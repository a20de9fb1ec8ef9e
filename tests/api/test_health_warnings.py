"""A campaign's health: each warning told once, to its owner, shown to him and the admins, and gone when it is true no more."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from api import feed_keeper
from contracts.base import Scope
from infra.database import Database, Tx
from models import health
from models.user import User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.feed import Feed
from tests.fixtures.hostile import fill_wallet
from tests.fixtures.postgres import role_url

DAY = timedelta(days=1)
GOAL = {"amount": 1_000, "currency": "NGN"}


class Ward(Feed):
    """A feed whose tenant has a clock of its own, and whose campaigns are looked after."""

    def __init__(self, edge: Edge, database: Database) -> None:
        super().__init__(edge, database)
        self.began = datetime.now(UTC)
        clock = (
            "insert into test_clocks (tenant_id, mode, now_at, target_at, status) values (%s, 'test', %s, %s, 'ready')"
        )
        self.sql(clock, self.scope.tenant_id, self.began, self.began)

    def day(self, number: float) -> None:
        self.sql("update test_clocks set now_at = %s", self.began + number * DAY)

    async def look(self) -> None:
        """What the relay does."""
        finder = Database(role_url(self.edge.owner_url, "chama_relay"), name="relay", max_size=1)
        await finder.open()
        await feed_keeper.keep(finder, self.database)
        await finder.close()

    async def seen(self, campaign: str, who: User) -> Any:
        answer = await self.edge.http.get(f"/v1/campaigns/{campaign}", headers=self.edge.headers(who))
        found = answer.json()["data"]["warnings"]
        return found if found is None else [each["kind"] for each in found]

    async def at(self, path: str, who: User) -> Any:
        answer = await self.edge.http.get(f"/v1{path}", headers=self.edge.headers(who))
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def told(self) -> list[str]:
        """Templates of what was queued for the owner about health, in order."""
        return [
            row[0].removeprefix("health_")
            for row in self.sql(
                "select template from notifications where user_id = %s and template like 'health_%%' order by created_at, id",
                self.owner.id,
            )
        ]


@pytest.fixture
async def here(edge: Edge, database: Database) -> AsyncIterator[Ward]:
    made = Ward(edge, database)
    await fill_wallet(Edge(edge.app, edge.http, edge.owner_url, made.scope, edge.settings), made.investor)
    yield made


def deadline(here: Ward, days: int) -> str:
    return (here.began + days * DAY).isoformat()


async def test_each_warning_is_told_once_and_cleared(here: Ward) -> None:
    campaign = await here.live(goal=GOAL, cap={"amount": 9_000, "currency": "NGN"}, deadline_at=deadline(here, 40))
    await here.look()
    assert await here.seen(campaign, here.owner) == [] and here.told() == []
    here.day(7)
    for _ in range(3):
        await here.look()
    assert await here.seen(campaign, here.owner) == await here.seen(campaign, here.admin) == ["no_activity"]
    assert await here.seen(campaign, here.investor) is None
    assert here.told() == ["no_activity"], "once"
    here.day(8)
    await here.pledge(campaign, 100)
    await here.look()
    assert await here.seen(campaign, here.owner) == []
    here.day(9)
    await here.look()
    here.day(15.5)
    await here.look()
    assert set(await here.seen(campaign, here.owner)) == {"low_rate", "no_activity"}
    assert sorted(here.told()) == ["low_rate", "no_activity", "no_activity"], "another week, another warning"
    here.day(38)
    await here.look()
    assert set(await here.seen(campaign, here.owner)) == {"low_rate", "no_activity", "nearly_due", "update_overdue"}
    await here.act(here.owner, f"/campaigns/{campaign}/updates", {"title": "Flour", "body": "It is here."})
    await here.look()
    assert "update_overdue" not in await here.seen(campaign, here.owner)
    await here.pledge(campaign, 900)
    await here.look()
    assert await here.seen(campaign, here.owner) == []
    kinds = ["low_rate", "nearly_due", "no_activity", "no_activity", "update_overdue"]
    assert sorted(here.told()) == kinds
    rows = here.sql("select kind, cleared_at >= created_at from campaign_warnings order by kind")
    assert rows == [(kind, True) for kind in kinds]


async def test_owner_and_admins_have_them_in_one_place(here: Ward) -> None:
    campaigns = [await here.live(goal=GOAL, deadline_at=deadline(here, 20), title=f"Oven {n}") for n in range(3)]
    here.day(7)
    await here.look()
    listed = await here.at("/admin/warnings", here.admin)
    assert {(each["campaign_id"], each["kind"], each["owner_id"]) for each in listed} == {
        (campaign, kind, here.owner.id) for campaign in campaigns for kind in ("low_rate", "no_activity")
    }
    assert {each["campaign"] for each in listed} == {"Oven 0", "Oven 1", "Oven 2"}
    first = await here.edge.http.get("/v1/admin/warnings?limit=4", headers=here.edge.headers(here.admin))
    rest = await here.at(f"/admin/warnings?cursor={first.json()['meta']['next_cursor']}", here.admin)
    assert first.json()["data"] + rest == listed and len(rest) == 2
    assert len(await here.at("/admin/warnings?kind=low_rate", here.admin)) == 3
    for who in (here.owner, here.investor):
        answer = await here.edge.http.get("/v1/admin/warnings", headers=here.edge.headers(who))
        assert_problem(answer, 403, "forbidden")
    dashboard = await here.at(f"/users/{here.owner.id}/dashboard", here.owner)
    assert [each["warnings"] for each in dashboard["campaigns"]] == [["low_rate", "no_activity"]] * 3
    assert (await here.at("/admin/dashboard", here.admin))["warnings"] == {"low_rate": 3, "no_activity": 3}
    occasions = here.sql("select distinct subject_id from notifications where template like 'health_%%'")
    assert len(occasions) == 1, "one process tells all of a round"
    sending = here.sql(
        "select workflow_type, payload ->> 'subject_id' from outbox where order_key like 'notices/%%hlt_%%'"
    )
    assert sending == [("NoticesWorkflow", occasions[0][0])]


async def test_what_is_over_is_watched_no_more(here: Ward) -> None:
    campaign = await here.live(goal=GOAL, deadline_at=deadline(here, 20))
    here.day(8)
    await here.look()
    assert await here.seen(campaign, here.owner)
    await here.act(here.owner, f"/campaigns/{campaign}/cancel", {"reason": "It rained."})
    await here.look()
    assert await here.seen(campaign, here.owner) == []
    assert here.sql("select look_at from campaign_health") == [(None,)]
    draft = await here.act(here.owner, "/campaigns", {**_draft(here), "draft": True})
    await here.look()
    assert here.sql("select count(*) from campaign_health where campaign_id = %s", draft["id"]) == [(0,)]


async def test_a_look_that_changes_nothing_writes_nothing(here: Ward) -> None:
    await here.live(goal=GOAL, deadline_at=deadline(here, 20))
    await here.look()
    before = here.sql("select ctid, * from campaign_health")
    async with here.database.transaction(here.scope) as tx:
        assert await health.watch(tx, here.scope, [before[0][3]]) == 0
    assert here.sql("select ctid, * from campaign_health") == before
    assert before[0][6] == here.began + 5 * DAY, "a quarter of its time, when nothing has come in"


def _draft(here: Ward) -> dict[str, Any]:
    from tests.fixtures.hostile import campaign_body

    return campaign_body(deadline_at=deadline(here, 30))


async def test_one_tenants_trouble_is_not_the_others(here: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign that begins at the end of time has no day on which its news would be overdue."""
    broken = Ward(here.edge, here.database)
    lost = await broken.live()
    broken.sql("update campaigns set go_live_at = '9999-12-30', deadline_at = '9999-12-31' where id = %s", lost)
    broken.sql("update campaign_health set look_at = now() where campaign_id = %s", lost)
    campaign = await here.live(deadline_at=deadline(here, 30))
    here.day(28)
    found = feed_keeper.feed.at_work

    async def broken_first(tx: Tx) -> list[Scope]:
        return sorted(await found(tx), key=lambda scope: scope != broken.scope)

    monkeypatch.setattr(feed_keeper.feed, "at_work", broken_first)
    # Another test may have bound the logger already.
    loud = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr(feed_keeper, "log", loud)
    with structlog.testing.capture_logs() as logs:
        await here.look()
    assert [each["scope"] for each in logs if each["event"] == "feed.tenant_not_kept"] == [str(broken.scope)]
    assert "nearly_due" in await here.seen(campaign, here.owner)
