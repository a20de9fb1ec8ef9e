"""The feed: every filter, sort and cursor, who sees what, the tag that never calls a changed page the same, and its plans."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from api import feed_keeper
from api.envelope import decode_cursor, encode_cursor
from infra.database import Database
from models import feed, feed_pages
from tests.fixtures.api import Edge, assert_problem, set_scope
from tests.fixtures.feed import SEEDED, Feed
from tests.fixtures.hostile import campaign_body, fill_wallet
from tests.fixtures.postgres import role_url

NGN = "NGN"


@pytest.fixture
async def here(edge: Edge, database: Database) -> AsyncIterator[Feed]:
    made = Feed(edge, database)
    wallet = Edge(edge.app, edge.http, edge.owner_url, made.scope, edge.settings)
    await fill_wallet(wallet, made.investor)
    yield made


@pytest.fixture
async def seeded(here: Feed) -> Feed:
    with psycopg.connect(here.edge.owner_url) as connection:
        set_scope(connection, here.scope)
        values = {"tenant": here.scope.tenant_id, "owner": here.owner.id, "count": 240}
        connection.execute(SEEDED, values)
    assert (await here.keep()).changes == 240  # type: ignore[union-attr]
    return here


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


ORDERS: dict[str, Any] = {
    "newest": lambda row: (-moment(row["created_at"]).timestamp(),),
    "ending_soon": lambda row: (moment(row["deadline_at"]),),
    "most_funded": lambda row: (-row["progress_bps"],),
    "recommended": lambda row: (-row["score"]["total"],),
}


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("narrowed", ["", "&status=live", "&currency=NGN&min_progress_bps=100&q=oven"])
@pytest.mark.parametrize("who", ["investor", "owner", "admin"])
async def test_pages_follow_each_other_in_every_order(seeded: Feed, sort: str, narrowed: str, who: str) -> None:
    person = getattr(seeded, who)
    seen: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(40):
        answer = (await seeded.get(f"?sort={sort}&limit=17{narrowed}{cursor}", person)).json()
        seen += answer["data"]
        if answer["meta"]["next_cursor"] is None:
            break
        assert len(answer["data"]) == 17
        cursor = f"&cursor={answer['meta']['next_cursor']}"
    assert [ORDERS[sort](row) for row in seen] == sorted(ORDERS[sort](row) for row in seen)
    wanted = "true" if who != "investor" else "status <> 'submitted'"
    wanted += " and status = 'live'" if sort == "ending_soon" or "status" in narrowed else ""
    wanted += " and currency = 'NGN' and held_minor * 10000 / goal_minor >= 100" if "currency" in narrowed else ""
    expected = {row[0] for row in seeded.sql(f"select id from campaigns where {wanted}")}
    assert len(seen) == len(expected) > 17 and {row["id"] for row in seen} == expected


async def test_each_filter_keeps_what_it_names(seeded: Feed) -> None:
    middle = (datetime.now(UTC) + timedelta(days=40)).isoformat().replace("+00:00", "Z")
    filters: dict[str, Any] = {
        "status=funded": lambda row: row["status"] == "funded",
        "kind=all_or_nothing": lambda row: row["kind"] == "all_or_nothing",
        "currency=USD": lambda row: row["goal"]["currency"] == "USD",
        "currency=USD&min_goal=1100": lambda row: row["goal"]["currency"] == "USD" and row["goal"]["amount"] >= 1100,
        "currency=NGN&max_goal=1100": lambda row: row["goal"]["currency"] == "NGN" and row["goal"]["amount"] <= 1100,
        "min_progress_bps=5000": lambda row: row["progress_bps"] >= 5000,
        "max_progress_bps=100": lambda row: row["progress_bps"] <= 100,
        f"ends_before={middle}": lambda row: moment(row["deadline_at"]) < moment(middle),
        f"ends_after={middle}": lambda row: moment(row["deadline_at"]) > moment(middle),
        "category=energy": lambda row: row["category"] == "energy",
        "country=GH": lambda row: row["country"] == "GH",
        "category=food&country=NG": lambda row: (row["category"], row["country"]) == ("food", "NG"),
        "country=FJ": lambda row: False,
        f"owner_id={seeded.owner.id}": lambda row: True,
        f"owner_id={seeded.stranger.id}": lambda row: False,
        "q=bakery 17": lambda row: "17" in row["title"].split(),
        "q=BAKERY": lambda row: True,
        'q="number 17"': lambda row: row["title"] == "Bakery number 17",
        "q=street -17": lambda row: "17" not in row["title"].split(),
        "q=17 or 18": lambda row: {"17", "18"} & {*row["title"].split()},
        "q=butcher": lambda row: False,
        "q=!!!": lambda row: False,
    }
    everything: list[dict[str, Any]] = []
    cursor = ""
    while len(everything) < 200:
        answer = (await seeded.get(f"?limit=100{cursor}")).json()
        everything += answer["data"]
        cursor = f"&cursor={answer['meta']['next_cursor']}"
    for query, rule in filters.items():
        expected = [row["id"] for row in everything if rule(row)][:100]
        assert [row["id"] for row in await seeded.rows(f"?limit=100&{query}")] == expected, query


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("who", ["investor", "owner", "admin"])
async def test_words_that_very_many_have_find_the_same(
    seeded: Feed, sort: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By either way; and where an order is not looked through to its end, the first of it."""
    person, query = getattr(seeded, who), f"?sort={sort}&limit=30&q=street -7&currency=NGN"
    by_index = [await seeded.rows(query, person)]
    cursor = (await seeded.get(query, person)).json()["meta"]["next_cursor"]
    by_index.append(await seeded.rows(f"{query}&cursor={cursor}", person))
    monkeypatch.setattr(feed_pages, "_FEW", 20)
    assert [await seeded.rows(query, person), await seeded.rows(f"{query}&cursor={cursor}", person)] == by_index
    assert len(by_index[0]) == 30 and not any("7" in row["title"].split() for row in by_index[0])
    assert await seeded.rows(f"?sort={sort}&q=butcher", person) == []
    monkeypatch.setattr(feed_pages, "_LOOKED_AT", 10)
    first = await seeded.rows(f"?sort={sort}&limit=30&q=street", seeded.investor)
    assert first == (await seeded.rows(f"?sort={sort}&limit=10", seeded.investor))
    draft = await seeded.act(seeded.owner, "/campaigns", campaign_body(draft=True, title="A street of ovens"))
    found = [row["id"] for row in await seeded.rows("?limit=1&q=street", seeded.owner)]
    assert found == [draft["id"]] and seeded.sql("select count(*) from campaigns where title like '%%street%%'") == [
        (1,)
    ]


