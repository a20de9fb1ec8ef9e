"""What goes wrong, and when: a seeded sequence of kills, provider faults and broken connections.

Each kind has its own generator, so that the length of one sequence does not move another. A kill counts when a living
process was killed, a provider fault when the sandbox fired it, a TCP fault when it met a connection.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from cli.chaos.proxy import Link, TcpFault
from cli.demo.world import World
from cli.stack.stack import Stack
from cli.stack.supervisor import State

PARTS: Final = {
    "worker": 6, "worker-2": 6, "api": 3, "api-2": 3, "relay": 3, "sandbox": 3, "temporal": 2, "postgres": 2,
}  # fmt: skip
"""Who is killed, and how often relative to the others: every part once, then by weight."""
_API_FAULTS: Final[dict[str, dict[str, int]]] = {
    "500_before": {}, "500_after": {}, "hang_after": {"seconds": 4}, "hang_before": {"seconds": 4},
    "reset_after": {}, "malformed": {}, "429": {"retry_after": 1},
}  # fmt: skip
_WEBHOOK_FAULTS: Final[dict[str, dict[str, int]]] = {
    "duplicate": {"n": 2},
    "late": {"seconds": 3},
    "reorder": {},
    "early": {},
    "forged": {},
}
_TCP_WEIGHTS: Final = {TcpFault.RESET: 4, TcpFault.CUT: 3, TcpFault.STALL: 2, TcpFault.LATENCY: 2}
_LINK_WEIGHTS: Final = {"postgres": 4, "temporal": 3, "provider": 3}
_BACK_SECONDS: Final = 120.0
_DOWN_MAX: Final = 2
"""No kill while more parts than this are down: a machine that restarts slowly is killed more slowly, not to a standstill."""


_FIRED_SHARE, _FIRED_SECONDS = 0.8, 30.0
"""The chaos lasts until four fifths of the provider faults have fired, but no longer than this after the last kill."""


@dataclass(frozen=True)
class Dose:
    """How much goes wrong, over how many seconds."""

    kills: int
    provider_faults: int
    tcp_faults: int
    seconds: float


def dose(flows: int) -> Dose:
    """Sixteen kills for two hundred flows or fewer, a hundred and more for a thousand; likewise the faults."""
    kills = 16 + round(max(0, flows - 200) * 0.112)
    return Dose(
        kills, max(50, round(flows * 0.26)), max(50, round(flows * 0.24)), kills * (2.0 if flows <= 300 else 3.4)
    )


class Nemesis:
    """The three sequences of one run."""

    def __init__(self, seed: int, planned: Dose, stack: Stack, world: World, links: dict[str, Link]) -> None:
        self._seed, self._dose = seed, planned
        self._stack, self._world, self._links = stack, world, links
        self.kills: Counter[str] = Counter()
        self._last_kill = 0.0
        self.planted = 0
        self.provider_faults: Counter[str] = Counter()
        """By kind; filled by `heal`."""

    @property
    def tcp_faults(self) -> Counter[str]:
        """Faults that met a connection, by kind."""
        return sum((link.fired for link in self._links.values()), Counter())

    async def reach(self, share: float) -> None:
        """Wait until this share of the chaos (0 to 1) is over, as counted by the kills: everything keeps their pace."""
        gap = self._dose.seconds / self._dose.kills
        while True:
            since = (time.monotonic() - self._last_kill) / gap if self._last_kill else 0.0
            over = (self.kills.total() + min(0.9, since)) / self._dose.kills
            if over >= min(share, 1.0):
                return
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        """All three, side by side, until each has had its dose."""
        await asyncio.gather(self._kill(), self._fail_providers(), self._break_links())
        await self._until_fired()

    async def _until_fired(self) -> None:
        """A planted fault is none yet: let what is still under way meet most of them, unless it takes too long."""
        until = time.monotonic() + _FIRED_SECONDS
        while time.monotonic() < until:
            fired = sum([fault["fired"] async for fault in self._faults()])
            if fired >= _FIRED_SHARE * self.planted:
                return
            await asyncio.sleep(0.5)

    async def heal(self) -> None:
        """No fault any more, and every part up again. Raises StackFailed when one does not come up."""
        for link in self._links.values():
            link.heal()
        for part in PARTS:
            await asyncio.to_thread(self._stack.start, part)
        async for fault in self._faults():
            if fault["fired"]:
                self.provider_faults[fault["kind"]] += fault["fired"]
        for key in self._world.seeded.sandbox_keys.values():
            await self._sandbox("DELETE", "/_sandbox/faults", params={"secret_key": key})

    async def _faults(self) -> AsyncIterator[dict[str, Any]]:
        """The faults planted at the sandbox, at every provider's."""
        for key in self._world.seeded.sandbox_keys.values():
            answer = await self._sandbox("GET", "/_sandbox/faults", params={"secret_key": key})
            for fault in answer.json()["faults"]:
                yield fault

    def _generator(self, purpose: str) -> random.Random:
        return random.Random(f"{purpose} {self._seed}")  # noqa: S311 - replayable, not secret

    async def _kill(self) -> None:
        generator = self._generator("kills")
        once = generator.sample(list(PARTS), len(PARTS))
        rest = generator.choices(list(PARTS), list(PARTS.values()), k=self._dose.kills)
        gap = self._dose.seconds / self._dose.kills
        self._last_kill = time.monotonic()
        for part in (once + rest)[: self._dose.kills]:
            await asyncio.sleep(generator.uniform(0.4, 1.6) * gap)
            await self._until_up(part)
            await asyncio.to_thread(self._stack.crash, part)
            self.kills[part] += 1
            self._last_kill = time.monotonic()

    async def _until_up(self, part: str) -> None:
        """A dead process cannot be killed: wait for the supervisor to have it running, and most others doing their work."""
        async with asyncio.timeout(_BACK_SECONDS):
            while True:
                down = sum(each.state is not State.READY for each in self._stack.snapshots() if each.name in PARTS)
                if self._stack.pid(part) is not None and down <= _DOWN_MAX:
                    return
                await asyncio.sleep(0.1)

    async def _fail_providers(self) -> None:
        """Plant faults one by one; each fires on the next call (or event) of its kind."""
        generator = self._generator("providers")
        for number in range(self._dose.provider_faults):
            await self.reach((number + generator.random()) / self._dose.provider_faults)
            provider = generator.choices(("stripe", "paystack"), (8, 2))[0]
            webhook = generator.random() < 0.2
            kinds = _WEBHOOK_FAULTS if webhook else _API_FAULTS
            kind = generator.choice(sorted(kinds))
            body: dict[str, Any] = {
                "secret_key": self._world.seeded.sandbox_keys[provider], "kind": kind,
                "operation": "webhook" if webhook else "any", **kinds[kind],
            }  # fmt: skip
            await self._sandbox("POST", "/_sandbox/faults", json=body)
            self.planted += 1

    async def _break_links(self) -> None:
        generator = self._generator("links")
        while self.tcp_faults.total() < self._dose.tcp_faults:
            await self.reach((self.tcp_faults.total() + generator.random()) / self._dose.tcp_faults)
            await asyncio.sleep(generator.uniform(0.05, 0.15))
            name = generator.choices(list(_LINK_WEIGHTS), list(_LINK_WEIGHTS.values()))[0]
            fault = generator.choices(list(_TCP_WEIGHTS), list(_TCP_WEIGHTS.values()))[0]
            self._links[name].strike(fault, generator)

    async def _sandbox(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request to the sandbox's control, past the links; while it is down, again."""
        while True:
            try:
                answer = await self._world.sandbox.request(method, path, timeout=5, **more)
                if answer.status_code < 500:
                    return answer.raise_for_status()
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
