"""The demo's stories by name; each is told in a tenant of its own."""

from collections.abc import Awaitable, Callable
from typing import Final

from cli.demo.world import World

Story = Callable[[World], Awaitable[None]]
STORIES: Final[dict[str, Story]] = {}


def story(name: str) -> Callable[[Story], Story]:
    """Register a story under its name; its first docstring line is what the demo shows."""

    def register(function: Story) -> Story:
        STORIES[name] = function
        return function

    return register
