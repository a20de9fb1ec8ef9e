"""`chama audit verify`: whether anybody changed the ledger's or the audit log's past. Exit code 1 when somebody did."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from infra.anchors import AnchorFile
from infra.database import Database
from infra.settings import Settings
from models.chain_audit import Report, verify


async def examine(
    settings: Settings, progress: Callable[[str, int, int], None] = lambda table, done, of: None
) -> Report:
    """Verify every chain of the database against its rows and the anchor file of `settings`."""
    anchors = AnchorFile(Path(settings.anchor_file)) if settings.anchor_file else None
    db = Database(settings.role_url("chama_audit"), name="chama-verify", max_size=1)
    await db.open()
    try:
        size = anchors.size() if anchors else 0
        async with db.transaction() as tx:
            return await verify(tx, anchors, size, progress)
    finally:
        await db.close()


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report; the exit code."""
    console = Console()
    if as_json:
        report = asyncio.run(examine(settings))
        console.print_json(data=_plain(report, anchored=bool(settings.anchor_file)))
        return 0 if report.ok else 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as display:
        tasks = {}

        def show(table: str, done: int, of: int) -> None:
            if table not in tasks:
                tasks[table] = display.add_task(table)
            display.update(tasks[table], completed=done, total=of)

        report = asyncio.run(examine(settings, show))
    for finding in report.findings:
        console.print(Text(str(finding), style="red"))
    for table, counts in report.chains.items():
        later = f", {counts.not_yet_chained} not yet chained" if counts.not_yet_chained else ""
        console.print(f"{table}: {counts.verified} rows verified{later}", style="dim", highlight=False)
    if settings.anchor_file:
        console.print(f"{report.anchors} anchored tails compared", style="dim", highlight=False)
    else:
        console.print("CHAMA_ANCHOR_FILE is not set: rows cut off the end would not be noticed.", style="yellow")
    verdict = "Nothing was changed." if report.ok else f"{report.found} findings: the past was changed."
    console.print(Text(verdict, style="bold green" if report.ok else "bold red"))
    return 0 if report.ok else 1


def _plain(report: Report, *, anchored: bool) -> dict[str, object]:
    return {
        "ok": report.ok,
        "findings": [asdict(finding) for finding in report.findings],
        "found": report.found,
        "chains": {table: asdict(counts) for table, counts in report.chains.items()},
        "anchored": anchored,
        "anchors_compared": report.anchors,
    }
