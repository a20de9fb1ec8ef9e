"""A stack of its own, whose processes log everything they ever log."""

from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client

from cli.stack.stack import Stack
from infra.temporal import connect
from tests.fixtures.stack import new_world, running_stack
from tests.fixtures.stage import Stage


@pytest.fixture(scope="package")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory, "privacy", CHAMA_LOG_LEVEL="DEBUG") as running:
        yield running


@pytest.fixture(scope="package")
async def decrypting(talkative: Stack) -> Client:
    return await connect(talkative.settings)


@pytest.fixture
async def observed(talkative: Stack) -> AsyncIterator[Stage]:
    made = await new_world(talkative)
    yield made
    await made.close()