async def test_words_are_the_tenants_own_and_follow_the_text(here: Feed) -> None:
    other = Feed(here.edge, here.database)
    mine = await here.act(here.owner, "/campaigns", campaign_body(draft=True, title="Adire dyeing"))
    theirs = await other.live(title="Adire weaving")
    assert [row["id"] for row in await here.rows("?q=adire", here.owner)] == [mine["id"]]
    assert [row["id"] for row in await other.rows("?q=adire", other.admin)] == [theirs]
    assert await here.rows("?q=adire", here.investor) == await here.rows("?q=adire", here.stranger) == []
    await here.act(here.owner, f"/campaigns/{mine['id']}", {"title": "Batik dyeing"}, verb="PATCH")
    assert await here.rows("?q=adire", here.owner) == [] and len(await here.rows("?q=batik", here.owner)) == 1
    with psycopg.connect(role_url(here.edge.owner_url, "chama_app")) as connection:
        assert connection.execute("select campaigns_matching('batik or adire')").fetchall() == [], "no scope, no words"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select words from campaign_words")
    with psycopg.connect(role_url(here.edge.owner_url, "chama_app")) as connection:
        set_scope(connection, other.scope)
        assert connection.execute("select campaign_matches(%s, 'batik')", (mine["id"],)).fetchall() == [(False,)]
        set_scope(connection, here.scope)
        assert connection.execute("select campaign_matches(%s, 'batik')", (mine["id"],)).fetchall() == [(True,)]


