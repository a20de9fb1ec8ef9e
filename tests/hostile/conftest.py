from tests.fixtures.api import toy_action
from tests.fixtures.hostile import served

__all__ = ["served", "toy_action"]
