"""The one helper for calls to other companies: claimed before the call, made once, and never made blindly again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from activities.effects import Effect, Effects
from activities.gateways.protocols import RailNotSent, RailRejected, RailUnknown
from contracts.base import Message, Scope
from infra.database import Database, fetch_one
from models.effect import Claim, settle


class Asked(Message):
    amount_minor: int = 500


class Told(Message):
    number: int


class Counter:
    """How often the provider was called and how often it was asked about an earlier call."""

    def __init__(self) -> None:
        self.calls, self.looks = 0, 0

    async def send(self) -> Told:
        self.calls += 1
        return Told(number=self.calls)

    async def unanswered(self) -> Told:
        self.calls += 1
        raise RailUnknown("timeout")

    async def refused(self) -> Told:
        self.calls += 1
        raise RailRejected("card_declined")

    async def found(self, _: Claim) -> Told:
        self.looks += 1
        return Told(number=77)

    async def absent(self, _: Claim) -> None:
        self.looks += 1


Send = Callable[[], Awaitable[Told]]


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def effect(scope: Scope) -> Effect[Told]:
    return Effect(scope=scope, key="attempt/ch-1/start", provider="stripe", operation="start", request=Asked(),
                  answer=Told)  # fmt: skip


async def status_of(database: Database, effect: Effect[Told]) -> str:
    async with database.transaction(effect.scope) as tx:
        row = await fetch_one(tx, "select status from effects where key = %s", (effect.key,))
    return "" if row is None else str(row["status"])


async def carried_out(database: Database, effect: Effect[Told], counter: Counter, send: Send | None = None) -> None:
    settled = await Effects(database).run(effect, send or counter.send, counter.found)
    async with database.transaction(effect.scope) as tx:
        await settled.record(tx)


async def test_an_answered_call_is_never_made_again(database: Database, effect: Effect[Told], counter: Counter) -> None:
    await carried_out(database, effect, counter)
    again = await Effects(database).run(effect, counter.send, counter.found)
    assert again.answer == Told(number=1)
    assert (counter.calls, counter.looks) == (1, 0)


async def test_a_refusal_is_final(database: Database, effect: Effect[Told], counter: Counter) -> None:
    await carried_out(database, effect, counter, counter.refused)
    again = await Effects(database).run(effect, counter.send, counter.found)
    assert (again.answer, again.refusal, counter.calls) == (None, "card_declined", 1)


async def test_the_claim_stands_before_the_call(database: Database, effect: Effect[Told], counter: Counter) -> None:
    seen: list[str] = []

    async def send() -> Told:
        seen.append(await status_of(database, effect))
        return await counter.send()

    await carried_out(database, effect, counter, send)
    assert seen == ["claimed"] and await status_of(database, effect) == "done"


@pytest.mark.parametrize("answered", [True, False])
async def test_what_nobody_recorded_is_looked_up_not_repeated(
    database: Database, effect: Effect[Told], counter: Counter, answered: bool
) -> None:
    """The first caller died after its call (nothing recorded), or never had the answer."""
    if answered:
        await Effects(database).run(effect, counter.send, counter.found)
    else:
        with pytest.raises(RailUnknown):
            await Effects(database).run(effect, counter.unanswered, counter.found)
    truth = await Effects(database).run(effect, counter.send, counter.found)
    assert truth.answer == Told(number=77)
    assert (counter.calls, counter.looks) == (1, 1)


async def test_only_a_proven_absence_permits_the_call_again(
    database: Database, effect: Effect[Told], counter: Counter
) -> None:
    with pytest.raises(RailUnknown):
        await Effects(database).run(effect, counter.unanswered, counter.found)
    await Effects(database).run(effect, counter.send, counter.absent)
    assert (counter.calls, counter.looks) == (2, 1)


async def test_an_exclusive_call_is_not_overlapped(database: Database, effect: Effect[Told], counter: Counter) -> None:
    """A rail without keys: while one caller is at the provider, the next neither calls nor asks."""
    alone, gate = replace(effect, exclusive=True), asyncio.Event()

    async def slow() -> Told:
        await gate.wait()
        return await counter.send()

    first = asyncio.create_task(Effects(database).run(alone, slow, counter.absent))
    async with asyncio.timeout(10):
        while await status_of(database, alone) != "claimed":  # noqa: ASYNC110 - the row is what tells
            await asyncio.sleep(0.01)
    with pytest.raises(RailNotSent, match="effect_in_flight"):
        await Effects(database).run(alone, counter.send, counter.absent)
    gate.set()
    await first
    assert (counter.calls, counter.looks) == (1, 0)


async def test_a_key_stands_for_one_request(database: Database, effect: Effect[Told], counter: Counter) -> None:
    await carried_out(database, effect, counter)
    with pytest.raises(AssertionError, match="claimed for another request"):
        await Effects(database).run(replace(effect, request=Asked(amount_minor=501)), counter.send, counter.found)
    assert counter.calls == 1


@pytest.mark.parametrize("late", ["unknown", "failed"])
async def test_a_settled_effect_stays_settled(
    database: Database, effect: Effect[Told], counter: Counter, late: str
) -> None:
    """Whoever comes late with less knowledge changes nothing."""
    await carried_out(database, effect, counter)
    async with database.transaction(effect.scope) as tx:
        await settle(tx, effect.key, status=late, error_code="timeout")
    assert await status_of(database, effect) == "done"
