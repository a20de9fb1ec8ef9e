"""Many effects at once keep the rules of one: claimed before the calls, each made once, none repeated that may have happened."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from activities.bulk_effects import BulkCall, BulkEffects, NotPlain
from activities.effects import Effect, Effects, Settled
from activities.gateways.protocols import RailNotSent, RailRejected, RailUnknown
from contracts.base import Message, Scope
from infra.database import Database
from models.effect import Claim, Outcome, settle_many

Send = Callable[[], Awaitable["Told"]]


class Asked(Message):
    amount_minor: int = 500


class Told(Message):
    key: str


class Provider:
    """Answers, or does what was planned for a key; remembers who called, and how many at a time."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.planned: dict[str, Exception] = {}
        self.inside, self.most = 0, 0

    def send(self, key: str) -> Send:
        async def call() -> Told:
            self.called.append(key)
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.002)
            self.inside -= 1
            if key in self.planned:
                raise self.planned[key]
            return Told(key=key)

        return call


@pytest.fixture
def provider() -> Provider:
    return Provider()


def effects_of(scope: Scope, *names: str) -> list[Effect[Told]]:
    return [
        Effect(scope=scope, key=f"attempt/{name}/capture", provider="stripe", operation="capture", request=Asked(), answer=Told)
        for name in names
    ]  # fmt: skip


async def claim(database: Database, effects: list[Effect[Told]]) -> list[Claim]:
    async with database.transaction(effects[0].scope) as tx:
        return await BulkEffects(database).claim(tx, effects)


async def carry_out(
    database: Database, effects: list[Effect[Told]], provider: Provider, *, record: bool = True, seconds: int = 5
) -> list[object]:
    """As a range of lines does: claim, commit, call, record what is definite."""
    bulk = BulkEffects(database, begin_within_seconds=seconds)
    found = await claim(database, effects)
    calls = [BulkCall(each, claimed, provider.send(each.key)) for each, claimed in zip(effects, found, strict=True)]
    outcomes = await bulk.call(calls)
    if record:
        async with database.transaction(effects[0].scope) as tx:
            await bulk.record(tx, [each for each in outcomes if isinstance(each, Settled)])
    return list(outcomes)


async def statuses(database: Database, scope: Scope) -> dict[str, str]:
    async with database.transaction(scope) as tx:
        rows = await (await tx.execute("select key, status from effects")).fetchall()
    return {row["key"].split("/")[1]: row["status"] for row in rows}


async def test_answered_calls_are_made_once(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, *(f"ch-{n}" for n in range(40)))
    first = await carry_out(database, effects, provider)
    again = await carry_out(database, effects, provider)
    answers = [each.answer for each in first if isinstance(each, Settled)]
    assert answers == [Told(key=each.key) for each in effects], "in the order of the calls"
    assert [each.answer for each in again if isinstance(each, Settled)] == answers
    assert len(provider.called) == 40 and 1 < provider.most <= 8
    assert {*(await statuses(database, scope)).values()} == {"done"}


async def test_the_claims_stand_before_the_calls(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, "ch-1", "ch-2")
    await claim(database, effects)
    assert await statuses(database, scope) == {"ch-1": "claimed", "ch-2": "claimed"}


async def test_what_nobody_recorded_is_never_repeated(database: Database, scope: Scope, provider: Provider) -> None:
    """The first caller died after its calls; its successor is told to resolve them one by one."""
    effects = effects_of(scope, "ch-1", "ch-2")
    await carry_out(database, effects, provider, record=False)
    outcomes = await carry_out(database, effects, provider)
    assert [type(each) for each in outcomes] == [NotPlain, NotPlain]
    assert len(provider.called) == 2
    assert await statuses(database, scope) == {"ch-1": "claimed", "ch-2": "claimed"}


async def test_each_outcome_is_written_as_it_is(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, "fine", "refused", "busy", "lost", "badkey")
    keys = {each.key.split("/")[1]: each.key for each in effects}
    provider.planned = {
        keys["refused"]: RailRejected("card_declined"), keys["busy"]: RailNotSent("rate_limited"),
        keys["lost"]: RailUnknown("timeout"), keys["badkey"]: RailRejected("unauthorized"),
    }  # fmt: skip
    outcomes = await carry_out(database, effects, provider)
    assert [type(each) for each in outcomes] == [Settled, Settled, RailNotSent, RailUnknown, RailNotSent]
    assert isinstance(outcomes[1], Settled) and outcomes[1].refusal == "card_declined"
    assert await statuses(database, scope) == {
        "fine": "done", "refused": "failed", "busy": "unsent", "lost": "unknown", "badkey": "unsent",
    }  # fmt: skip
    provider.planned = {}
    again = await carry_out(database, effects, provider)
    assert [type(each) for each in again] == [Settled, Settled, Settled, NotPlain, Settled]
    assert isinstance(again[1], Settled) and again[1].refusal == "card_declined"
    assert provider.called.count(keys["lost"]) == 1, "what may have happened is not asked for again"


async def test_a_call_that_comes_too_late_is_not_made(database: Database, scope: Scope, provider: Provider) -> None:
    """Its lease might be over before it ends."""
    effects = effects_of(scope, "ch-1")
    outcomes = await carry_out(database, effects, provider, seconds=0)
    assert isinstance(outcomes[0], RailNotSent) and provider.called == []
    assert await statuses(database, scope) == {"ch-1": "unsent"}


async def test_two_callers_share_no_call(database: Database, scope: Scope, provider: Provider) -> None:
    """Overlapping chunks, listed in opposite orders: no deadlock, and each key is fresh for one of them."""
    many = effects_of(scope, *(f"ch-{n}" for n in range(60)))
    found = await asyncio.gather(claim(database, many[:40]), claim(database, many[:19:-1]))
    fresh = sum(each.fresh for each in found[0]) + sum(each.fresh for each in found[1])
    assert fresh == 60


async def test_the_single_helper_resolves_what_many_left(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, "ch-1")
    await carry_out(database, effects, provider, record=False)

    async def found(_: Claim) -> Told:
        return Told(key="looked up")

    settled = await Effects(database).run(effects[0], provider.send("again"), found)
    assert settled.answer == Told(key="looked up") and len(provider.called) == 1


async def test_a_key_stands_for_one_request(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, "ch-1", "ch-2")
    await carry_out(database, effects, provider)
    other = [effects[0], replace(effects[1], request=Asked(amount_minor=501))]
    with pytest.raises(AssertionError, match="claimed for another request"):
        await claim(database, other)


async def test_a_settled_effect_stays_settled(database: Database, scope: Scope, provider: Provider) -> None:
    effects = effects_of(scope, "ch-1")
    await carry_out(database, effects, provider)
    async with database.transaction(scope) as tx:
        await settle_many(tx, [Outcome(effects[0].key, "unknown", error_code="timeout")])
    assert await statuses(database, scope) == {"ch-1": "done"}
