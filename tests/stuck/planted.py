"""Ways of being stuck, as workflows that no worker of ours runs, and the worker that runs them.

A process of its own (`python -m tests.stuck.planted <temporal address>`): a worker whose workflow tasks fail for ever does
not end politely, and twenty-five hundred activities are not for the process that tells the time.
"""

import asyncio
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from workflows.options import LEDGER
    from workflows.visibility import show

QUEUE = "planted"
TOO_MANY, TOO_LARGE = 2_500, 2_200_000


@activity.defn
async def echo(text: str) -> str:
    return text


@activity.defn
async def nothing() -> None:
    return


@activity.defn
async def advance_campaign() -> None:
    """Named like one of ours, and never succeeds: its message must not be shown."""
    raise RuntimeError("ada@people.test is not here")


@workflow.defn(name="PlantedBug")
class PlantedBug:
    """An ordinary exception fails the task, not the workflow: it is tried for ever."""

    @workflow.run
    async def run(self) -> None:
        raise KeyError("a bug")


@workflow.defn(name="PlantedPayload")
class PlantedPayload:
    """A payload larger than the server takes, made on the inside."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(echo, "x" * TOO_LARGE, summary="echo", **LEDGER)


@workflow.defn(name="PlantedFanOut")
class PlantedFanOut:
    """More activities at once than a workflow may have."""

    @workflow.run
    async def run(self) -> None:
        await asyncio.gather(
            *(workflow.execute_activity(nothing, summary="nothing", **LEDGER) for _ in range(TOO_MANY))
        )


@workflow.defn(name="PlantedRetries")
class PlantedRetries:
    """A step that never succeeds, while its next action is far away: nothing but the retrying gives it away."""

    @workflow.run
    async def run(self) -> None:
        show("live", next_action_at=workflow.now() + timedelta(days=365))
        await workflow.execute_activity(advance_campaign, summary="never succeeds", **LEDGER)


@workflow.defn(name="PlantedDelay")
class PlantedDelay:
    """Past its own time, and waiting for nothing that could come."""

    @workflow.run
    async def run(self) -> None:
        show("live", next_action_at=workflow.now() - timedelta(days=365))
        await workflow.wait_condition(lambda: False)


WORKFLOWS = [PlantedBug, PlantedPayload, PlantedFanOut, PlantedRetries, PlantedDelay]


async def main(address: str) -> None:
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=WORKFLOWS,
        activities=[echo, nothing, advance_campaign],
        debug_mode=True,  # no deadlock detection: on a busy machine it would strike before the server's own limits
    )
    print("ready", flush=True)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
