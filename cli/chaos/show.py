"""What a person sees of a chaos run: a line or a table while it goes on, a table of the runs at the end, and the file."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.chaos.run import CONVERGE_SECONDS, Run, Stage, carry_out, plan
from cli.stack.parts import StackFailed
from cli.stack.processes import adopt_orphans, reap_orphans

_LINE_SECONDS = 10.0
"""How often a run that writes into a file or a pipe says where it is."""
_SHOWN = 15
"""How many findings of a run are printed; the file has all."""


def run(directory: Path, *, flows: int, seeds: list[int], stories: list[str]) -> int:
    """All seeds, one after the other; the exit code: 0 only if every promise held in every run."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    runs = [plan(seed, flows, stories) for seed in seeds]
    adopt_orphans()
    try:
        for each in runs:
            asyncio.run(_watch(console, each, directory / "chaos" / str(each.seed)))
            _report(console, each)
            write(directory / "chaos.json", runs)
    finally:
        reap_orphans()
        write(directory / "chaos.json", runs)
    console.print(_table(runs))
    ok = all(each.ok for each in runs)
    text = "Nothing lost, nothing doubled, nothing stuck." if ok else "Something did not hold; see above."
    console.print(Text(text, style="bold green" if ok else "bold red"))
    console.print(f"{directory / 'chaos.json'} has the details, {directory / 'chaos'} the logs.", style="dim")
    return 0 if ok else 1


def write(file: Path, runs: list[Run]) -> None:
    """The runs as JSON; one that has not begun is there too, and not ok."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"runs": [each.as_json() for each in runs], "ok": all(each.ok for each in runs)}
    file.write_text(json.dumps(content, indent=2) + "\n")


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
