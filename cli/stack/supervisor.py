"""Brings parts up, watches them, restarts the dead, and takes them down in reverse order.

One thread does it all, a few times a second: it alone launches processes and changes a part's state, so there are no
locks, and the kernel's parent-death signal, which follows that thread, holds for as long as the stack lives. Slow work
(`prepare`, `probe`) runs in a small pool and is only looked at here. Other threads talk to it through `call`.
"""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cli.stack.parts import Recipe, StackFailed
from cli.stack.processes import kill_tree, release, terminate

_TICK_SECONDS, _IDLE_TICK_SECONDS = 0.03, 0.15
"""How often it looks while something comes up, and when all is well."""
_READY_SECONDS_MAX = 60.0
"""A part that does not do its work by then is broken: at first start an error, later a reason to restart it."""
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_SECONDS = 30.0
"""A part that lived this long starts again with the shortest pause."""


class State(StrEnum):
    """The life of a part."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Snapshot:
    """A part as a person sees it."""

    name: str
    state: State
    where: str
    seconds: float
    """How long it took, or has taken so far, to become ready."""
    note: str
    """Why it was restarted, if it was."""


class _Part:
    """A recipe and where it stands. Touched by the supervisor's thread only, but for reads of single fields."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.state = State.WAITING
        self.wanted = True
        self.process: subprocess.Popen[bytes] | None = None
        self.held = False
        self.job: Future[object] | None = None
        self.probe: Future[bool] | None = None
        self.began = self.changed = time.monotonic()
        self.launched_at = datetime.now(UTC)
        self.log_start = 0
        self.deaths = 0
        self.seconds: float | None = None
        self.note = ""

    def enter(self, state: State) -> None:
        self.state, self.changed = state, time.monotonic()

    def snapshot(self) -> Snapshot:
        seconds = time.monotonic() - self.began if self.seconds is None else self.seconds
        return Snapshot(self.recipe.name, self.state, self.recipe.where, seconds, self.note)


