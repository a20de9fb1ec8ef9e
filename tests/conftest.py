"""The list of fixture modules, and which tests may run at the same time (`make test` has two processes).

A group is run by one process, test after test: the tests that share a running stack are one group, every other file is a
group of its own. Groups begin in the order of their tests, so the longest come first. A third process was
tried: it only slows the other two.
"""

import gc
from pathlib import Path
from typing import Final

import pytest

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stack", "tests.fixtures.stories"]

SHARING: Final = {"stories": 1, "replay": 1, "audit": 1, "docs": 1, "races": 2, "browser": 2}
"""Directories whose tests share a stack, and which; stories first, because the others of that stack want it used."""
LONGEST: Final = ("faults", "chaos", "hostile", "outage", "stuck", "upgrade", "privacy", "stack")
"""Directories whose files take longest, longest first."""


def _directory(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each test its group."""
    directory = _directory(item)
    group = f"shared stack {SHARING[directory]}" if directory in SHARING else str(item.path)
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """What is imported by now lasts as long as the run: the collector need not look at it after every test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    order = {directory: place for place, directory in enumerate((*SHARING, *LONGEST))}
    items.sort(key=lambda item: order.get(_directory(item), len(order)))
