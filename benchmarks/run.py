"""`make bench`: every ratio side by side, how soon the stack is ready, and what the processes weigh under load.

Writes `var/bench.json` and prints a table; a ratio more than a fifth worse than the committed table of
docs/performance.md is red. `--only http` runs one group, `--write` puts this run's table there.
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks import feed, flows, http, ledger
from benchmarks.measure import Ratio
from cli.stack.stack import Stack

_PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_BLOCK = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)
_WORSE = 0.8
_WEIGHED = ("worker", "api")
_GROUPS = {"flows": flows, "http": http, "ledger": ledger, "feed": feed}
_WIDTH = 100


def main() -> None:
    """Run everything; exit 0 whatever the figures are."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--var", type=Path, default=Path("var"))
    arguments.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    arguments.add_argument("--only", choices=_GROUPS, help="measure this group alone")
    given = arguments.parse_args()
    if given.write and given.only:
        arguments.error("--write needs every group")
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    directory = given.var.resolve() / "bench"
    shutil.rmtree(directory, ignore_errors=True)
    given.var.mkdir(exist_ok=True)
    seconds = {"ready_cold": _until_ready(directory), "ready_warm": _until_ready(directory)}
    console.print(f"Stack ready after {seconds['ready_cold']:.1f} s cold, {seconds['ready_warm']:.1f} s warm.")
    ratios: list[Ratio] = []
    with Stack(directory) as stack:
        asyncio.run(_measure(stack, given.only, ratios, console))
        weights = {part: _rss_mb(stack.pid(part)) for part in _WEIGHED}
    report = {
        "ratios": {each.name: round(each.value, 3) for each in ratios},
        "spread": {each.name: [round(edge, 3) for edge in each.spread] for each in ratios},
        "absolute": {each.name: {"ours": each.ours, "bare": each.bare, "unit": each.unit} for each in ratios},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rss_mb": weights,
        "commit": _commit(),
    }
    (given.var / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    _show(console, ratios, seconds, weights)
    if given.write:
        _PAGE.write_text(
            _BLOCK.sub(lambda block: block[1] + _markdown(ratios, seconds, weights) + block[2], _PAGE.read_text())
        )


async def _measure(stack: Stack, only: str | None, ratios: list[Ratio], console: Console) -> None:
    for name, group in _GROUPS.items():
        if only not in (None, name):
            continue
        results: AsyncIterator[Ratio] = group.measure(stack)
        async for each in results:
            ratios.append(each)
            console.print(f"{each.name:30} {each.value:.2f}", style="dim")


def _until_ready(directory: Path) -> float:
    """Seconds from nothing running to every part healthy; the first time the data are made too."""
    started = time.perf_counter()
    with Stack(directory):
        return time.perf_counter() - started


def _rss_mb(pid: int | None) -> int:
    """What the process holds in memory now, after the load, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return asked.stdout.strip() or "unknown"


def _committed() -> dict[str, float]:
    """The ratios of the committed table."""
    text = _PAGE.read_text() if _PAGE.exists() else ""
    return {name: float(value) for name, value in re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d.]+) \|", text, re.MULTILINE)}


def _show(console: Console, ratios: list[Ratio], seconds: dict[str, float], weights: dict[str, Any]) -> None:
    before = _committed()
    caption = "Value: median of the rounds' ratios; spread: lowest and highest; then: the committed value."
    table = Table(
        title="Ours beside the bare thing", caption=caption, width=min(_WIDTH, console.width), box=SIMPLE_HEAD
    )
    table.add_column("ratio", no_wrap=True)
    for column in ("value", "goal", "spread", "then", "ours", "bare"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in ratios:
        low, high = each.spread
        table.add_row(
            each.name, f"{each.value:.2f}", each.goal, f"{low:.2f}–{high:.2f}",
            f"{before[each.name]:.2f}" if each.name in before else "–",
            _figure(each.ours, each.unit), _figure(each.bare, each.unit),
            style="bold red" if _regressed(each, before) else None,
        )  # fmt: skip
    console.print(table)
    for each in ratios:
        console.print(f"  {each.name}: {each.what}", style="dim", no_wrap=True)
    console.print(f"Ready: {seconds['ready_cold']:.1f} s cold, {seconds['ready_warm']:.1f} s warm.", end=" ")
    console.print("Memory under load:", ", ".join(f"{part} {mb} MB" for part, mb in weights.items()))


def _regressed(ratio: Ratio, before: dict[str, float]) -> bool:
    """Whether it is more than a fifth worse than the committed figure (for a latency, higher is worse)."""
    if ratio.name not in before:
        return False
    change = ratio.value / before[ratio.name]
    return 1 / change < _WORSE if ratio.goal.startswith("≤") else change < _WORSE


def _figure(value: float, unit: str) -> str:
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f}/s" if value >= 100 else f"{value:.1f}/s"


def _markdown(ratios: list[Ratio], seconds: dict[str, float], weights: dict[str, int]) -> str:
    rows = [
        f"| `{each.name}` | {each.what} | {each.value:.2f} | {each.goal} | {each.spread[0]:.2f}–{each.spread[1]:.2f} "
        f"| {_figure(each.ours, each.unit)} | {_figure(each.bare, each.unit)} |"
        for each in ratios
    ]
    head = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} at commit `{_commit()}`, two shared cores.",
        "",
        "| ratio | what | value | goal | spread | ours | bare |",
        "|---|---|---|---|---|---|---|",
    ]
    tail = [
        "",
        f"Stack ready: {seconds['ready_cold']:.1f} s cold (goal ≤ 20), {seconds['ready_warm']:.1f} s warm (goal ≤ 8). "
        f"Memory under load: worker {weights['worker']} MB (goal ≤ 250), API {weights['api']} MB (goal ≤ 200).",
    ]
    return "\n".join([*head, *rows, *tail, ""])


if __name__ == "__main__":
    main()
