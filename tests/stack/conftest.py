"""Stacks in directories of their own, and a look at what still runs there."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.stack.parts import SERVERS
from cli.stack.stack import Stack


def processes_of(directory: Path) -> list[str]:
    """The command lines of every process, but this one, that was started for the stack in `directory`."""
    needle = str(directory).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if command and (needle in command or needle in (entry / "environ").read_bytes()):
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:160]}")
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for one stack that the server's uid can reach into."""
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o711)
    return tmp_path / "var"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Postgres, Temporal and the schema, up for a whole module."""
    with Stack(tmp_path_factory.mktemp("stack") / "var", parts=SERVERS) as stack:
        yield stack
    assert processes_of(stack.directory) == []
