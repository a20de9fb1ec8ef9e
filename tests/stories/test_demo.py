"""The stories of `make demo`, each on a tenant of its own, judged afterwards like every other story."""

import pytest

from cli.demo.registry import STORIES as DEMO
from cli.demo.show import ALONE
from tests.fixtures.stories import Stories, Told

STORIES = Stories({name: story for name, story in DEMO.items() if name not in ALONE})


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)
