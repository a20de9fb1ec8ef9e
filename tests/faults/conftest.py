"""A stack whose own worker is stopped: the tests put one in its place that is struck at fault points."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client

from cli.chaos.point_stories import let_grace_pass
from cli.demo.world import StoryFailed
from cli.stack.stack import Stack
from infra.temporal import connect
from tests.fixtures.stack import running_stack
from tests.fixtures.stage import Stage


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Apart from everybody else's stack, because its workers die."""
    with running_stack(tmp_path_factory, "faults") as running:
        yield running


@pytest.fixture(scope="package")
async def temporal(stack: Stack) -> Client:
    """A client that decrypts."""
    return await connect(stack.settings)


@pytest.fixture
async def no_worker(stack: Stack) -> AsyncIterator[None]:
    """Nobody works but whom the test brings."""
    stack.stop("worker")
    yield
    stack.start("worker")


async def rested(world: Stage) -> None:
    """Nothing is owed any more, with patience for the time-outs by which deaths are noticed."""
    for _ in range(5):
        with contextlib.suppress(StoryFailed):
            await world.until_rest()
            return
        await let_grace_pass(world)
    await world.until_rest()
