"""A Temporal server alone, and a client whose runs must keep our limits."""

from collections.abc import Iterator

import pytest
from temporalio.client import Client

from cli.stack.stack import Stack
from infra.settings import Settings
from infra.temporal import connect


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """No database, none of our processes: the workers run in the test."""
    environment = {"CHAMA_WORKFLOW_LIMITS": "raise"}
    with Stack(tmp_path_factory.mktemp("temporal"), parts=("temporal",), env=environment) as stack:
        yield stack


@pytest.fixture(scope="package")
def settings(server: Stack) -> Settings:
    return server.settings


@pytest.fixture(scope="package")
async def client(settings: Settings) -> Client:
    return await connect(settings)
