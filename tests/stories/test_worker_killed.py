"""The demo's stories that kill a part of the stack: alone, when nobody else's story is under way."""

import pytest

from cli.demo.registry import STORIES as DEMO
from cli.demo.show import ALONE
from tests.fixtures.stage import Stage
from tests.fixtures.stories import Told


@pytest.mark.parametrize("name", ALONE)
async def test_story(name: str, told: Told, world: Stage) -> None:
    await told.everything()
    await DEMO[name](world)
