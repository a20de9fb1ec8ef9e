"""Invest-and-capture beside the bare workflow of the same shape, on the same Temporal server: many at once, and one alone."""

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import uuid4

from temporalio.client import Client

from benchmarks.bare_workflows import TASK_QUEUE, BareInbox, BareInvestment
from benchmarks.measure import Ratio, rate, side_by_side
from cli.demo.world import CARD, Person, World
from cli.stack.stack import Stack

_FLOWS = 40
_AT_ONCE = 20
_SOLO = 10
_AMOUNT = 1000
_WEBHOOKS = 2
_LOOK_SECONDS = 0.02
_numbers = itertools.count()


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """`invest_vs_bare` (finished a second) and `invest_solo_latency_vs_bare` (seconds from request to captured)."""
    ours = await _Ours.make(stack)
    with _bare_worker(stack):
        bare = _Bare(await Client.connect(stack.settings.temporal_address, namespace=stack.settings.temporal_namespace))
        yield await side_by_side(
            "invest_vs_bare", f"invest-and-capture, {_AT_ONCE} at once", ours.many, bare.many, goal="≥ 0.8"
        )
        yield await side_by_side(
            "invest_solo_latency_vs_bare",
            "invest-and-capture alone, request to captured",
            ours.alone,
            bare.alone,
            goal="≤ 1.3",
            unit="s",
        )
    await ours.world.close()


class _Ours:
    """The product through its API: a person pays by card into a keep-what-you-raise campaign."""

    def __init__(self, world: World, person: Person, campaign: str) -> None:
        self.world, self._person, self._campaign = world, person, campaign

    @classmethod
    async def make(cls, stack: Stack) -> "_Ours":
        world = await World.make(stack, f"bench-{uuid4().hex[:12]}")
        campaign = await world.campaign("keep_what_you_raise", goal=_AMOUNT * 1_000_000)
        return cls(world, await world.person(), campaign)

    async def many(self) -> float:
        before = await self._captured()
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with at_once:
                await self._invest()

        async def all_captured() -> None:
            await asyncio.gather(*(one() for _ in range(_FLOWS)))
            while await self._captured() < before + _FLOWS * _AMOUNT:
                await asyncio.sleep(_LOOK_SECONDS)

        return await rate(_FLOWS, all_captured())

    async def alone(self) -> float:
        started = time.perf_counter()
        for _ in range(_SOLO):
            made = await self._invest()
            while (await self._person.get(f"/v1/investments/{made}"))["status"] != "captured":
                await asyncio.sleep(_LOOK_SECONDS)
        return (time.perf_counter() - started) / _SOLO

    async def _invest(self) -> str:
        return str((await self.world.invest(self._person, self._campaign, _AMOUNT, "stripe", instrument=CARD))["id"])

    async def _captured(self) -> int:
        return int((await self._person.get(f"/v1/campaigns/{self._campaign}"))["captured"]["amount"])


class _Bare:
    """The bare workflow, and the two webhooks a card payment brings."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def many(self) -> float:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with at_once:
                await self._one()

        return await rate(_FLOWS, asyncio.gather(*(one() for _ in range(_FLOWS))))

    async def alone(self) -> float:
        started = time.perf_counter()
        for _ in range(_SOLO):
            await self._one()
        return (time.perf_counter() - started) / _SOLO

    async def _one(self) -> None:
        number = f"{uuid4().hex[:8]}-{next(_numbers)}"
        handle = await self._client.start_workflow(
            BareInvestment.run, number, id=f"bare-investment-{number}", task_queue=TASK_QUEUE
        )
        for _ in range(_WEBHOOKS):
            await self._client.start_workflow(
                BareInbox.run, id="bare-inbox", task_queue=TASK_QUEUE, start_signal="event_received"
            )
        await handle.result()


@contextmanager
def _bare_worker(stack: Stack) -> Iterator[None]:
    settings = stack.settings
    command = [
        sys.executable,
        "-m",
        "benchmarks.bare_workflows",
        settings.temporal_address,
        settings.temporal_namespace,
    ]
    process = subprocess.Popen(command)  # noqa: S603 - our own module
    try:
        yield
    finally:
        process.terminate()
        process.wait()
