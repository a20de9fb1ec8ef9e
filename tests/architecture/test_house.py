"""The house rules hold in every file, and each rule notices a breach."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.source import FOLDERS, ROOT, Source, of, parse, sources

Rule = Callable[[Source], Iterator[str]]

SQL_FOLDERS = ("domain", "contracts", "activities", "workflows", "api", "infra")
"""`models` and `migrations` hold our SQL, the sandbox has a book of its own, and `cli` administers servers."""
SQL_HOMES = {"infra/database.py"}
"""Sets the scope of a transaction, and listens."""
COMMITS = {"infra/database.py"}

RULES: dict[str, tuple[Rule, list[Source]]] = {
    "files and functions are short": (rules.too_long, list(sources())),
    "no float near money": (rules.floats, of("domain", "contracts", "models")),
    "one place commits": (
        rules.commits,
        [each for each in sources() if each.folder not in ("migrations", "sandbox") and each.path not in COMMITS],
    ),
    "SQL lives in models": (rules.sql, [each for each in of(*SQL_FOLDERS) if each.path not in SQL_HOMES]),
    "workflow files import once": (rules.unguarded_imports, of("workflows")),
    "activity calls have a preset and a summary": (rules.bare_activity_calls, of("workflows")),
    "modules say what they are": (rules.undocumented, list(sources())),
    "contracts are messages": (rules.workflow_code_in_contracts, of("contracts")),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str) -> None:
    rule, files = RULES[name]
    assert files
    assert [breach for source in files for breach in rule(source)] == []


BREACHES: list[tuple[Rule, str]] = [
    (rules.too_long, "x = 1\n" * 401),
    (rules.too_long, "def long():\n" + "    x = 1\n" * 71),
    (rules.floats, "fee: float = amount * rate"),
    (rules.floats, "fee = amount * 0.015"),
    (rules.commits, "async def f(tx):\n    await tx.commit()"),
    (rules.sql, "await tx.execute('select id from payments where id = %s')"),
    (rules.sql, "await tx.execute(f'''\n    update payments set status = {status}''')"),
    (rules.unguarded_imports, "import httpx"),
    (rules.unguarded_imports, "from models.payment import Payment"),
    (rules.bare_activity_calls, "await workflow.execute_activity(charge, task, **GATEWAY)"),
    (
        rules.bare_activity_calls,
        "await workflow.execute_activity_method(A.b, task, summary='x', start_to_close_timeout=t)",
    ),
    (rules.bare_activity_calls, "workflow.start_local_activity(charge, task)"),
    (rules.undocumented, "x = 1"),
    (rules.workflow_code_in_contracts, "from temporalio import workflow"),
]


@pytest.mark.parametrize(("rule", "text"), BREACHES)
def test_rule_notices(rule: Rule, text: str) -> None:
    assert list(rule(parse("workflows/example.py", text)))


def test_rules_let_good_code_pass() -> None:
    good = '''"""A workflow: selects from what it may, updates and sets nothing."""
import asyncio
from temporalio import workflow
with workflow.unsafe.imports_passed_through():
    from activities.payments import PaymentActivities
class W:
    async def run(self):
        """Select one from many."""
        raise ValueError("select a campaign first")
        await workflow.execute_activity_method(PaymentActivities.load, self.task, summary="read", **LEDGER)
'''
    source = parse("workflows/example.py", good)
    elsewhere = {rules.workflow_code_in_contracts}
    found = [breach for rule in {rule for rule, _ in BREACHES} - elsewhere for breach in rule(source)]
    assert found == []


def test_every_folder_is_known() -> None:
    """A new top-level package must be named here and in the import rule, or nothing watches it."""
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(FOLDERS)


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
