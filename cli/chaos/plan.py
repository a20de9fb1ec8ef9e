"""What a run intends: flows with planned outcomes. A story is a class that registers itself, with its planner and its audit.

The whole plan is drawn from one generator seeded with the run's seed; the faults are drawn from another
(`nemesis.py`), so a change of the faults leaves the work as it was.
"""

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from cli.chaos.crowd import Crowd
from cli.stack.parts import StackFailed

Verdict = Literal["lost", "doubled", "stuck", "wrong"]
"""What can be amiss with a flow. `wrong`: it ended, but not as planned."""
STORIES: Final[dict[str, "type[Story]"]] = {}
"""Every story by its name, which is `family.case`."""
QUICK: Final = ("invest",)
"""The families that need no waiting for a deadline."""


@dataclass
class Flow:
    """One piece of work with a planned end, and what became of it."""

    number: int
    story: "Story"
    key: str
    """The Idempotency-Key, made before the first try."""
    amount: int
    """Minor units of NGN."""
    person: int
    """Index into the crowd."""
    subject: str | None = None
    """The id the API gave it, once accepted."""
    refusal: str | None = None
    """The problem code of a definite refusal."""
    answered: bool = False
    error: str | None = None
    """Why its client gave up."""

    def __str__(self) -> str:
        return f"{self.story.name} #{self.number} ({self.subject or self.key})"


@dataclass(frozen=True)
class Amiss:
    """One thing the audit of a story found."""

    verdict: Verdict
    flow: Flow
    detail: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.flow}: {self.detail}"


@dataclass
class Evidence:
    """What a story's audit may look at, read once for the whole run by `verdict.py`."""

    investments: dict[str, "Seen"] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One investment as the rows, the ledger and its provider have it. Amounts in minor units."""

    status: str
    amount: int
    ledger: int
    """What the ledger posted from this pledge's attempts into escrow."""
    postings: int
    """How many such postings."""
    kept: int
    """What the provider took and did not give back."""
    claims: int
    """How many payments the provider has under this pledge that hold its money, or took it and did not give it back."""
    payment_id: str = ""
    held_in_time: bool = False
    """Whether its money was held before its campaign's deadline."""


class Story(ABC):
    """One kind of flow. Subclasses with a `name` are registered."""

    name: ClassVar[str] = ""
    weight: ClassVar[int] = 1
    """Its share of the flows, relative to the others'."""
    early: ClassVar[bool] = False
    """Whether its flows come first, because they have a deadline to meet."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.name:
            STORIES[cls.name] = cls

    @abstractmethod
    async def prepare(self, crowd: Crowd, chaos_seconds: float) -> None:
        """Before any fault: what its flows need (campaigns). `chaos_seconds`: how long the chaos is planned to last."""

    @abstractmethod
    def plan(self, generator: random.Random, number: int, key: str, people: int) -> Flow:
        """The next flow."""

    @abstractmethod
    async def act(self, flow: Flow, crowd: Crowd) -> None:
        """Do the flow's requests; returns when each has a final answer."""

    @abstractmethod
    def at_rest(self, flow: Flow, seen: Evidence) -> bool:
        """Whether the flow has come to a planned or permitted end."""

    @abstractmethod
    def judge(self, flow: Flow, seen: Evidence) -> list[Amiss]:
        """After convergence: everything amiss with the flow."""


def chosen(prefixes: list[str]) -> "list[Story]":
    """The stories whose name begins with one of `prefixes` (all, without any). Raises StackFailed when there is none."""
    import cli.chaos.stories  # noqa: F401 - importing registers them

    found = [
        made() for name, made in STORIES.items() if not prefixes or any(name.startswith(each) for each in prefixes)
    ]
    if not found:
        raise StackFailed(f"No story begins with {', '.join(prefixes)}. There are: {', '.join(sorted(STORIES))}.")
    return found


def draw(seed: int, flows: int, people: int, stories: "list[Story]") -> list[Flow]:
    """`flows` flows in the order in which they begin; the same for the same arguments."""
    generator = random.Random(f"work {seed}")  # noqa: S311 - replayable, not secret
    weights = [each.weight for each in stories]
    drawn = [
        generator.choices(stories, weights)[0].plan(generator, number, f"chaos-{seed}-{number}", people)
        for number in range(flows)
    ]
    return sorted(drawn, key=lambda flow: not flow.story.early)
