"""Many jobs, a few at a time."""

import asyncio
from functools import partial

import pytest

from infra.turns import in_turns


async def test_a_few_at_a_time_and_in_order() -> None:
    running, most = 0, 0

    async def job(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01 / number)
        running -= 1
        return number

    assert await in_turns([partial(job, number) for number in range(1, 10)], 3) == [*range(1, 10)]
    assert (running, most) == (0, 3)


async def test_the_first_failure_ends_the_others() -> None:
    done = []

    async def job(number: int) -> None:
        if number == 1:
            raise ValueError(number)
        await asyncio.sleep(1)
        done.append(number)

    with pytest.raises(ValueError, match="1"):
        await in_turns([partial(job, number) for number in range(3)], 2)
    assert done == []
