"""Many jobs, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def in_turns(jobs: Iterable[Callable[[], Awaitable[Result]]], at_once: int) -> list[Result]:
    """Run every job, at most `at_once` at a time; their results, in the order of the jobs.

    The first that raises ends the others: raises what it raised.
    """
    turns = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable[Result]]) -> Result:
        async with turns:
            return await job()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(job)) for job in jobs]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
