"""Campaigns watched live: told at once and at each change, by one reader for all; bounded; ended with the process."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api import streams
from api.auth import Principal
from api.streams import EACH_MAX, EventStream, Streams, TooManyStreams
from domain.errors import NotFound
from infra.database import Database
from models.user import Role, User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.hostile import Target, campaign_body, create, target
from tests.fixtures.pledges import add_campaign

SECOND = 1


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream as they come: their data, with the id as `_id`."""
    found: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line and "data" in found:
            yield {**json.loads(found["data"]), "_id": found["id"]}
            found = {}
        elif ": " in line:
            name, _, value = line.partition(": ")
            found[name] = value


@pytest.fixture(scope="module")
async def living(owner_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with target(owner_url, tmp_path_factory.mktemp("streams") / "api.log") as made:
        yield made


def watch(made: Target, campaign: str, who: User | None = None, last: str | None = None) -> Any:
    headers = made.headers(who or made.person(Role.INVESTOR)) | ({"Last-Event-ID": last} if last else {})
    return made.http.stream("GET", f"/v1/campaigns/{campaign}/events", headers=headers)


async def test_each_change_is_told_at_once_and_once(living: Target) -> None:
    campaign = await create(living, Role.BUSINESS_OWNER, "/v1/campaigns", campaign_body(title="Watched"))
    await create(living, Role.ADMIN, f"/v1/admin/campaigns/{campaign}/verify", {"decision": "approve"})
    async with watch(living, campaign) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = events(answer)
        first = await anext(told)
        assert (first["status"], first["raised"]["amount"], first["investors"]) == ("live", 0, 0)
        living.sql("update campaigns set held_minor = 450000 where id = %s", campaign)
        second = await anext(told)
        assert (second["raised"], second["progress_bps"]) == ({"amount": 450_000, "currency": "NGN"}, 5_000)
        living.sql("update campaign_feed set investors = 3 where campaign_id = %s", campaign)
        assert (await anext(told))["investors"] == 3
        living.sql("update campaigns set title = 'Another' where id = %s", campaign)  # no progress: not told
        living.sql("update campaigns set status = 'paused' where id = %s", campaign)
        last = await anext(told)
        assert last["status"] == "paused"
    async with watch(living, "watched", last=last["_id"]) as answer:  # by its slug
        told = events(answer)
        waiting = asyncio.ensure_future(anext(told))
        await asyncio.sleep(1.5 * SECOND)
        assert not waiting.done(), "what it had when it left is not told again"
        living.sql("update campaigns set status = 'live' where id = %s", campaign)
        assert (await waiting)["status"] == "live"


async def test_who_may_not_see_a_campaign_may_not_watch_it(living: Target) -> None:
    draft = await create(living, Role.BUSINESS_OWNER, "/v1/campaigns", campaign_body(draft=True))
    for campaign in (draft, "cmp_" + "0" * 32, "no-such-thing"):
        headers = living.headers(living.person(Role.INVESTOR))
        answer = await living.http.get(f"/v1/campaigns/{campaign}/events", headers=headers)
        assert_problem(answer, 404, "not_found")
    assert_problem(await living.http.get(f"/v1/campaigns/{draft}/events"), 401, "invalid_token")
    async with watch(living, draft, living.person(Role.BUSINESS_OWNER)) as answer:
        assert (await anext(events(answer)))["status"] == "draft"


async def test_a_process_that_ends_ends_its_streams_in_order(owner_url: str, living: Target, tmp_path: Path) -> None:
    campaign = (living.things or {})["campaign_id"][0]
    async with watch(living, campaign) as answer:
        told = events(answer)
        await anext(told)
        os.kill(living.pid, signal.SIGTERM)
        assert [each async for each in told] == [], "to its end: a stream cut off raises"


class Watched:
    """The streams of an API without a process of its own, and a campaign."""

    def __init__(self, hub: Streams, principal: Principal, campaign: str) -> None:
        self.hub, self.principal, self.campaign = hub, principal, campaign

    async def open(self, user_id: str | None = None) -> EventStream:
        who = self.principal if user_id is None else Principal(user_id, self.principal.role, self.principal.scope)
        return await self.hub.open(who, self.campaign, None)


@pytest.fixture
async def hub(edge: Edge, database: Database) -> AsyncIterator[Watched]:
    person = edge.user()
    campaign = await add_campaign(database, edge.scope, person.id)
    made = Streams(database, most=EACH_MAX + 2)
    yield Watched(made, Principal(person.id, Role.INVESTOR, edge.scope), campaign.id)
    await made.close()


async def test_a_process_and_a_person_have_so_many_streams(hub: Watched, edge: Edge) -> None:
    mine = [await hub.open() for _ in range(EACH_MAX)]
    with pytest.raises(TooManyStreams):
        await hub.open()
    others = [await hub.open(f"usr_{number}") for number in range(2)]
    with pytest.raises(TooManyStreams):
        await hub.open("usr_3")
    for stream in (mine[0], others[0]):
        stream._left()
    await hub.open("usr_3")
    await hub.open()
    headers = edge.headers(edge.user())
    kept, edge.app.state.streams = edge.app.state.streams, hub.hub
    try:
        answer = await edge.http.get(f"/v1/campaigns/{hub.campaign}/events", headers=headers)
    finally:
        edge.app.state.streams = kept
    assert_problem(answer, 503, "too_many_streams")
    assert answer.headers["retry-after"] == "5"


async def test_a_client_that_leaves_gives_its_place_back(hub: Watched) -> None:
    stream = await hub.open()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert not hub.hub._watches and not hub.hub._people
    await asyncio.sleep(1.2 * SECOND)
    assert hub.hub._reader is None, "nobody watches, nobody looks"


async def test_all_watchers_are_one_reader(hub: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    real, failed = streams.read_progress, []

    async def counted(tx: Any, ids: Any) -> Any:
        looks.append(len(ids))
        if not failed:
            failed.append(True)
            raise psycopg.OperationalError("the database is away for a moment")
        return await real(tx, ids)

    monkeypatch.setattr(streams, "read_progress", counted)
    opened = [await hub.open() for _ in range(8)]
    told = [aiter(each.body_iterator) for each in opened]
    for each in told:
        assert str(await anext(each)).startswith("retry") and "data" in str(await anext(each))
    waiting = [asyncio.ensure_future(anext(each)) for each in told]
    async with hub.hub._database.transaction(hub.principal.scope) as tx:
        await tx.execute("update campaigns set held_minor = held_minor + 1 where id = %s", (hub.campaign,))
    texts = {str(text) for text in await asyncio.gather(*waiting)}
    assert len(texts) == 1 and '"held":{"amount":1,' in texts.pop()
    assert looks == [1] * len(looks) and len(looks) < len(opened)


async def test_a_quiet_stream_says_that_it_is_there_and_ends_in_time(
    hub: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(streams, "_LIFE_SECONDS", 0.2)
    texts = [str(text) async for text in (await hub.open()).body_iterator]
    assert texts[1].startswith("id: ") and set(texts[2:]) == {": still here\n\n"}


async def test_what_becomes_hidden_is_told_no_more(hub: Watched, edge: Edge) -> None:
    told = aiter((await hub.open("usr_stranger")).body_iterator)
    await anext(told), await anext(told)
    edge.sql("update campaigns set status = 'changes_requested' where id = %s", hub.campaign)
    assert [text async for text in told] == []
    with pytest.raises(NotFound):
        await hub.open("usr_stranger")
