"""`chama up`: the whole stack in the foreground, each part shown as it comes up, until Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from cli.stack.parts import StackFailed
from cli.stack.processes import adopt_orphans, reap_orphans
from cli.stack.stack import Stack
from cli.stack.supervisor import Snapshot, State

_COLOURS = {State.READY: "green", State.RESTARTING: "yellow", State.STOPPED: "dim"}
_REFRESH_SECONDS = 0.1


def run(directory: Path, env: Mapping[str, str]) -> int:
    """Run the stack until a signal; returns the exit code: 0 after an orderly stop, 1 when it could not come up."""
    console = Console()
    stack = Stack(directory, env=env)
    stopping = _catch_signals(stack)
    adopt_orphans()
    began = time.monotonic()
    try:
        stack.begin()
    except StackFailed as error:
        console.print(f"[red]{_escape(str(error))}[/red]", highlight=False, soft_wrap=True)
        return 1
    try:
        watch = _watch_live if console.is_terminal else _watch_plain
        watch(console, stack, stopping, began)
    finally:
        stack.stop()
        reap_orphans()
    if stack.failure is not None:
        console.print(f"[red]{_escape(str(stack.failure))}[/red]", highlight=False, soft_wrap=True)
        return 1
    console.print("Stopped; everything is kept in " + str(stack.directory), highlight=False)
    return 0


def _catch_signals(stack: Stack) -> threading.Event:
    """Ctrl-C, SIGTERM and a closed terminal stop the stack; a second one stops it at once."""
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        if stopping.is_set():
            threading.Thread(target=stack.stop, kwargs={"at_once": True}, daemon=True).start()
        stopping.set()

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, stop)
    return stopping


def _watch_live(console: Console, stack: Stack, stopping: threading.Event, began: float) -> None:
    """A table that follows every part, with the addresses below it once all are ready."""
    with Live(_table(stack.snapshots()), console=console, auto_refresh=False) as live:
        greeted, shown = False, None
        while not stopping.is_set() and stack.failure is None:
            snapshots = stack.snapshots()
            if snapshots != shown:
                live.update(_table(snapshots), refresh=True)
                shown = snapshots
            if not greeted and _all_ready(snapshots):
                live.console.print(_welcome(stack, time.monotonic() - began))
                greeted = True
            stopping.wait(_REFRESH_SECONDS)
        live.update(_table(stack.snapshots()), refresh=True)


def _watch_plain(console: Console, stack: Stack, stopping: threading.Event, began: float) -> None:
    """One line for each change, for logs and pipes."""
    seen: dict[str, tuple[State, str]] = {}
    greeted = False
    while not stopping.is_set() and stack.failure is None:
        snapshots = stack.snapshots()
        for part in snapshots:
            shown = part.state in (State.READY, State.RESTARTING)
            if shown and seen.get(part.name) != (part.state, part.note):
                seen[part.name] = (part.state, part.note)
                line = f"{part.name:<9} {part.state:<10} {part.where:<30} {part.seconds:5.1f} s  {part.note}"
                console.print(line.rstrip(), highlight=False, markup=False, soft_wrap=True)
        if not greeted and _all_ready(snapshots):
            console.print(_welcome(stack, time.monotonic() - began))
            greeted = True
        stopping.wait(_REFRESH_SECONDS)


def _all_ready(snapshots: list[Snapshot]) -> bool:
    return all(part.state is State.READY for part in snapshots)


def _table(snapshots: list[Snapshot]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("part", "state", "where", "seconds", ""):
        table.add_column(title, justify="right" if title == "seconds" else "left")
    for part in snapshots:
        colour = _COLOURS.get(part.state, "cyan")
        table.add_row(part.name, f"[{colour}]{part.state}[/]", part.where, f"{part.seconds:.1f}", _escape(part.note))
    return table


def _welcome(stack: Stack, seconds: float) -> Panel:
    """Where everything is, and who may log in."""
    grid = Table.grid(padding=(0, 2))
    for name, url in stack.urls.items():
        grid.add_row(name.replace("_", " "), url)
    grid.add_row("operator token", stack.settings.operator_token.get_secret_value())
    for name, value in _facts(stack.seeded):
        grid.add_row(name, _escape(value))
    grid.add_row("logs", str(stack.directory / "log"))
    return Panel(grid, title=f"Ready in {seconds:.1f} s", subtitle="Ctrl-C stops everything", expand=False)


def _facts(seeded: Any) -> list[tuple[str, str]]:
    """The fields of the seed's result, in order, as a person reads them."""
    if not is_dataclass(seeded):
        return []
    return [(field.name.replace("_", " "), str(getattr(seeded, field.name))) for field in fields(seeded) if field.repr]


def _escape(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", r"\[")


def environment() -> dict[str, str]:
    """The `CHAMA_*` variables of this process: the command line is where the stack's settings are read."""
    return {name: value for name, value in os.environ.items() if name.startswith("CHAMA_")}
