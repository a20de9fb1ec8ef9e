"""`chama chaos`: for each seed a stack of its own, plan → chaos → heal → converge → audit, and `var/chaos.json`.

The file is written on failure too: `{"runs": [{"seed", "flows", "kills", "kills_by_kind", "provider_faults",
"tcp_faults", "faults_by_kind", "reads", "lost", "doubled", "stuck", "wrong", "converge_seconds", "audit_ok", "ok",
"findings", …}], "ok"}`.
"""

import asyncio
import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cli.chaos.crowd import Crowd
from cli.chaos.nemesis import Dose, Nemesis, dose
from cli.chaos.plan import Flow, chosen, draw
from cli.chaos.proxy import Link
from cli.chaos.reader import Reader
from cli.chaos.verdict import Judge, Outcome
from cli.demo.world import World
from cli.stack.stack import Stack

ENVIRONMENT: Final = {
    "CHAMA_PROVIDER_TIMEOUT_SECONDS": "3",
    "CHAMA_LOG_LEVEL": "WARNING",
    "CHAMA_PASSWORD_ROUNDS": "1",
    "CHAMA_PASSWORD_MEMORY_KIB": "1024",
}
STACK: Final = ("postgres", "temporal", "schema", "sandbox", "api", "worker", "relay", "api-2", "worker-2")
CONVERGE_SECONDS: Final = 60.0
"""The promise: this long after the heal everything has come to its end."""
PATIENCE_SECONDS: Final = 180.0
"""How long a run that breaks the promise is still watched, to tell slow from stuck."""
_PEOPLE, _WALLETS, _WALLET_MINOR = 10, 2, 100_000_000
_AT_ONCE: Final = 40
"""Flows whose client waits for an answer: more would only wait longer, and repeat more."""
_SPREAD: Final = 0.9
"""The last flow begins when this share of the chaos is over."""


class Stage(StrEnum):
    """How far a run is."""

    STARTING = "starting"
    CHAOS = "chaos"
    HEALING = "healing"
    CONVERGING = "converging"
    DONE = "done"


