"""The ordinary worker with fault points at which it really dies, by SIGKILL.

    python -m cli.chaos.crashing_worker --point activity:capture_attempt:after --times 1 --record DIR [--revive]

Settings come from `CHAMA_*` like any worker's. Each death is first written down in DIR as an empty file `<point>.<n>`; a
point with `--times` files strikes no more, whichever worker made them. With `--revive` this process only watches: it
forks a worker as often as one was killed, so that a death costs no imports, and it ends with the worker that ends in peace.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.chaos.points import Point, Strikes, struck_worker
from infra import logging
from infra.settings import Settings

_PR_SET_PDEATHSIG: Final = 1


def main(
    point: Annotated[list[str], typer.Option(help="kind:name:before|after; may be given many times.")],
    record: Annotated[Path, typer.Option(help="Where each death leaves a file.")],
    times: Annotated[int, typer.Option(min=1, help="How often each point kills.")] = 1,
    revive: Annotated[bool, typer.Option("--revive", help="Start anew after every death.")] = False,
) -> None:
    """Run the worker until SIGTERM, or until it reaches a fault point."""
    points = [Point.parse(each) for each in point]
    record.mkdir(parents=True, exist_ok=True)
    settings = Settings()
    logging.configure(settings.log_level)
    strikes = Strikes(points, killing(record, times), times=sys.maxsize)
    if revive:
        raise typer.Exit(_watch(lambda: asyncio.run(_run(settings, strikes))))
    asyncio.run(_run(settings, strikes))


def killing(record: Path, times: int) -> Callable[[Point], None]:
    """The strike that kills this process, at most `times` times per point among all that share the `record`."""

    def strike(point: Point) -> None:
        for number in range(times):
            try:
                (record / f"{point}.{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


def deaths(record: Path) -> Counter[Point]:
    """How often each point has killed, by the files in `record`."""
    return Counter(Point.parse(file.name.rpartition(".")[0]) for file in record.iterdir())


async def _run(settings: Settings, strikes: Strikes) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with struck_worker(settings, strikes):
        await stop.wait()


def _watch(work: Callable[[], None]) -> int:
    """Fork a worker until one ends by itself; its exit code. SIGTERM is handed on."""
    child, stopping = 0, False

    def hand_on(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, hand_on)
    while not stopping:
        child = os.fork()
        if child == 0:
            _be(work)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if code != -signal.SIGKILL:
            return code
    return 0


def _be(work: Callable[[], None]) -> None:
    """The forked worker's whole life. It dies with its watcher, as the watcher dies with the stack."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    typer.run(main)
