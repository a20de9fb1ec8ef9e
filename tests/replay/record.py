"""`python -m tests.replay.record [WorkflowType[/path] …]`: drive the stories on a real stack, write golden histories.

A file that exists is left alone: it is what runs in production look like. `--again` writes it anew, which is only right
when no run that looks like it can be open any more.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHistory

from cli.stack.stack import Stack
from infra.crypto import EncryptionCodec
from infra.database import Database
from infra.outgoing import http_client
from infra.temporal import connect
from tests.fixtures.replay import history_of, runs_of
from tests.fixtures.stack import ENVIRONMENT, judge
from tests.fixtures.stage import Stage
from tests.replay.golden import CONTINUED_EVENTS, HISTORIES, Facts, facts, in_clear, save
from tests.replay.paths import CONTINUED_WALKS, WALKS, Walk
from worker import build_worker
from workflows import continuing

AT_ONCE = 4
_TRIES = 20


async def record(stack: Stack, walks: Iterable[Walk]) -> list[str]:
    """Tell every story once, write the paths; those that no run fitted."""
    by_story: dict[Any, list[Walk]] = {}
    for walk in walks:
        by_story.setdefault(walk.story, []).append(walk)
    client, slots = await connect(stack.settings), asyncio.Semaphore(AT_ONCE)

    async def tell(story: Any, wanted: list[Walk]) -> list[str]:
        async with slots:
            world = await Stage.make(stack, f"t-{secrets.token_hex(8)}")
            assert isinstance(world, Stage)
            try:
                await story(world)
                await judge(world, client)
                return await _write(client, world, wanted)
            except Exception as error:
                print(f"{story.__name__}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                return [f"{walk.kind}/{walk.path}" for walk in wanted]
            finally:
                await world.close()

    missing = await asyncio.gather(*(tell(story, wanted) for story, wanted in by_story.items()))
    return [each for part in missing for each in part]


async def _write(client: Client, world: Stage, wanted: list[Walk]) -> list[str]:
    """Write what fits; a process that is about to end is waited for."""
    known: list[tuple[Facts, WorkflowHistory]] = []
    for _ in range(_TRIES):
        known = await _histories(client, world)
        if all(_fitting(known, walk) for walk in wanted):
            break
        await asyncio.sleep(1)
    missing = []
    for walk in wanted:
        if fitting := _fitting(known, walk):
            print(save(fitting[0], walk.kind, walk.path).relative_to(HISTORIES), flush=True)
        else:
            print(*(seen for seen, _ in known if seen.kind == walk.kind), sep="\n", file=sys.stderr)
            missing.append(f"{walk.kind}/{walk.path}")
    return missing


async def _histories(client: Client, world: Stage) -> list[tuple[Facts, WorkflowHistory]]:
    codec = EncryptionCodec.from_settings(world.stack.settings)
    runs = await runs_of(client, world.seeded.scope, world.workflow_ids)
    histories = [await in_clear(await history_of(client, *run), codec) for run in runs]
    histories.sort(key=lambda history: history.events[0].event_time.ToDatetime())
    return [(facts(history), history) for history in histories]


def _fitting(known: list[tuple[Facts, WorkflowHistory]], walk: Walk) -> list[WorkflowHistory]:
    return [history for seen, history in known if seen.kind == walk.kind and walk.fits(seen)]


@asynccontextmanager
async def short_runs(stack: Stack) -> Any:
    """The stack with a worker in this process instead of its own, whose runs continue as new early."""
    await asyncio.to_thread(stack.stop, "worker")
    before, continuing.EVENTS = continuing.EVENTS, CONTINUED_EVENTS  # type: ignore[misc]
    db = Database(stack.settings.app_url, name="chama-worker", max_size=20)
    await db.open()
    try:
        async with http_client() as http, build_worker(stack.settings, await connect(stack.settings), db, http):
            yield
    finally:
        await db.close()
        continuing.EVENTS = before  # type: ignore[misc]
        await asyncio.to_thread(stack.start, "worker")


async def record_all(stack: Stack, wanted: list[str], *, again: bool) -> list[str]:
    """Record what is wanted and not there yet."""

    def chosen(walks: Iterable[Walk]) -> list[Walk]:
        names = {walk: (walk.kind, f"{walk.kind}/{walk.path}") for walk in walks}
        return [
            walk
            for walk, name in names.items()
            if (not wanted or {*wanted} & {*name}) and (again or not (HISTORIES / f"{name[1]}.json").exists())
        ]

    missing = await record(stack, chosen(WALKS)) if chosen(WALKS) else []
    if chosen(CONTINUED_WALKS):
        async with short_runs(stack):
            missing += await record(stack, chosen(CONTINUED_WALKS))
    return missing


def main() -> int:
    """0 when every wanted path was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.record", description=__doc__)
    parser.add_argument(
        "wanted", nargs="*", help="WorkflowType or WorkflowType/path; everything that is missing if absent"
    )
    parser.add_argument("--again", action="store_true", help="write existing files anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        with Stack(Path(directory) / "var", env=ENVIRONMENT) as stack:
            missing = asyncio.run(record_all(stack, options.wanted, again=options.again))
    print(*(f"no run fitted {each}" for each in missing), sep="\n", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