@dataclass
class Run:
    """One seed's run, readable while it goes on."""

    seed: int
    flows: list[Flow]
    planned: Dose
    stage: Stage = Stage.STARTING
    nemesis: Nemesis | None = None
    reader: Reader | None = None
    crowd: Crowd | None = None
    judge: Judge | None = None
    outcome: Outcome | None = None
    seconds: float = 0.0
    chaos_seconds: float = 0.0
    error: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def ok(self) -> bool:
        """Whether every promise held."""
        end = self.outcome
        return (
            end is not None and self.reader is not None and not self.error and end.converged and not end.amiss
            and not end.findings and not self.reader.wrong and end.converge_seconds <= CONVERGE_SECONDS
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The run's row in `chaos.json`."""
        end, nemesis = self.outcome, self.nemesis
        kills: Counter[str] = nemesis.kills if nemesis else Counter()
        provider: Counter[str] = nemesis.provider_faults if nemesis else Counter()
        tcp: Counter[str] = nemesis.tcp_faults if nemesis else Counter()
        reader = self.reader
        return {
            "seed": self.seed,
            "ok": self.ok,
            "flows": len(self.flows),
            "kills": kills.total(),
            "kills_by_kind": dict(sorted(kills.items())),
            "provider_faults": provider.total(),
            "tcp_faults": tcp.total(),
            "faults_by_kind": dict(sorted((provider + tcp).items())),
            "reads": reader.reads if reader else 0,
            "lost": end.count("lost") if end else None,
            "doubled": end.count("doubled") if end else None,
            "stuck": max(end.count("stuck"), *end.owed.values(), 0) if end else None,
            "wrong": end.count("wrong") if end else None,
            "converge_seconds": round(end.converge_seconds, 1) if end else None,
            "audit_ok": end is not None and not end.findings and reader is not None and not reader.wrong,
            "chaos_seconds": round(self.chaos_seconds, 1),
            "seconds": round(self.seconds, 1),
            "retries": dict(sorted(self.crowd.retries.items())) if self.crowd else {},
            "ends": dict(sorted(end.ends.items())) if end else {},
            "findings": self.findings(),
        }

    def findings(self) -> list[str]:
        """Everything that did not hold, one line each; also that the run took too long to converge."""
        found = self.wrong()
        if self.outcome is not None and self.outcome.converge_seconds > CONVERGE_SECONDS:
            found.append(f"converged after {self.outcome.converge_seconds:.0f} s, not {CONVERGE_SECONDS:.0f}")
        return found

    def wrong(self) -> list[str]:
        """What did not hold however long it took: a busy machine is no defect of ours."""
        found = [self.error] if self.error else []
        found += self.reader.wrong if self.reader else []
        if self.outcome is not None:
            found += [str(each) for each in self.outcome.amiss]
            found += self.outcome.findings
            found += [f"still owed: {count} {name}" for name, count in self.outcome.owed.items()]
        return found


def plan(seed: int, flows: int, prefixes: list[str]) -> Run:
    """The run of one seed, not yet begun. Raises StackFailed when no story begins with any of `prefixes`."""
    return Run(seed, draw(seed, flows, _PEOPLE, chosen(prefixes)), dose(flows))


async def carry_out(run: Run, directory: Path) -> None:
    """Do the whole run in `directory`, which is emptied first; what happened is in `run`. Raises StackFailed."""
    shutil.rmtree(directory, ignore_errors=True)
    run.began = time.monotonic()
    links = {name: Link(name) for name in ("postgres", "temporal", "provider")}
    ports = {name: await link.listen() for name, link in links.items()}
    inside = {name: ports[name] for name in ("postgres", "temporal")}
    stack = Stack(directory, parts=STACK, env=ENVIRONMENT, links=inside)
    try:
        await asyncio.to_thread(stack.begin)
        for name, link in links.items():
            link.aim(stack.site.ports["sandbox" if name == "provider" else name])
        await asyncio.to_thread(stack.wait_ready)
        await _with_stack(run, stack, links, f"http://127.0.0.1:{ports['provider']}")
    finally:
        run.seconds = time.monotonic() - run.began
        for link in links.values():
            await link.close()
        await asyncio.to_thread(stack.stop, at_once=True)


async def _with_stack(run: Run, stack: Stack, links: dict[str, Link], provider_url: str) -> None:
    world = await World.make(stack, f"chaos-{run.seed}", provider_url=provider_url)
    crowd = run.crowd = Crowd(world, [stack.urls["api"], stack.site.url("api-2")])
    reader = run.reader = Reader(stack.settings.role_url("chama_audit"))
    nemesis = run.nemesis = Nemesis(run.seed, run.planned, stack, world, links)
    reading: asyncio.Task[None] | None = None
    try:
        await crowd.settle_in(_PEOPLE, _WALLETS, _WALLET_MINOR)
        for story in {each.story.name: each.story for each in run.flows}.values():
            await story.prepare(crowd, run.planned.seconds)
        reading = asyncio.create_task(reader.run())
        run.stage, began = Stage.CHAOS, time.monotonic()
        acting = asyncio.create_task(_act(run.flows, crowd, nemesis))
        try:
            await nemesis.run()
            run.stage = Stage.HEALING
            await nemesis.heal()
            run.chaos_seconds, run.stage = time.monotonic() - began, Stage.CONVERGING
            run.judge = Judge(crowd, run.flows)
            run.outcome = await run.judge.converge(PATIENCE_SECONDS)
        finally:
            acting.cancel()
            with suppress(asyncio.CancelledError):
                await acting
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled() and reading.exception() is not None:
                run.error = f"the reader failed: {reading.exception()!r}"
        await crowd.close()
        run.stage = Stage.DONE


async def _act(flows: list[Flow], crowd: Crowd, nemesis: Nemesis) -> None:
    """Begin the flows evenly over the chaos, and see each to its final answers."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, flow: Flow) -> None:
        await nemesis.reach(_SPREAD * number / len(flows))
        try:
            async with turns:
                await flow.story.act(flow, crowd)
        except Exception as error:  # noqa: BLE001 - a client that breaks is a finding of this flow, not the end of the run
            flow.answered, flow.error = False, f"{type(error).__name__}: {error}"

    await asyncio.gather(*(one(number, flow) for number, flow in enumerate(flows)))
