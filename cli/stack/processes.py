"""Starting and ending operating-system processes so that none is ever left behind.

A child dies with its parent, also when the parent is killed with `kill -9`: the kernel sends it a signal
(PR_SET_PDEATHSIG). That signal follows the *thread* that started the child, so one thread that lives as long as the
stack must start them all (see `supervisor.py`). Where there is no prctl (macOS) only the orderly ways out remain.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_prctl: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that `reap_orphans` can find and end them.

    Only for a process that is nothing but a supervisor: a host program may not expect children it never started.
    """
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans() -> None:
    """Kill and collect every child this process still has. Call it last: it knows no Popen objects."""
    for pid in descendants(os.getpid()):
        _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return


def spawn(
    command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path, hold: bool = False
) -> subprocess.Popen[bytes]:
    """Start `command` in its own session, output appended to `log`, killed by the kernel when the calling thread dies.

    With `hold` its standard input is a pipe (see `release`), else it is empty.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked for the signal
                os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if hold else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def release(process: subprocess.Popen[bytes]) -> None:
    """Let a held process go on (it has done its imports and waits for a line). Harmless when it died meanwhile."""
    if process.stdin is None or process.stdin.closed:
        return
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"go\n")
        process.stdin.close()


def terminate(process: subprocess.Popen[bytes], sign: signal.Signals = signal.SIGTERM) -> None:
    """Ask politely; harmless when it is gone."""
    if process.poll() is None:
        process.send_signal(sign)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` the process and everything below it, whatever process groups they are in, and wait for it.

    Postgres backends lead groups of their own, so a signal to the group would miss them.
    """
    below = descendants(process.pid)
    if process.poll() is None:
        process.kill()
    for pid in below:
        _signal(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 2
    while any(_is_running(pid) for pid in below) and time.monotonic() < deadline:
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Process ids below `root`, parents first; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdigit() and (parent := _parent(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is walked: breadth first
        found.extend(children.get(pid, ()))
    return found[1:]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command name: state, parent, …"""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _is_running(pid: int) -> bool:
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    if _PROC.is_dir():
        return _is_running(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal(pid: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sign)
