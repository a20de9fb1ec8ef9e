"""What a person sees of a chaos run: a line or a table while it goes on, a table of the runs at the end, and the file."""

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.chaos.matrix import Report, run_matrix
from cli.chaos.run import CONVERGE_SECONDS, ENVIRONMENT, Run, Stage, carry_out, plan
from cli.stack.parts import StackFailed
from cli.stack.processes import adopt_orphans, reap_orphans
from cli.stack.stack import Stack

_LINE_SECONDS = 10.0
"""How often a run that writes into a file or a pipe says where it is."""
_SHOWN = 15
"""How many findings of a run are printed; the file has all."""


def run(directory: Path, *, flows: int, seeds: list[int], stories: list[str], matrix: bool = True) -> int:
    """All seeds, one after the other, then every fault point; the exit code: 0 only if every promise held everywhere."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    runs = [plan(seed, flows, stories) for seed in seeds]
    struck: Report | None = None
    adopt_orphans()
    try:
        for each in runs:
            asyncio.run(_watch(console, each, directory / "chaos" / str(each.seed)))
            _report(console, each)
            write(directory / "chaos.json", runs)
        if matrix:
            struck = _strike(console, directory / "chaos" / "matrix")
    finally:
        reap_orphans()
        write(directory / "chaos.json", runs, struck)
    console.print(_table(runs))
    ok = all(each.ok for each in runs) and (struck is None or struck.ok)
    text = "Nothing lost, nothing doubled, nothing stuck." if ok else "Something did not hold; see above."
    console.print(Text(text, style="bold green" if ok else "bold red"))
    console.print(f"{directory / 'chaos.json'} has the details, {directory / 'chaos'} the logs.", style="dim")
    return 0 if ok else 1


def write(file: Path, runs: list[Run], struck: Report | None = None) -> None:
    """The runs as JSON, and the matrix if it was struck; a run that has not begun is there too, and not ok."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"runs": [each.as_json() for each in runs]}
    if struck is not None:
        content["matrix"] = {
            "points": len(struck.points), "kills": struck.kills, "missed": struck.missed, "errors": struck.errors,
            "seconds": round(struck.seconds, 1), "ok": struck.ok,
        }  # fmt: skip
    content["ok"] = all(each.ok for each in runs) and (struck is None or struck.ok)
    file.write_text(json.dumps(content, indent=2) + "\n")


def _strike(console: Console, directory: Path) -> Report:
    """Kill a worker at every fault point, on a stack of its own in `directory`, which is emptied first."""
    shutil.rmtree(directory, ignore_errors=True)
    with Stack(directory, env=ENVIRONMENT) as stack:
        report = asyncio.run(run_matrix(stack, say=lambda text: console.print(f"matrix: {text}", highlight=False)))
    for each in [*report.errors, *(f"nothing died at {point}" for point in report.missed)]:
        console.print(Text(f"  {each}", style="red"))
    console.print(f"matrix: {len(report.points)} points, {report.kills} kills, {report.seconds:.0f} s")
    return report


async def _watch(console: Console, run: Run, directory: Path) -> None:
    """Carry one run out, with its progress."""
    console.print(f"seed {run.seed}: {len(run.flows)} flows, {run.planned}", style="dim", highlight=False)
    task = asyncio.create_task(carry_out(run, directory))
    try:
        if console.is_terminal:
            with Live(_progress(run), console=console, refresh_per_second=4, transient=True) as live:
                while not task.done():
                    live.update(_progress(run))
                    await asyncio.wait([task], timeout=0.25)
        else:
            while not task.done():
                await asyncio.wait([task], timeout=_LINE_SECONDS)
                console.print(_progress(run))
        await task
    except StackFailed as error:
        run.error = str(error)
    except Exception as error:  # noqa: BLE001 - a run that breaks must be reported and written, whatever broke
        run.error = f"the run broke: {type(error).__name__}: {error}"


def _progress(run: Run) -> Text:
    answered = sum(each.answered for each in run.flows)
    parts: list[Any] = [
        f"{time.monotonic() - run.began:5.0f} s",
        f"{run.stage:<10}",
        f"{answered}/{len(run.flows)} answered",
    ]
    if run.nemesis is not None and run.reader is not None:
        nemesis = run.nemesis
        parts += [f"{nemesis.kills.total()} kills", f"{nemesis.planted} provider faults planted"]
        parts += [
            f"{nemesis.tcp_faults.total()} tcp faults",
            f"{run.reader.reads} reads, {len(run.reader.wrong)} wrong",
        ]
    if run.judge is not None and run.stage is Stage.CONVERGING:
        parts.append(
            "waiting for " + (", ".join(f"{name} × {n}" for name, n in run.judge.waiting.most_common(6)) or "the audit")
        )
    return Text("  ".join(str(each) for each in parts), style="yellow" if run.stage is not Stage.DONE else "dim")


def _report(console: Console, run: Run) -> None:
    row = run.as_json()
    for name in ("kills_by_kind", "faults_by_kind", "ends", "retries"):
        console.print(f"  {name}: {row[name]}", style="dim", highlight=False)
    findings = run.findings()
    for each in findings[:_SHOWN]:
        console.print(Text(f"  {each}", style="red"))
    if len(findings) > _SHOWN:
        console.print(Text(f"  … and {len(findings) - _SHOWN} more", style="red"))


def _table(runs: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False)
    names = ("seed", "flows", "kills", "provider_faults", "tcp_faults", "reads", "lost", "doubled", "stuck")
    for name in (*names, f"converged (≤ {CONVERGE_SECONDS:.0f} s)", "seconds", "audit", ""):
        table.add_column(name.replace("_", " "), justify="right")
    for each in runs:
        row = each.as_json()
        cells = [str(row[name]) if row[name] is not None else "?" for name in (*names, "converge_seconds", "seconds")]
        verdict = Text("ok", style="green") if each.ok else Text("FAILED", style="red")
        table.add_row(*cells, "ok" if row["audit_ok"] else "NO", verdict)
    return table
