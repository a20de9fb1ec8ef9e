from tests.fixtures.api import edge, toy_action

__all__ = ["edge", "toy_action"]