async def test_only_what_was_approved_is_public(here: Feed) -> None:
    draft = (await here.act(here.owner, "/campaigns", campaign_body(draft=True)))["id"]
    submitted, rejected, back, given_up = [
        (await here.act(here.owner, "/campaigns", campaign_body()))["id"] for _ in range(4)
    ]
    for campaign, decision in ((rejected, "reject"), (back, "request_changes")):
        await here.act(here.admin, f"/admin/campaigns/{campaign}/verify", {"decision": decision, "note": "So."})
    await here.act(here.owner, f"/campaigns/{given_up}/cancel", {"reason": "It rained."})
    live, canceled = await here.live(), await here.live()
    await here.act(here.owner, f"/campaigns/{canceled}/cancel", {"reason": "It rained."})
    everything = {draft, submitted, rejected, back, given_up, live, canceled}
    for sort in ("newest", "most_funded", "recommended"):
        for who in (here.investor, here.stranger):
            assert {row["id"] for row in await here.rows(f"?sort={sort}", who)} == {live, canceled}
        for who in (here.owner, here.admin):
            assert {row["id"] for row in await here.rows(f"?sort={sort}", who)} == everything
    await here.act(here.owner, f"/campaigns/{draft}", verb="DELETE")
    assert draft not in {row["id"] for row in await here.rows("", here.owner)}
    assert here.sql("select count(*) from campaign_feed where campaign_id = %s", draft) == [(0,)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?colour=red", "query"), ("?sort=oldest", "query.sort"), ("?limit=101", "query.limit"), ("?limit=0", "query.limit"),
        ("?status=open", "query.status"), ("?kind=loan", "query.kind"), ("?currency=naira", "query.currency"),
        ("?min_goal=5", "currency"), ("?max_goal=5", "currency"), ("?currency=NGN&min_goal=-1", "query.min_goal"),
        ("?currency=NGN&max_goal=1e5", "query.max_goal"), ("?min_progress_bps=x", "query.min_progress_bps"),
        ("?ends_before=tomorrow", "query.ends_before"), ("?ends_after=2030-01-01T00:00:00", "query.ends_after"),
        ("?q=", "query.q"), ("?category=bread", "query.category"), ("?country=XX", "query.country"),
        ("?country=Ghana", "query.country"), ("?country=gh", "query.country"), ("?sort=newest&sort=newest", "query.sort"),
    ],
)  # fmt: skip
async def test_a_parameter_that_is_wrong_is_named(here: Feed, query: str, field: str) -> None:
    problem = assert_problem(answer := await here.get(query), 422, answer.json()["code"])
    assert [each["field"] for each in problem["errors"]] == [field]
    assert problem["code"] == ("currency_required" if field == "currency" else "invalid_request")


async def test_a_cursor_goes_on_with_its_own_question_only(seeded: Feed) -> None:
    def at(answer: httpx.Response) -> str:
        return str(answer.json()["meta"]["next_cursor"])

    newest, funded = at(await seeded.get("?limit=5")), at(await seeded.get("?limit=5&sort=most_funded"))
    live = at(await seeded.get("?limit=5&status=live"))
    wrong = [
        f"?sort=most_funded&cursor={newest}", f"?cursor={funded}", f"?cursor={live}", f"?status=paused&cursor={live}",
        f"?status=live&cursor={newest}", "?cursor=WyJ4Il0", "?cursor=x", f"?sort=recommended&cursor={funded}",
    ]  # fmt: skip
    for query in wrong:
        problem = assert_problem(await seeded.get(query), 400, "invalid_cursor")
        assert problem["errors"][0]["field"] == "cursor", query
    assert len(await seeded.rows(f"?limit=7&cursor={newest}")) == 7, "the length of a page is free"


@pytest.mark.parametrize(
    ("sort", "key", "status"),
    [
        ("recommended", "32767", 200),
        ("recommended", "32768", 400),
        ("recommended", "-1", 400),
        ("most_funded", str(2**62 - 1), 200),
        ("most_funded", str(2**62), 400),
        ("newest", "2027-01-31T12:00:00+23:59", 200),
        ("newest", "0001-01-01T00:00:00+00:01", 400),
        ("ending_soon", "2027-01-31T12:00:00-16:00", 200),
        ("ending_soon", "9999-12-31T23:59:59-00:01", 400),
    ],
)
async def test_a_key_that_its_column_cannot_hold(seeded: Feed, sort: str, key: str, status: int) -> None:
    given = (await seeded.get(f"?sort={sort}&limit=1")).json()["meta"]["next_cursor"]
    question, _, row_id = decode_cursor(given, str, str, str)
    answer = await seeded.get(f"?sort={sort}&cursor={encode_cursor(question, key, row_id)}")
    assert answer.status_code == status, answer.text
    if status == 400:
        assert_problem(answer, 400, "invalid_cursor")


