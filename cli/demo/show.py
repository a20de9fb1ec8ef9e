"""Runs every story with live progress, checks the books, prints what happened and writes `var/demo.json`.

The file is written on failure too: `{"ok", "stories": [{"name", "ok", "workflow_ids", "seconds", "error"?}], "audit":
{"ok", "findings"}, "seconds"}`. The exit code is 0 only if every check held.
"""

import asyncio
import json
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.audit import examine
from cli.demo import life, stories
from cli.demo.registry import STORIES, Story
from cli.demo.world import StoryFailed, World
from cli.stack.parts import StackFailed
from cli.stack.processes import adopt_orphans, reap_orphans
from cli.stack.stack import Stack

AT_ONCE = 3
"""Stories side by side; the one that kills the worker runs alone, at the end."""
MODULES = (stories, life)
"""Where the stories are; importing them registers them."""
ALONE = ("invest.worker_killed",)
STORY_SECONDS = 150
_PIPE_WIDTH = 160
"""Columns where the output is a file or a pipe: wide enough that no row wraps."""
ENVIRONMENT = {"CHAMA_PROVIDER_TIMEOUT_SECONDS": "4", "CHAMA_LOG_LEVEL": "INFO"}
"""The demo's providers hang on purpose: it gives up on a call after four seconds instead of ten."""


@dataclass
class Outcome:
    """How one story went."""

    name: str
    about: str
    state: str = "waiting"
    seconds: float = 0.0
    workflow_ids: tuple[str, ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The story's row in `demo.json`."""
        row: dict[str, Any] = {
            "name": self.name, "ok": self.state == "ok", "workflow_ids": list(self.workflow_ids),
            "seconds": round(self.seconds, 2),
        }  # fmt: skip
        return row | ({"error": self.error} if self.error else {})


def run(directory: Path) -> int:
    """Start the stack, run the stories, stop the stack; the exit code."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    outcomes = [Outcome(name, (STORIES[name].__doc__ or "").strip().splitlines()[0]) for name in STORIES]
    began = time.monotonic()
    report: dict[str, Any] = {"ok": False, "findings": ["the stack did not start"]}
    adopt_orphans()
    stack = Stack(directory, env=ENVIRONMENT)
    console.print("Starting Postgres, Temporal, the sandbox, API, worker and relay …", style="dim")
    try:
        with stack:
            console.print(f"Ready after {time.monotonic() - began:.1f} s. Temporal UI: {stack.urls['temporal_ui']}")
            report = asyncio.run(_play(console, stack, outcomes))
            _summary(console, stack, outcomes, report)
    except StackFailed as error:
        console.print(Text(str(error), style="red"))
    finally:
        reap_orphans()
        ok = report["ok"] and all(each.state == "ok" for each in outcomes)
        _write(directory, ok, outcomes, report, time.monotonic() - began)
    console.print(
        Text(
            "Every check held." if ok else "Something did not hold; see above.",
            style="bold green" if ok else "bold red",
        )
    )
    console.print(f"{directory / 'demo.json'} has the details; the logs are in {directory / 'log'}.", style="dim")
    return 0 if ok else 1


async def _play(console: Console, stack: Stack, outcomes: list[Outcome]) -> dict[str, Any]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(outcome: Outcome) -> None:
        async with slots:
            await _tell(stack, STORIES[outcome.name], outcome)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(each) for each in outcomes if each.name not in ALONE))
        for each in outcomes:
            if each.name in ALONE:
                await one(each)

    await (_with_progress if console.is_terminal else _with_lines)(console, outcomes, all_of_them())
    return await examine(stack.settings)


async def _with_progress(console: Console, outcomes: list[Outcome], work: Coroutine[Any, Any, None]) -> None:
    """A table that follows the stories while they run."""
    with Live(_table(outcomes), console=console, refresh_per_second=4, transient=True) as live:
        task = asyncio.create_task(work)
        while not task.done():
            live.update(_table(outcomes))
            await asyncio.wait([task], timeout=0.25)
        await task


async def _with_lines(console: Console, outcomes: list[Outcome], work: Coroutine[Any, Any, None]) -> None:
    """A line per finished story, for logs and pipes."""
    task = asyncio.create_task(work)
    told: set[str] = set()
    while True:
        await asyncio.wait([task], timeout=0.25)
        for each in outcomes:
            if each.state in ("ok", "failed") and each.name not in told:
                told.add(each.name)
                console.print(f"{each.name:<36} {each.state:<7} {each.seconds:5.1f} s", highlight=False)
        if task.done():
            break
    await task


async def _tell(stack: Stack, story: Story, outcome: Outcome) -> None:
    began = time.monotonic()
    outcome.state = "running"
    world: World | None = None
    try:
        async with asyncio.timeout(STORY_SECONDS):
            slug = outcome.name.replace(".", "-").replace("_", "-")[:32] + f"-{time.time_ns() % 10**6}"
            world = await World.make(stack, slug)
            await story(world)
        outcome.state = "ok"
    except TimeoutError:
        outcome.state, outcome.error = "failed", f"not finished after {STORY_SECONDS} s"
    except StoryFailed as error:
        outcome.state, outcome.error = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a story that breaks must be reported, whatever broke
        outcome.state, outcome.error = "failed", f"{type(error).__name__}: {error}"
    finally:
        outcome.seconds = time.monotonic() - began
        if world is not None:
            outcome.workflow_ids = tuple(world.workflow_ids)
            await world.close()


_STYLES = {"ok": "green", "failed": "red", "running": "yellow", "waiting": "dim"}


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, justify in (("story", "left"), ("", "left"), ("seconds", "right"), ("what happens", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for each in outcomes:
        seconds = f"{each.seconds:.1f}" if each.seconds else ""
        table.add_row(each.name, Text(each.state, style=_STYLES[each.state]), seconds, Text(each.about, style="dim"))
    return table


def _summary(console: Console, stack: Stack, outcomes: list[Outcome], report: dict[str, Any]) -> None:
    console.print(_table(outcomes))
    for each in outcomes:
        if each.error:
            console.print(Text(f"{each.name}: {each.error}", style="red"))
    verdict = "the books balance: provider = ledger = rows" if report["ok"] else "the books do NOT balance"
    console.print(Text(f"Audit: {verdict}", style="green" if report["ok"] else "red"))
    for finding in report["findings"]:
        console.print(Text(f"  {finding}", style="red"))
    statement = stack.directory / life.STATEMENT
    if statement.exists():
        console.print(Text(f"Statement: {statement}", style="green"))
    console.print("\nSee them in the Temporal UI (while `chama up` runs on the same var/):", style="dim")
    for each in outcomes:
        if each.workflow_ids:
            url = (
                f"{stack.urls['temporal_ui']}/namespaces/default/workflows/{each.workflow_ids[-1].replace('/', '%2F')}"
            )
            console.print(f"  {each.name:<36} {url}", soft_wrap=True, style="dim", highlight=False)


def _write(directory: Path, ok: bool, outcomes: list[Outcome], report: dict[str, Any], seconds: float) -> None:
    content = {
        "ok": ok,
        "stories": [each.as_json() for each in outcomes],
        "audit": report,
        "seconds": round(seconds, 1),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "demo.json").write_text(json.dumps(content, indent=2) + "\n")
