"""A real worker, really killed with `kill -9` at fifteen points of the matrix, other ones on other days."""

import datetime
import random
from pathlib import Path

import pytest
from temporalio.client import Client

from cli.chaos.crashing_worker import deaths, killing
from cli.chaos.matrix import POINTS_PER_ROUND, UNREACHED, full_matrix, run_matrix
from cli.chaos.points import OPERATIONS, Kind, Moment, Point, both, operation_of, registered
from cli.demo.world import World
from cli.stack.stack import Stack
from tests.faults.conftest import rested
from tests.fixtures.stack import judge
from tests.fixtures.stage import Stage


@pytest.mark.timeout(900)
async def test_fifteen_points_by_real_kills(stack: Stack, temporal: Client) -> None:
    """The sample rotates with the day; a day's sample is the same wherever it runs."""
    today = datetime.datetime.now(datetime.UTC).date()
    points = both(Kind.ACTIVITY, await registered(stack.settings))
    sample = sorted(random.Random(today.toordinal()).sample(points, POINTS_PER_ROUND))
    print(f"{today}: {', '.join(map(str, sample))}")

    async def judged(world: World) -> None:
        assert isinstance(world, Stage)
        await rested(world)
        await judge(world, temporal)

    report = await run_matrix(stack, sample, judge=judged, make=Stage.make)
    print(f"{report.kills} kills, {report.seconds:.0f} s")
    assert report.errors == [], "\n".join(report.errors)
    assert report.missed == []
    assert report.ok and report.kills == POINTS_PER_ROUND
    assert stack.pid("worker") is not None, "the ordinary worker is back"


async def test_the_full_matrix_has_every_activity_commit_and_call(stack: Stack) -> None:
    points = await full_matrix(stack)
    assert len(set(points)) == len(points)
    assert {point.name for point in points if point.kind is Kind.ACTIVITY} == {*await registered(stack.settings)}
    assert {point.name for point in points if point.kind is Kind.PROVIDER} == {*OPERATIONS} - UNREACHED
    assert {point.moment for point in points} == {*Moment}
    assert [Point.parse(str(point)) for point in points] == points


def test_a_death_leaves_its_mark_and_is_not_repeated(tmp_path: Path) -> None:
    """Whoever comes to a point that has struck often enough passes."""
    point = Point(Kind.COMMIT, "3", Moment.AFTER)
    for number in range(2):
        (tmp_path / f"{point}.{number}").touch()
    killing(tmp_path, 2)(point)
    assert deaths(tmp_path) == {point: 2}


def test_calls_have_the_names_the_sandbox_gives_them() -> None:
    assert operation_of("POST", "/stripe/v1/payment_intents/pi_1/capture") == "stripe.capture"
    assert operation_of("GET", "/stripe/v1/payment_intents/search") == "stripe.search"
    assert operation_of("GET", "/paystack/refund/7") == "paystack.get_refund"
    assert operation_of("POST", "/_sandbox/clock") is None