async def test_the_score_is_the_sum_of_its_reasons(here: Feed) -> None:
    now = datetime.now(UTC)
    campaign = await here.live(
        goal={"amount": 1000, "currency": NGN}, deadline_at=(now + timedelta(days=10)).isoformat()
    )
    (row,) = await here.rows()
    assert row["score"] == {"total": 0, "parts": {"progress": 0, "investors": 0, "time_left": 0, "news": 0}}
    await here.keep()
    await here.pledge(campaign, 250)
    await here.act(here.owner, f"/campaigns/{campaign}/updates", {"title": "Flour", "body": "It is here."})
    await here.keep()
    (row,) = await here.rows()
    assert row["score"] == {"total": 400, "parts": {"progress": 100, "investors": 50, "time_left": 100, "news": 150}}
    assert (row["investors"], row["progress_bps"]) == (1, 2500)
    read = await here.edge.http.get(f"/v1/campaigns/{campaign}", headers=here.edge.headers(here.investor))
    assert read.json()["data"]["score"] == row["score"]
    here.sql("update campaigns set deadline_at = now() + interval '2 days' where id = %s", campaign)
    await here.keep()
    assert (await here.rows())[0]["score"]["parts"]["time_left"] == 200
    await here.act(here.owner, f"/campaigns/{campaign}/pause", {"reason": "It rained."})
    await here.keep()
    (row,) = await here.rows()
    assert (row["score"]["total"], row["progress_bps"]) == (0, 2500), "who takes no pledges is recommended to nobody"


async def test_time_alone_moves_a_score_when_its_day_has_come(here: Feed) -> None:
    now = datetime.now(UTC)
    await here.live(deadline_at=(now + timedelta(days=20)).isoformat())
    await here.keep()
    assert (await here.rows())[0]["score"]["parts"]["time_left"] == 50
    assert (await here.keep()).rescored == 0  # type: ignore[union-attr]
    clock = "insert into test_clocks (tenant_id, mode, now_at, target_at, status) values (%s, 'test', %s, %s, 'ready')"
    here.sql(clock, here.scope.tenant_id, now + timedelta(days=8), now + timedelta(days=8))
    before = await here.get()
    assert (await here.keep()).rescored == 1  # type: ignore[union-attr]
    assert (await here.rows())[0]["score"]["parts"]["time_left"] == 100
    assert (await here.get(tag=before.headers["etag"])).status_code == 200


async def test_who_has_the_page_is_told_so(seeded: Feed) -> None:
    answer = await seeded.get("?sort=recommended&status=live")
    tag = answer.headers["etag"]
    assert tag.startswith('W/"') and answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization"
    for given in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = await seeded.get("?sort=recommended&status=live", tag=given)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "private, no-cache"
    for query in ("?sort=recommended", "?sort=newest&status=live", "?sort=recommended&status=live&limit=49"):
        assert (await seeded.get(query, tag=tag)).status_code == 200, "another question"
    for who in (seeded.owner, seeded.admin, seeded.stranger):
        assert (await seeded.get("?sort=recommended&status=live", who, tag)).status_code == 200, "another person"
    seeded.sql("update users set disabled_at = now() where id = %s", seeded.investor.id)
    assert_problem(await seeded.get("?sort=recommended&status=live", tag=tag), 401, "invalid_token")


