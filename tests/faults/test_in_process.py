"""Every activity crashed before and after its body, in every story's every process: everything comes out the same."""

import asyncio
import logging
from collections.abc import Iterable, Iterator

import pytest
from temporalio import activity
from temporalio.client import Client

from cli.chaos.point_stories import DRIVES, STORIES, undriven
from cli.chaos.points import Kind, Moment, Point, Strikes, activity_names, both, registered, struck_worker
from cli.stack.stack import Stack
from tests.faults.conftest import rested
from tests.fixtures.stack import judge, new_world
from tests.fixtures.stage import Stage


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Temporal warns of every failed activity with its trace; hundreds fail here on purpose."""
    log = logging.getLogger("temporalio.activity")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)


def _commit(number: int) -> Point:
    """A crash at the commit of this number, before it or after it."""
    return Point(Kind.COMMIT, str(number), [*Moment][number // 2 % 2])


async def _told(stack: Stack, strikes: Strikes, names: Iterable[str]) -> list[Stage]:
    """Tell the stories side by side with a worker in this process; their tenants, when nothing is owed any more.

    Judged afterwards, without the worker: the auditor asks the providers from this process too, and it is busy enough.
    """
    worlds = {name: await new_world(stack) for name in names}

    async def tell(name: str) -> None:
        await STORIES[name](worlds[name])
        await rested(worlds[name])

    async with struck_worker(stack.settings, strikes):
        ended = await asyncio.gather(*(tell(name) for name in worlds), return_exceptions=True)
    failures = [f"{name}: {end!r}" for name, end in zip(worlds, ended, strict=True) if end is not None]
    assert failures == [], "\n".join(failures)
    return list(worlds.values())


async def _judged(worlds: list[Stage], temporal: Client) -> None:
    for world in worlds:
        await judge(world, temporal)
        await world.close()


@pytest.mark.timeout(600)
async def test_every_activity_is_crashed_before_and_after_its_body(
    stack: Stack, temporal: Client, no_worker: None
) -> None:
    """Once in each workflow: an effect that is done and not reported is never done again."""
    names = await registered(stack.settings)
    assert undriven(names) == []
    strikes = Strikes(both(Kind.ACTIVITY, names))
    worlds = await _told(stack, strikes, STORIES)
    assert [str(point) for point in strikes.missed] == []
    await _judged(worlds, temporal)
    print(f"{sum(strikes.struck.values())} crashes at {len(strikes.points)} points")


@pytest.mark.timeout(600)
async def test_commits_and_calls_are_crashed_before_and_after(stack: Stack, temporal: Client, no_worker: None) -> None:
    """A commit nobody was told of, and an answer nobody heard: the claim of each effect says what to ask."""
    commits = [_commit(2 * number) for number in range(1, 16)]
    calls = both(Kind.PROVIDER, ["stripe.create", "stripe.capture", "stripe.cancel", "paystack.verify"])
    strikes = Strikes([*commits, *calls])
    worlds = await _told(stack, strikes, ("paid_at_once", "released"))
    assert [str(point) for point in strikes.missed] == []
    await _judged(worlds, temporal)


_PAYOUT_CALLS = both(Kind.PROVIDER, ["paystack.transfer", "paystack.resolve", "paystack.recipient"])
_PAYOUT_STEPS = both(Kind.ACTIVITY, ["advance_payout", "verify_beneficiary"])
_ODD, _EVEN = ([_commit(number) for number in range(first, 9, 2)] for first in (1, 2))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("steps", "commits"), [(_PAYOUT_STEPS, _ODD), (_PAYOUT_CALLS, _EVEN)], ids=["its steps", "its calls"]
)
async def test_a_payout_is_crashed_at_every_step(
    stack: Stack, temporal: Client, no_worker: None, steps: list[Point], commits: list[Point]
) -> None:
    """Above all between the call that sends the money and the record of its answer: it is looked up, never sent again.

    In two rounds: each crash of the same activity doubles what Temporal waits before the next attempt.
    """
    strikes = Strikes([*commits, *steps])
    worlds = await _told(stack, strikes, ("paid_out",))
    assert [str(point) for point in strikes.missed] == []
    await _judged(worlds, temporal)


@pytest.mark.timeout(600)
async def test_a_return_of_escrow_is_crashed_at_every_step(stack: Stack, temporal: Client, no_worker: None) -> None:
    """A missed milestone's money goes back once, whatever is done and not reported, or rolled back."""
    commits = [_commit(3 * number) for number in range(1, 16)]
    strikes = Strikes([*commits, *both(Kind.ACTIVITY, ["advance_milestones", "return_escrow_range"])])
    worlds = await _told(stack, strikes, ("given_back",))
    assert [str(point) for point in strikes.missed] == []
    await _judged(worlds, temporal)


@activity.defn
async def pay_out_dividends() -> None:
    """An activity somebody adds, and tells no story of."""


async def test_an_activity_without_a_story_is_named(stack: Stack) -> None:
    names = await registered(stack.settings)
    assert undriven([*names, *activity_names([pay_out_dividends])]) == ["pay_out_dividends"]


def test_stories_drive_what_exists() -> None:
    assert set(DRIVES) == set(STORIES)
