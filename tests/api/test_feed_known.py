"""Who has a page is told so by one small question for many: never by one that began before the request came."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from api import feed_known
from infra.database import Database
from models import feed_pages
from models.user import Role
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.feed import Feed

REAL = feed_pages.stamps


@pytest.fixture
async def here(edge: Edge, database: Database) -> AsyncIterator[Feed]:
    made = Feed(edge, database)
    await made.live()
    yield made


class Watched:
    """The real question, counted, and held at a gate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        monkeypatch.setattr(feed_pages, "stamps", self)

    async def __call__(self, database: Database, scope: Any, users: list[str]) -> Any:
        self.asked.append(users)
        found = await REAL(database, scope, users)
        self.begun.set()
        await self.gate.wait()
        return found


async def test_many_share_a_question_and_none_is_told_of_the_past(here: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [here.investor, here.owner, here.admin, here.stranger]
    tags = {who.id: (await here.get("", who)).headers["etag"] for who in people}
    watched = Watched(monkeypatch)
    watched.gate.clear()
    first = asyncio.create_task(here.get("", people[0], tags[people[0].id]))
    await watched.begun.wait()  # its question has been answered by the database, and is on its way back
    here.sql("update campaigns set title = 'Two ovens'")
    rest = [asyncio.create_task(here.get("", who, tags[who.id])) for who in people * 5]
    await asyncio.sleep(0.2)
    watched.gate.set()
    answers = await asyncio.gather(*rest)
    assert {each.status_code for each in answers} == {200}, "what was changed before a request came is told to it"
    assert {each.json()["data"][0]["title"] for each in answers} == {"Two ovens"}
    assert (await first).status_code == 304, "it came before the change"
    assert watched.asked == [[people[0].id], sorted(each.id for each in people)], "twenty shared one"
    watched.asked.clear()
    now = {who.id: (await here.get("", who)).headers["etag"] for who in people}
    again = await asyncio.gather(*(here.get("", who, now[who.id]) for who in people * 5))
    assert {each.status_code for each in again} == {304}
    assert len(watched.asked) < 20


async def test_the_application_is_not_asked(here: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = (await here.get()).headers["etag"]

    async def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a page is made")

    monkeypatch.setattr(feed_pages, "page", never)
    monkeypatch.setattr("api.reads.Reader.asked", never)
    answer = await here.get(tag=tag)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert answer.headers["cache-control"] == "private, no-cache" and answer.headers["vary"] == "Authorization"
    assert answer.headers["x-request-id"] and answer.headers["x-content-type-options"] == "nosniff"
    assert "content-type" not in answer.headers


async def test_a_role_that_was_taken_away_counts_at_once(here: Feed) -> None:
    boss = here.edge.user(Role.ADMIN, here.scope)
    tag = (await here.get("", boss)).headers["etag"]
    assert (await here.get("", boss, tag)).status_code == 304
    here.sql("update users set role = 'investor' where id = %s", boss.id)
    assert (await here.get("", boss, tag)).status_code == 200
    here.sql("update users set disabled_at = now() where id = %s", boss.id)
    assert_problem(await here.get("", boss, tag), 401, "invalid_token")


async def test_what_is_no_question_is_the_applications_to_refuse(here: Feed) -> None:
    tag = (await here.get()).headers["etag"]
    assert_problem(await here.get("?sort=oldest", tag=tag), 422, "invalid_request")
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
        answer = await here.edge.http.get(feed_known.PATH, headers={**headers, "If-None-Match": tag})
        assert_problem(answer, 401, "invalid_token")
    lower = here.edge.headers(here.investor)["Authorization"].replace("Bearer", "bearer")
    answer = await here.edge.http.get(feed_known.PATH, headers={"Authorization": lower, "If-None-Match": tag})
    assert answer.status_code == 304


async def test_an_outage_is_told_as_one(here: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = (await here.get()).headers["etag"]

    async def down(*_: Any) -> Any:
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(feed_pages, "stamps", down)
    assert_problem(await here.get(tag=tag), 503, "unavailable")
    monkeypatch.setattr(feed_pages, "stamps", REAL)
    assert (await here.get(tag=tag)).status_code == 304


async def test_what_is_not_http_passes() -> None:
    """A request to upgrade has the feed's address, and no method."""
    heard: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["type"])

    nothing: Any = None
    questions = feed_known.Questions()
    pages = feed_known.KnownPages(application, tokens=nothing, stamps=nothing, questions=questions)
    await pages({"type": "websocket", "path": feed_known.PATH}, nothing, nothing)
    assert heard == ["websocket"]