async def test_no_page_that_changed_is_called_the_same(here: Feed) -> None:
    """Each kind of thing that a page shows, changed by the command that changes it."""
    campaign, doomed = await here.live(), await here.act(here.owner, "/campaigns", campaign_body(draft=True))
    await here.keep()
    why = {"reason": "It rained."}
    changes: dict[str, Any] = {
        "a pledge": lambda: here.pledge(campaign, 500),
        "its score": here.keep,
        "an update": lambda: here.act(here.owner, f"/campaigns/{campaign}/updates", {"title": "Flour", "body": "Here."}),
        "the score after it": here.keep,
        "a title": lambda: here.act(here.owner, f"/campaigns/{campaign}", {"title": "Two ovens"}, "PATCH"),
        "a deadline": lambda: here.act(
            here.owner, f"/campaigns/{campaign}/deadline",
            {"deadline_at": (datetime.now(UTC) + timedelta(days=50)).isoformat(), **why},
        ),
        "a pause": lambda: here.act(here.owner, f"/campaigns/{campaign}/pause", why),
        "its end": lambda: here.act(here.owner, f"/campaigns/{campaign}/resume", why),
        "a new one": lambda: here.act(here.owner, "/campaigns", campaign_body()),
        "one that is gone": lambda: here.act(here.owner, f"/campaigns/{doomed['id']}", verb="DELETE"),
        "the end": lambda: here.act(here.owner, f"/campaigns/{campaign}/cancel", why),
    }  # fmt: skip
    for what, change in changes.items():
        before = await here.get("", here.owner)
        assert (await here.get("", here.owner, before.headers["etag"])).status_code == 304, what
        await change()
        after = await here.get("", here.owner, before.headers["etag"])
        assert after.status_code == 200 and after.headers["etag"] != before.headers["etag"], what
    await here.keep()
    settled = await here.get("", here.owner)
    assert await here.keep() is not None
    assert (await here.get("", here.owner, settled.headers["etag"])).status_code == 304, "keeping alone changes nothing"


async def test_a_change_that_commits_late_is_not_lost(here: Feed) -> None:
    """Two writers, the first to begin is the last to commit: a reader between them must not keep the tag of the second."""
    first, second = await here.live(), await here.live()
    await here.keep()
    with psycopg.connect(here.edge.owner_url) as slow, psycopg.connect(here.edge.owner_url) as quick:
        for connection, campaign in ((slow, first), (quick, second)):
            set_scope(connection, here.scope)
            connection.execute("update campaigns set held_minor = held_minor + 1 where id = %s", (campaign,))
        quick.commit()
        between = await here.get()
        kept = await here.keep()
        assert kept is not None and kept.changes == 1
        folded = await here.get()
        slow.commit()
    for seen in (between, folded):
        after = await here.get(tag=seen.headers["etag"])
        assert after.status_code == 200
        assert {row["id"]: row["held"]["amount"] for row in after.json()["data"]} == {first: 1, second: 1}


async def test_two_keepers_do_not_count_twice(here: Feed) -> None:
    await here.keep()
    await here.live()
    async with here.database.transaction(here.scope) as tx:
        held = await feed.refresh(tx)
        assert held is not None and held.changes > 0
        assert await here.keep() is None, "another is at it"
    rounds = await asyncio.gather(*(here.keep() for _ in range(4)))
    assert sum(done.changes for done in rounds if done) == 0


async def test_the_relay_keeps_every_tenants_feed(here: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own role it finds whose there is something to do for, and sees nothing else of them."""
    other = Feed(here.edge, here.database)
    campaigns = [await each.live(goal={"amount": 1000, "currency": NGN}) for each in (here, other)]
    for each, campaign in zip((here, other), campaigns, strict=True):
        each.sql("update campaigns set held_minor = 500 where id = %s", campaign)
    finder = Database(role_url(here.edge.owner_url, "chama_relay"), name="relay", max_size=1)
    await finder.open()
    stop, real = asyncio.Event(), feed_keeper.keep

    async def kept(*databases: Database) -> int:
        if not failures:
            failures.append(True)
            raise RuntimeError("a defect must not end the relay")
        found = await real(*databases)
        if not found:
            stop.set()
        return found

    failures: list[bool] = []
    monkeypatch.setattr(feed_keeper, "keep", kept)
    monkeypatch.setattr(feed_keeper, "_POLL_SECONDS", 0.01)
    await feed_keeper.run_feed_keeper(finder, here.database, stop)
    for each in (here, other):
        assert (await each.rows("?sort=most_funded"))[0]["progress_bps"] == 5_000
        assert each.sql("select count(*) from feed_changes") == [(0,)]
    for hidden in (
        "select campaign_id from feed_changes",
        "select owner_id from campaign_feed",
        "select 1 from feed_versions",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with finder.transaction() as tx:
                await tx.execute(hidden.encode())
    await finder.close()
