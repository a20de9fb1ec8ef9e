"""The list of fixture modules, and which tests may run at the same time (`make test` has several processes).

A group is run by one process, test after test: the tests that share a running stack are one group, every other file is a
group of its own. Groups begin in the order of their tests, so the longest come first; but no more than two processes
have a whole stack running: what such tests wait for would take too long.
"""

import gc
from pathlib import Path
from typing import Any, Final

import pytest

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stack", "tests.fixtures.stories"]

SHARING: Final = {"stories": 1, "replay": 1, "audit": 1, "docs": 1, "races": 2, "browser": 2}
"""Directories whose tests share a stack, and which; stories first, because the others of that stack want it used."""
STACKS: Final = (*SHARING, "faults", "chaos", "outage", "stuck", "upgrade", "privacy", "stack")
"""Directories whose tests run stacks, in the order in which they begin."""
STACKS_AT_ONCE: Final = 2
LONGEST: Final = ("hostile", "safety", "api", "models", "sandbox")
"""Directories whose files take longest of the others, longest first."""


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

        def _assign_work_unit(self, node: Any) -> None:
            others = (work for other, work in self.assigned_work.items() if other is not node)
            if sum(map(_runs_a_stack, others)) >= STACKS_AT_ONCE:
                light = next((name for name, tests in self.workqueue.items() if not _runs_a_stack({name: tests})), None)
                if light is not None:
                    self.workqueue.move_to_end(light, last=False)
            super()._assign_work_unit(node)

    return ByGroup(config, log)


def _runs_a_stack(work: dict[str, dict[str, bool]]) -> bool:
    """Whether any of the tests that are not done yet, by group, runs a stack."""
    return any(not done and _directory(each) in STACKS for tests in work.values() for each, done in tests.items())


def pytest_collection_finish() -> None:
    """What is imported by now lasts as long as the run: the collector need not look at it after every test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    order = {directory: place for place, directory in enumerate((*STACKS, *LONGEST))}
    items.sort(key=lambda item: order.get(_directory(item.nodeid), len(order)))
