"""`chama stuck`: what should move by itself and does not, over every tenant: what, since when, why, and what to do.

Exit code 0 only when everything was looked at and nothing is stuck.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.stuck import FULL, scan
from contracts.stuck import Stuck, StuckReport
from infra.database import Database
from infra.delivery import TemporalLink
from infra.settings import Settings
from infra.temporal import connect


async def examine(settings: Settings) -> StuckReport:
    """One scan over every tenant, as the audit role. Raises psycopg.OperationalError while the database is down."""
    db = Database(settings.role_url("chama_audit"), name="chama-stuck", max_size=2)
    await db.open()
    try:
        return await scan(TemporalLink(partial(connect, settings)), db, None, FULL)
    finally:
        await db.close()


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report; the exit code."""
    report = asyncio.run(examine(settings))
    if as_json:
        Console(soft_wrap=True).print(report.model_dump_json(indent=2), markup=False, highlight=False)
    else:
        show(report, Console())
    return 0 if report.complete and not report.counts else 1


def show(report: StuckReport, console: Console) -> None:
    """One block for each finding, and a verdict."""
    for each in report.findings:
        console.print(_block(each, report.at))
    hidden = sum(report.counts.values()) - len(report.findings)
    if hidden:
        console.print(Text(f"… and {hidden} more.", style="yellow"))
    if report.temporal != "up":
        console.print(Text("Temporal does not answer: no process could be looked at.", style="bold red"))
    if report.unread:
        console.print(Text(f"Not answered in time, and may be more: {', '.join(report.unread)}.", style="bold red"))
    elif not report.complete:
        console.print(Text("There was too much to look at all of it; the suspicious came first.", style="yellow"))
    console.print(f"{report.examined} running processes looked at.", style="dim")
    total = sum(report.counts.values())
    none = "Nothing was found where it could be looked." if report.unread else "Nothing is known to be stuck."
    verdict = f"{total} stuck." if total else none
    console.print(Text(verdict, style="bold red" if total or report.unread else "bold green"))


def _block(found: Stuck, now: datetime) -> Table:
    since = f"{found.since:%Y-%m-%d %H:%M:%S} UTC ({_age(now - found.since)})" if found.since else "unknown"
    whose = f"{found.tenant_id}/{found.mode}" if found.tenant_id else "nobody's"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(found.kind, style="bold red"), Text(found.subject, style="bold"))
    lines = {"since": since, "why": found.why, "do": found.do, "tenant": whose, "workflow": found.workflow_id or "–"}
    for name, value in lines.items():
        grid.add_row(Text(name, style="dim"), Text(value))
    grid.add_row("", "")
    return grid


def _age(span: timedelta) -> str:
    """Roughly how long; a business time ahead of the real one has no age yet."""
    seconds = max(int(span.total_seconds()), 0)
    days, rest = divmod(seconds, 86_400)
    clock = (datetime.min.replace(tzinfo=UTC) + timedelta(seconds=rest)).strftime("%H:%M:%S")
    return f"{days} d {clock} ago" if days else f"{clock} ago"
