"""A workflow that takes too much of whatever it is told to."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from contracts.base import Message

SOON = timedelta(seconds=30)


class Want(Message):
    kind: str = "nothing"
    n: int = 0
    filler: str = ""


@activity.defn
async def give(want: Want) -> str:
    """Text of `n` characters."""
    return "x" * want.n


@workflow.defn
class GreedyWorkflow:
    def __init__(self) -> None:
        self._heard = 0

    @workflow.run
    async def run(self, want: Want) -> Any:
        return await getattr(self, want.kind)(want.n)

    async def nothing(self, n: int) -> str:
        return "done"

    async def one_after_another(self, n: int) -> str:
        for _ in range(n):
            await self._give(Want())
        return "done"

    async def much_history(self, n: int) -> str:
        for _ in range(n):
            await self._give(Want(n=200_000))
        return "done"

    async def waves_of_twenty(self, n: int) -> str:
        for _ in range(n):
            await asyncio.gather(*(self._give(Want()) for _ in range(20)))
        return "done"

    async def activities_at_once(self, n: int) -> str:
        await asyncio.gather(*(self._give(Want()) for _ in range(n)))
        return "done"

    async def children_at_once(self, n: int) -> str:
        await asyncio.gather(*(self._child(Want(), f"{workflow.info().workflow_id}/{i}") for i in range(n)))
        return "done"

    async def large_input(self, n: int) -> str:
        await self._give(Want(filler="x" * n))
        return "done"

    async def large_activity_result(self, n: int) -> str:
        await self._give(Want(n=n))
        return "done"

    async def large_result(self, n: int) -> str:
        return "x" * n

    async def large_child_input(self, n: int) -> str:
        await self._child(Want(filler="x" * n), f"{workflow.info().workflow_id}/child")
        return "done"

    async def long_child_id(self, n: int) -> str:
        await self._child(Want(), "x" * n)
        return "done"

    async def long_activity_id(self, n: int) -> str:
        await workflow.execute_activity(give, Want(), activity_id="x" * n, start_to_close_timeout=SOON)
        return "done"

    async def listens(self, n: int) -> str:
        await workflow.wait_condition(lambda: self._heard >= n)
        return "done"

    async def _give(self, want: Want) -> None:
        await workflow.execute_activity(give, want, start_to_close_timeout=SOON)

    async def _child(self, want: Want, id: str) -> None:
        await workflow.execute_child_workflow(GreedyWorkflow.run, want, id=id)

    @workflow.signal
    def hear(self, text: str) -> None:
        self._heard += 1
