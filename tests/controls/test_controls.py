"""The controls themselves: each still fits today's code, names tests that exist, and one or two really go red.

The whole table is run by `make controls`.
"""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain import errors
from tests.architecture.source import ROOT
from tests.controls.guard import Edit, Guard, NotThere, edited
from tests.controls.guards import GUARDS
from tests.controls.origin import foreign
from tests.docs.pages import rows

QUICK = [guard for guard in GUARDS if guard.quick]
RELIABILITY = ROOT / "docs" / "reliability.md"


def test_there_is_a_control_for_each_guard() -> None:
    names = [guard.name for guard in GUARDS]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_it_fits_and_names_what_exists(guard: Guard) -> None:
    """A text that is gone or stands twice fails here, at once, and not in the next whole run."""
    for path, text in edited(ROOT, guard).items():
        assert text != path.read_text()
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    for test in guard.tests:
        path, _, name = test.partition("::")
        assert re.search(rf"^(?:async )?def {name or 'test_'}", (ROOT / path).read_text(), re.MULTILINE), test


def test_every_guard_has_its_row_and_nothing_else_has() -> None:
    listed = [(row[0], row[1], row[2]) for row in rows(RELIABILITY, "## Controls")]
    assert listed == [(guard.name, guard.promise, guard.off) for guard in GUARDS]


def test_an_edit_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    for old in ("z", " = 1"):
        with pytest.raises(NotThere):
            edited(tmp_path, Guard("a", "", "", (Edit("a.py", old),), ()))


def test_the_code_of_another_tree_is_refused(tmp_path: Path) -> None:
    """Else a run would look at the installed code, and find every guard in place or none."""
    assert foreign(ROOT, {"domain"}) == []
    assert errors.__name__ in foreign(tmp_path, {"domain"})


def controls(report: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The command itself: its exit status and what it wrote."""
    command = [sys.executable, "-m", "tests.controls.run", "--report", str(report), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert report.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(report.read_text())


def test_two_guards_of_the_day_are_noticed(tmp_path: Path) -> None:
    """Others every day, so that all are seen within a week and each run stays short."""
    first = 2 * datetime.now(UTC).toordinal()
    chosen = [QUICK[(first + n) % len(QUICK)].name for n in range(2)]
    status, report = controls(tmp_path / "found.json", *(f"--only={name}" for name in chosen))
    assert (status, report["detected"]) == (0, report["guards"]), report
    assert {*chosen} <= {run["guard"] for run in report["runs"]}
    assert all(run["red"] and run["caught_by"] for run in report["runs"])


def test_what_nobody_notices_is_reported(tmp_path: Path) -> None:
    """A change that no test looks at, and an error that is no finding."""
    status, report = controls(tmp_path / "missed.json", "--guards", "tests.controls.asleep")
    assert (status, report["detected"], report["guards"]) == (1, 0, 2)
    unwatched, broken = report["runs"]
    assert unwatched["note"] == "all green"
    assert "pytest ended with" in broken["note"] and "ModuleNotFoundError" in broken["note"]
