"""Transition tables: what may follow what. Terminal is terminal, here and in SQL (DESIGN §2.9).

One `Machine` per entity; the tables stand beside the entity's rules (`payment.py`, `investment.py`, `campaign.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True)
class Machine(Generic[S]):
    """The legal moves of one kind of entity. A state that is no key of `moves` is terminal."""

    noun: str
    moves: Mapping[S, frozenset[S]]

    def allows(self, source: S, target: S) -> bool:
        """Whether `source` may become `target`. Staying put is not a move."""
        return target in self.moves.get(source, frozenset())

    def is_terminal(self, state: S) -> bool:
        """No way out of it."""
        return not self.moves.get(state)

    def sources(self, target: S) -> tuple[S, ...]:
        """Every state that may become `target`: the `status in (…)` of the guarded update."""
        return tuple(source for source, targets in self.moves.items() if target in targets)
