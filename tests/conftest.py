"""Only the list of fixture modules."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.stack", "tests.fixtures.stories"]
