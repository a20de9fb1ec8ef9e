"""Start, restart, resume, stop: nothing is lost and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from cli.stack import health
from cli.stack.parts import SERVERS, StackFailed
from cli.stack.processes import descendants
from cli.stack.stack import Stack, settings_of
from cli.stack.supervisor import State
from tests.architecture.source import ROOT
from tests.stack.conftest import processes_of, wait_until

CHILD = """
import sys, time
from pathlib import Path
from cli.stack.parts import SERVERS
from cli.stack.stack import Stack
with Stack(Path(sys.argv[1]), parts=SERVERS):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_second_start_resumes_data_ports_and_secrets(directory: Path) -> None:
    with Stack(directory, parts=SERVERS) as stack:
        first, settings = stack.urls, stack.settings
        with psycopg.connect(settings.database_url) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (42)")
        assert all(part.state is State.READY for part in stack.snapshots())
        assert processes_of(directory)
    assert processes_of(directory) == []

    with Stack(directory, parts=SERVERS) as stack:
        assert stack.urls == first
        assert stack.settings == settings == settings_of(directory, {})
        with psycopg.connect(stack.settings.database_url) as connection:
            assert connection.execute("select n from kept").fetchone() == (42,)
    assert processes_of(directory) == []
    assert (directory / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_parent_killed_leaves_nothing_and_the_next_start_works(directory: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", CHILD, str(directory)], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    assert len(processes_of(directory)) > 2
    parent.kill()
    parent.wait()
    assert wait_until(lambda: processes_of(directory) == [], 5), processes_of(directory)
    with Stack(directory, parts=SERVERS) as stack:
        assert all(part.state is State.READY for part in stack.snapshots())


def test_second_stack_on_the_same_directory_is_refused(servers: Stack) -> None:
    with pytest.raises(StackFailed, match=f"already running.*process {os.getpid()}"):
        Stack(servers.directory, parts=SERVERS).start()
    assert all(part.state is State.READY for part in servers.snapshots())


@pytest.mark.parametrize("part", ["postgres", "temporal"])
def test_dead_part_is_restarted_and_says_so(servers: Stack, part: str) -> None:
    before = servers.pid(part)
    servers.crash(part)
    assert wait_until(lambda: servers.pid(part) not in (before, None), 5)
    servers.wait_ready(20)
    snapshot = next(each for each in servers.snapshots() if each.name == part)
    assert "signal 9" in snapshot.note and "restart" in snapshot.note


def test_killed_part_stays_dead_until_started(servers: Stack) -> None:
    before = servers.pid("temporal")
    servers.kill("temporal")
    time.sleep(0.5)
    assert servers.pid("temporal") is None
    assert not health.tcp(servers.site.ports["temporal"])
    servers.start("temporal")
    assert servers.pid("temporal") not in (None, before)
    assert health.tcp(servers.site.ports["temporal"])


def test_stopped_part_ends_politely_and_restarts(servers: Stack) -> None:
    pid = servers.pid("postgres")
    assert pid is not None
    below = descendants(pid)
    assert below
    servers.restart("postgres")
    assert servers.pid("postgres") not in (None, pid)
    assert all(not Path(f"/proc/{each}").exists() for each in below)
    with psycopg.connect(servers.settings.database_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_processes_never_learn_the_owners_password(servers: Stack) -> None:
    assert servers.site.secrets.owner_password in servers.settings.database_url
    assert servers.site.secrets.owner_password not in str(servers.site.environment)


def test_unknown_part_is_refused(servers: Stack) -> None:
    with pytest.raises(StackFailed, match="no part 'wroker'"):
        servers.start("wroker")
    with pytest.raises(StackFailed, match="no part"):
        servers.kill("sandbox")


def test_up_stops_on_a_signal(directory: Path) -> None:
    """The command itself, with a part that can never come up: it still ends at once, and cleanly."""
    up = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up", "--var", str(directory)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert wait_until(lambda: len(processes_of(directory)) > 3, 20)
    up.send_signal(signal.SIGTERM)
    up.wait(15)
    assert processes_of(directory) == []
