"""The fault matrix by real `kill -9`: every activity, commit and provider point, each struck while real stories are told.

Points are taken in rounds. A round stops the stack's own worker, puts a crashing worker in its place that is armed with
all the round's points and is started anew after each death, and tells the stories side by side, each in a tenant of its
own. A round is good when every story reaches its end, nothing is left on its way, and the auditor finds nothing.
"""

import asyncio
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.audit import examine
from cli.chaos.crashing_worker import deaths
from cli.chaos.point_stories import PATIENCE_SECONDS, STORIES, Story, let_grace_pass
from cli.chaos.points import OPERATIONS, Kind, Point, both, registered
from cli.demo.world import World
from cli.stack.processes import kill_tree, spawn
from cli.stack.stack import Stack

POINTS_PER_ROUND: Final = 15
COMMITS: Final = 20
"""How many commits of a fresh worker are struck; each death begins the count anew, so every life ends in its first ones."""
UNREACHED: Final = frozenset(
    {
        "paystack.charge", "paystack.list", "stripe.get_refund", "stripe.list", "stripe.list_refunds", "stripe.refund",
        "stripe.search",
        "paystack.balance", "paystack.get_transfer", "paystack.list_transfers", "paystack.verify_transfer",
    }
)  # fmt: skip
"""Operations no story here calls for certain: what only an audit, a lost answer or a refused card leads to, and the look-up
of a transfer, which a webhook may come before."""
_ROOT: Final = Path(__file__).parents[2]
_STORY_SECONDS: Final = 420

Judge = Callable[[World], Awaitable[None]]
Make = Callable[[Stack, str], Awaitable[World]]


@dataclass(frozen=True)
class Struck:
    """What became of one point: whether a worker really died there, and whether its round ended well."""

    point: Point
    struck: bool
    ok: bool


@dataclass
class Report:
    """A whole run. `errors` names the stories that failed, and why."""

    points: list[Struck] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every point was struck, and nothing was lost, doubled or stuck."""
        return not self.errors and all(each.struck and each.ok for each in self.points)

    @property
    def missed(self) -> list[str]:
        """Points at which nothing ever died."""
        return [str(each.point) for each in self.points if not each.struck]


async def full_matrix(stack: Stack) -> list[Point]:
    """Every activity of the worker's registry, the first commits of a worker's life, every provider call a story makes."""
    called = [name for name in OPERATIONS if name not in UNREACHED]
    commits = [str(number) for number in range(1, COMMITS + 1)]
    names = await registered(stack.settings)
    return [*both(Kind.ACTIVITY, names), *both(Kind.COMMIT, commits), *both(Kind.PROVIDER, called)]


async def run_matrix(
    stack: Stack,
    points: Sequence[Point] | None = None,
    *,
    judge: Judge | None = None,
    make: Make = World.make,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Strike every point (the full matrix by default) by real kills, round by round.

    `judge` raises when a finished story's tenant is not in order (the auditor by default), `make` makes the tenants.
    Leaves the stack with its own worker running. Only from the main thread: the workers die with the thread that started them.
    """
    wanted = list(await full_matrix(stack) if points is None else points)
    report, began = Report(), time.monotonic()
    await asyncio.to_thread(stack.stop, "worker")
    try:
        for at in range(0, len(wanted), POINTS_PER_ROUND):
            part = wanted[at : at + POINTS_PER_ROUND]
            await _round(stack, part, judge or _balanced, make, report)
            say(f"{at + len(part)}/{len(wanted)} points, {report.kills} kills, {time.monotonic() - began:.0f} s")
    finally:
        await asyncio.to_thread(stack.start, "worker")
    report.seconds = time.monotonic() - began
    return report


async def _round(stack: Stack, points: list[Point], judge: Judge, make: Make, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="points-") as directory, crashing(stack, points, Path(directory)):
        told = await asyncio.gather(*(_tell(stack, name, judge, make) for name in STORIES))
        died = deaths(Path(directory))
    errors = [each for each in told if each]
    report.errors += errors
    report.kills += sum(died.values())
    report.points += [Struck(point, died[point] > 0, not errors) for point in points]


async def _tell(stack: Stack, name: str, judge: Judge, make: Make) -> str:
    """Tell one story and judge its tenant; what went wrong, or nothing."""
    story: Story = STORIES[name]
    try:
        world = await make(stack, f"p-{secrets.token_hex(8)}")
        try:
            async with asyncio.timeout(_STORY_SECONDS):
                await story(world)
                await judge(world)
        finally:
            await world.close()
    except Exception as error:  # noqa: BLE001 - every failure is one of the run's results
        return f"{name}: {type(error).__name__}: {error}"
    return ""


async def _balanced(world: World) -> None:
    """Nothing in flight and nothing to complain of, within the patience for a dead worker's last call."""

    async def findings() -> list[str]:
        await let_grace_pass(world)
        report = await examine(world.stack.settings, world.seeded.scope)
        unsettled = [f"{report['in_flight']} payments are still in flight"] if report["in_flight"] else []
        tenant = str(world.seeded.scope.tenant_id)
        return unsettled + [each for each in report["findings"] if tenant in each]

    await world.until_true(findings, lambda found: not found, "the books balance", PATIENCE_SECONDS)


@contextmanager
def crashing(
    stack: Stack, points: Sequence[Point], record: Path, *, times: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that dies at each of `points` and comes back; with none left it is an ordinary one. Stopped at the end."""
    armed = [option for point in points for option in ("--point", str(point))]
    command = [sys.executable, "-m", "cli.chaos.crashing_worker", *armed, "--times", str(times)]
    process = spawn(
        [*command, "--record", str(record), "--revive"],
        env=stack.site.environment,
        log=stack.site.log("crashing-worker"),
        cwd=_ROOT,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            kill_tree(process)
