"""A pytest plugin: the code under test is this directory's. Loaded by `tests.controls.run` in the copy it edits."""

import sys
from pathlib import Path

import pytest

ELSEWHERE = 70
"""The exit status that says so."""


def foreign(here: Path, packages: set[str]) -> list[str]:
    """Modules of `packages` that were loaded from somewhere else than `here`."""
    loaded = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    ours = {name: file for name, file in loaded.items() if name.partition(".")[0] in packages and file}
    return [name for name, file in ours.items() if not Path(file).resolve().is_relative_to(here.resolve())]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Everything the tests need has been imported: refuse to run on another tree's code."""
    here = Path.cwd()
    packages = {each.parent.name for each in here.glob("*/__init__.py")} | {"worker"}
    wrong = foreign(here, packages)
    if wrong or not packages & sys.modules.keys():
        pytest.exit(f"not the code of {here}: {wrong[:3]}", returncode=ELSEWHERE)
