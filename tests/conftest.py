"""The list of fixture modules, and which tests may run at the same time (`make test` has several processes).

A group is run by one process, test after test: the tests that share a running stack are one group, every other file is a
group of its own. Groups begin in the order of their tests, so the longest come first.
"""

import gc
from pathlib import Path
from typing import Any, Final

import pytest

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stack", "tests.fixtures.stories"]

SHARING: Final = {"stories": 1, "replay": 1, "audit": 1, "docs": 1, "races": 2, "browser": 2}
"""Directories whose tests share a stack, and which; stories first, because the others of that stack want it used."""
LONGEST: Final = ("faults", "chaos", "hostile", "outage", "stuck", "upgrade", "privacy", "stack")
"""Directories whose files take longest, longest first."""


def _directory(nodeid: str) -> str:
    return Path(nodeid.partition("::")[0]).parts[1]


def group(nodeid: str) -> str:
    """The group of a test, by its id: `tests/<directory>/<file>::<test>`."""
    shared = SHARING.get(_directory(nodeid))
    return nodeid.partition("::")[0] if shared is None else f"shared stack {shared}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests by the group. (The mark `xdist_group` does nothing under pytest 9.2: its ids are read-only.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


def pytest_collection_finish() -> None:
    """What is imported by now lasts as long as the run: the collector need not look at it after every test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    order = {directory: place for place, directory in enumerate((*SHARING, *LONGEST))}
    items.sort(key=lambda item: order.get(_directory(item.nodeid), len(order)))