class Supervisor:
    """The parts of one stack, and the thread that minds them."""

    def __init__(self, recipes: Iterable[Recipe]) -> None:
        self._parts = {recipe.name: _Part(recipe) for recipe in recipes}
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max_workers=12, thread_name_prefix="stack")
        self._closing = threading.Event()
        self._came_up = False
        self.failure: StackFailed | None = None
        self._thread = threading.Thread(target=self._run, name="stack-supervisor", daemon=True)

    # What other threads may call.

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def wait_ready(self, seconds: float, names: Iterable[str] | None = None) -> None:
        """Block until the parts (all that are wanted by default) are ready. Raises StackFailed."""
        deadline = time.monotonic() + seconds
        while True:
            waiting = [p for p in self.snapshots() if p.state is not State.READY and (names is None or p.name in names)]
            waiting = [p for p in waiting if self._parts[p.name].wanted]
            if not waiting and self.failure is None:
                return
            if self.failure is not None or not self._thread.is_alive():
                raise self.failure or StackFailed("The stack has been stopped.")
            if time.monotonic() > deadline:
                raise StackFailed(f"Not ready after {seconds:.0f} s: {', '.join(part.name for part in waiting)}.")
            time.sleep(0.02)

    def snapshots(self) -> list[Snapshot]:
        """Every part, in order."""
        return [part.snapshot() for part in list(self._parts.values())]

    def pid(self, name: str) -> int | None:
        """The process id of a part that runs."""
        process = self._parts[name].process
        return process.pid if process is not None and process.poll() is None else None

    def call(self, name: str, action: str, recipe: Recipe | None = None) -> None:
        """Have the thread `start`, `stop`, `kill` or `crash` a part, and wait until that is done.

        `kill` leaves it dead, `crash` lets the supervisor find it dead and restart it. Raises StackFailed.
        """
        if name not in self._parts and recipe is not None:
            self._parts[name] = _Part(recipe)
        if name not in self._parts:
            raise StackFailed(f"The stack has no part {name!r}.")
        actions = {"start": self._start, "stop": self._stop, "kill": self._kill, "crash": self._crash}
        done: Future[None] = Future()
        self._calls.put((lambda: actions[action](self._parts[name]), done))
        while not done.done():
            if not self._thread.is_alive():
                raise StackFailed("The stack has been stopped.")
            time.sleep(0.01)
        done.result()

    def close(self, *, at_once: bool = False) -> None:
        """Stop everything in reverse order and end the thread. `at_once`: without asking politely. Callable twice."""
        if at_once:
            for part in self._parts.values():
                if part.process is not None:
                    kill_tree(part.process)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    # The thread.

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and self.failure is None:
                self._answer_calls()
                for part in list(self._parts.values()):
                    self._step(part)
                calm = all(part.state in (State.READY, State.STOPPED) for part in self._parts.values())
                self._came_up = self._came_up or calm
                self._closing.wait(_IDLE_TICK_SECONDS if calm and self._calls.empty() else _TICK_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, nothing may be left running
            self.failure = StackFailed(f"The supervisor failed: {type(error).__name__}: {error}")
        finally:
            self._take_down()

    def _answer_calls(self) -> None:
        while not self._calls.empty():
            action, done = self._calls.get()
            try:
                action()
                done.set_result(None)
            except StackFailed as error:
                done.set_exception(error)

    def _step(self, part: _Part) -> None:
        """One look at one part: whatever it can do next without waiting."""
        if not part.wanted:
            return
        match part.state:
            case State.WAITING | State.STOPPED if self._may_begin(part):
                part.enter(State.PREPARING)
                part.job = self._pool.submit(part.recipe.prepare) if part.recipe.prepare else None
            case State.PREPARING:
                self._finish_preparing(part)
            case State.STARTING:
                self._watch_start(part)
            case State.READY if part.process is not None and part.process.poll() is not None:
                self._mourn(part, f"ended with {_reason(part.process)}")
            case State.READY if part.deaths and time.monotonic() - part.changed > _STABLE_SECONDS:
                part.deaths = 0
            case State.RESTARTING if time.monotonic() - part.changed > _pause(part.deaths):
                part.enter(State.WAITING)

    def _may_begin(self, part: _Part) -> bool:
        return part.recipe.held or self._needs_met(part)

    def _needs_met(self, part: _Part) -> bool:
        return all(self._parts[need].state is State.READY for need in part.recipe.needs)

    def _finish_preparing(self, part: _Part) -> None:
        """Prepared: launch the process, or be done if the part is a job."""
        if part.job is not None and not part.job.done():
            return
        error = part.job.exception() if part.job is not None else None
        if error is not None:
            explained = isinstance(error, RuntimeError) and bool(str(error))
            self._mourn(
                part, str(error) if explained else f"failed: {type(error).__name__}: {error}", explained=explained
            )
        elif part.recipe.launch is None:
            self._become_ready(part)
        else:
            part.log_start = part.recipe.log.stat().st_size if part.recipe.log.exists() else 0
            part.launched_at = datetime.now(UTC)
            try:
                part.process, part.held = part.recipe.launch(), part.recipe.held
            except (OSError, RuntimeError) as failure:
                self._mourn(part, str(failure), explained=True)
            else:
                part.enter(State.STARTING)

    def _watch_start(self, part: _Part) -> None:
        assert part.process is not None
        if part.process.poll() is not None:
            self._mourn(part, f"ended with {_reason(part.process)} before it was ready")
        elif part.held:
            if self._needs_met(part):
                release(part.process)
                part.held = False
                part.changed = time.monotonic()
        elif part.probe is not None and part.probe.done():
            healthy, part.probe = part.probe.result(), None
            if healthy:
                self._become_ready(part)
            elif time.monotonic() - part.changed > _READY_SECONDS_MAX:
                kill_tree(part.process)
                self._mourn(part, f"was not ready within {_READY_SECONDS_MAX:.0f} s")
        elif part.probe is None:
            part.probe = self._pool.submit(part.recipe.probe, part.launched_at)

    def _become_ready(self, part: _Part) -> None:
        part.seconds = time.monotonic() - part.began
        part.enter(State.READY)

    def _mourn(self, part: _Part, reason: str, *, explained: bool = False) -> None:
        """A part died. While the stack first comes up that is the end; later it is restarted, with growing pauses."""
        tail = "" if explained else _tail(part)
        if not self._came_up:
            self.failure = StackFailed(reason if explained else f"{part.recipe.name} {reason}.{tail}")
            return
        part.deaths += 1
        part.began, part.seconds, part.probe, part.process = time.monotonic(), None, None, None
        part.note = f"{reason} at {datetime.now().astimezone():%H:%M:%S}; restart {part.deaths}"
        part.enter(State.RESTARTING)

    # What `call` asks for.

    def _start(self, part: _Part) -> None:
        if part.wanted and part.state is not State.STOPPED:
            return
        part.wanted, part.deaths, part.note = True, 0, ""
        part.began, part.seconds, part.probe = time.monotonic(), None, None
        part.enter(State.WAITING)

    def _stop(self, part: _Part) -> None:
        part.wanted = False
        _end([part])
        part.enter(State.STOPPED)

    def _kill(self, part: _Part) -> None:
        part.wanted = False
        if part.process is not None:
            kill_tree(part.process)
        part.enter(State.STOPPED)

    def _crash(self, part: _Part) -> None:
        """It was well until somebody killed it: the growing pauses are for parts that die by themselves."""
        part.deaths = 0
        if part.process is not None:
            kill_tree(part.process)

    def _take_down(self) -> None:
        """Reverse order; what depends on nothing else of ours goes together, so the slowest alone decides."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for part in self._parts.values():
            if part.job is not None and not part.job.cancel():
                part.job.exception(timeout=120)
        waiting = [part for part in self._parts.values() if part.process is not None]
        while waiting:
            needed = {need for part in waiting for need in part.recipe.needs} | _implied(waiting)
            last = [part for part in waiting if part.recipe.name not in needed] or waiting
            _end(last)
            waiting = [part for part in waiting if part not in last]
        for part in self._parts.values():
            part.enter(State.STOPPED)


def _implied(waiting: list[_Part]) -> set[str]:
    """Processes of ours talk to every server, also to those they do not wait for at the start."""
    if any(part.recipe.held for part in waiting):
        return {"postgres", "temporal", "sandbox"}
    return {"postgres"} if any(part.recipe.name != "postgres" for part in waiting) else set()


def _end(parts: list[_Part]) -> None:
    """Ask all to stop, then kill those that do not within their time."""
    processes = [(part, part.process) for part in parts if part.process is not None]
    for part, process in processes:
        terminate(process, part.recipe.stop_signal)
    started = time.monotonic()
    for part, process in processes:
        try:
            process.wait(max(0.0, started + part.recipe.stop_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill_tree(process)


def _pause(deaths: int) -> float:
    return _BACKOFF_SECONDS[min(deaths, len(_BACKOFF_SECONDS)) - 1]


def _reason(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _tail(part: _Part) -> str:
    """The last lines a part logged in this run, with the file's name; empty when it logged nothing."""
    log = part.recipe.log
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(part.log_start, log.stat().st_size - 1_500))
        lines = file.read().decode(errors="replace").strip().splitlines()[-12:]
    text = "".join(f"\n  {line}" for line in lines)
    return f" Its last words (all of them in {log}):{text}" if lines else f" It said nothing ({log})."
