"""The strict sandbox policy at `Worker()` construction (STYLE F1, F2)."""

from collections.abc import Iterator

import pytest
from temporalio.worker import Worker

import worker
from cli.stack.stack import Stack
from infra.temporal import connect
from tests.workflows.careless import CarelessWorkflow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Temporal server alone."""
    with Stack(tmp_path_factory.mktemp("temporal"), parts=("temporal",)) as stack:
        yield stack


async def test_every_workflow_passes_the_strict_sandbox(server: Stack) -> None:
    Worker(await connect(server.settings), task_queue="strict", workflows=worker.WORKFLOWS)


async def test_an_import_outside_the_passthrough_block_is_refused(server: Stack) -> None:
    client = await connect(server.settings)
    with pytest.raises(RuntimeError, match="CarelessWorkflow") as refused:
        Worker(client, task_queue="strict", workflows=[CarelessWorkflow])
    assert "was not intentionally passed through" in str(refused.value.__cause__)
