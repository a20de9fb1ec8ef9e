"""`chama audit`: every money invariant (A1–A7, A9) over every tenant, and provider = ledger = rows (A2).

The same code judges the demo and every money test. Exit code 0 only when nothing was found.
"""

import asyncio
from typing import Any

from rich.console import Console
from rich.text import Text

from activities.rails import Rails
from activities.reconciliation import reconcile
from contracts.base import Scope
from infra.crypto import Vault
from infra.database import Database
from infra.outgoing import http_client
from infra.settings import Settings
from models.audit import audit_books


async def examine(settings: Settings, scope: Scope | None = None) -> dict[str, Any]:
    """Run every check: `{"ok", "findings": […], "compared", "in_flight", "under_way"}`; findings name tenant, thing and amounts.
    `in_flight` counts what `under_way` names in the same words: what does not agree yet.

    With `scope`, of the providers only that tenant's accounts are read.
    """
    db = Database(settings.role_url("chama_audit"), name="chama-audit", max_size=2)
    await db.open()
    try:
        async with db.transaction() as tx:
            books = [str(each) for each in await audit_books(tx)]
        async with http_client() as http:
            rails = Rails(Vault.from_settings(settings), http, timeout_seconds=settings.provider_timeout_seconds)
            outside = await reconcile(db, rails, scope)
    finally:
        await db.close()
    findings = [*books, *outside.findings]
    return {
        "ok": not findings,
        "findings": findings,
        "compared": outside.compared,
        "in_flight": len(outside.in_flight),
        "under_way": outside.in_flight,
    }


def run(settings: Settings) -> int:
    """Print the report; the exit code."""
    console = Console()
    with console.status("Reading the books and the providers' lists …"):
        report = asyncio.run(examine(settings))
    for finding in report["findings"]:
        console.print(Text(finding, style="red"))
    for each in report["under_way"]:
        console.print(Text(f"in flight: {each}", style="dim"))
    console.print(
        f"{report['compared']} payments compared at the providers, {report['in_flight']} of them in flight.",
        style="dim",
    )
    verdict = "The books balance: provider = ledger = rows." if report["ok"] else f"{len(report['findings'])} findings."
    console.print(Text(verdict, style="bold green" if report["ok"] else "bold red"))
    return 0 if report["ok"] else 1
