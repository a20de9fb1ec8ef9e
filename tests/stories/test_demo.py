"""The stories of `make demo`, each on a tenant of its own, judged afterwards like every other story."""

import pytest

from cli.demo.show import ALONE
from cli.demo.stories import STORIES as DEMO
from cli.demo.world import World
from tests.fixtures.stories import Stories, Told

STORIES = Stories({name: story for name, story in DEMO.items() if name not in ALONE})


@pytest.mark.parametrize("name", STORIES)
async def test_told_together(name: str, told: Told) -> None:
    await told(name)


@pytest.mark.parametrize("name", ALONE)
async def test_told_alone(name: str, world: World) -> None:
    """Kills a part of the stack, and so nobody else's story may be under way."""
    await DEMO[name](world)
