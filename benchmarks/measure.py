"""Taking turns: ours and the bare thing run one after the other, round by round, in one process on one machine."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Work = Callable[[], Awaitable[float]]
"""Runs once and answers its figure (a rate per second, or seconds)."""


@dataclass(frozen=True)
class Ratio:
    """One row of the table. `ours` and `bare` are the medians of the rounds; the spread is of the ratio."""

    name: str
    what: str
    goal: str
    unit: str
    ours: float
    bare: float
    rounds: list[float] = field(repr=False)

    @property
    def value(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest round."""
        return min(self.rounds), max(self.rounds)


async def side_by_side(
    name: str, what: str, ours: Work, bare: Work, *, goal: str, unit: str = "/s", rounds: int = 5
) -> Ratio:
    """Warm both sides up once, then let them take turns, changing who begins."""
    await ours(), await bare()
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            theirs = await bare()
            pairs.append((await ours(), theirs))
        else:
            mine = await ours()
            pairs.append((mine, await bare()))
    mine_all, bare_all = zip(*pairs, strict=True)
    return Ratio(
        name, what, goal, unit, statistics.median(mine_all), statistics.median(bare_all), [a / b for a, b in pairs]
    )


async def rate(count: int, work: Awaitable[object]) -> float:
    """How many of `count` things a second `work` got done."""
    started = time.perf_counter()
    await work
    return count / (time.perf_counter() - started)
