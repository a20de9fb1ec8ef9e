"""Work begun by the last release is finished by the working tree (RELIABILITY D2).

The release's own code, checked out beside this one, fills a stack and is killed with signal 9, servers included. Then the
working tree starts on the same database and the same Temporal: its migrations are applied, its API, relay and worker take
over in the middle of everything.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.demo.world import Person
from cli.stack.stack import Stack
from infra.temporal import connect
from tests.architecture.source import ROOT
from tests.fixtures.stack import ENVIRONMENT, judge
from tests.fixtures.stage import Stage, together
from tests.upgrade.old_side import AMOUNT, CARDS, PAGES

RELEASES = ("invest-and-capture", "46dca9a2e0ae058ed725bdce5bec5583fa5d5636")
"""The last release: its tag, or its commit where tags were not fetched."""
OLD_SIDE = Path(__file__).with_name("old_side.py")


def check_out(release: str, folder: Path) -> bool:
    """The release's files in `folder`; False when this clone does not have it."""
    git = subprocess.run(["git", "archive", release], cwd=ROOT, capture_output=True, check=False)
    if git.returncode:
        return False
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=git.stdout, check=True)
    return True


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A checkout of the last release."""
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o711)
    for name in RELEASES:
        if check_out(name, tmp_path / "old"):
            return tmp_path / "old"
    pytest.skip(f"this clone has no history: neither {' nor '.join(RELEASES)} can be checked out")


def run_old(release: Path, directory: Path, slug: str) -> dict[str, Any]:
    """Let the old code work and die; what it promised."""
    done = subprocess.run(
        [sys.executable, str(OLD_SIDE), str(directory), json.dumps(ENVIRONMENT), slug],
        cwd=release,
        env={**os.environ, "PYTHONPATH": str(release)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


async def finish(world: Stage, promised: dict[str, Any]) -> None:
    """Everybody pays, the deadline comes, and every promise is kept once."""
    ada, bem = Person(world.api, *promised["ada"]), Person(world.api, *promised["bem"])
    world.workflow_ids.extend(promised["workflow_ids"])
    at_once, decided = promised["campaigns"]

    async def pay(payment_id: str) -> None:
        payment = await ada.get(f"/v1/payments/{payment_id}")
        await world.pay_page(payment["next_action"])

    await together(*(pay(payment_id) for _, payment_id in promised["pages"]))
    for made, _ in promised["pages"]:
        await world.until(ada, f"/v1/investments/{made}", "captured")
    await world.advance(days=2, hours=1)
    await world.until(world.admin, f"/v1/campaigns/{decided}", "funded")
    for made in promised["cards"]:
        await world.until(bem, f"/v1/investments/{made}", "captured")
    assert await world.counters(at_once) == (0, 0, PAGES * AMOUNT)
    assert await world.counters(decided) == (0, 0, CARDS * AMOUNT)
    assert await world.taken("paystack") == [(AMOUNT, 0)] * PAGES
    assert await world.taken("stripe") == [(AMOUNT, 0)] * CARDS


@pytest.mark.timeout(400)
async def test_the_working_tree_finishes_what_the_release_began(release: Path, tmp_path: Path) -> None:
    slug = f"t-{secrets.token_hex(8)}"
    promised = await asyncio.to_thread(run_old, release, tmp_path / "var", slug)
    assert len(promised["pages"]) == PAGES and len(promised["cards"]) == CARDS
    with Stack(tmp_path / "var", env=ENVIRONMENT) as stack:
        world = await Stage.make(stack, slug)
        assert isinstance(world, Stage)
        try:
            await finish(world, promised)
            await judge(world, await connect(stack.settings))
        finally:
            await world.close()
