"""What a control is: one guard of the product, how it is switched off, and the tests that must then go red."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FINDING: Final = "|".join(
    (
        "AssertionError",
        "assert ",
        "Failed: DID NOT RAISE",
        "(?:Base)?ExceptionGroup: Hypothesis",
        "failed on teardown with .AssertionError",
    )
)
"""How a failure begins that found something; an import error, a crash of the fixture or a syntax error does not."""


@dataclass(frozen=True)
class Edit:
    """One text of one file of the product, and what stands there while the guard is off."""

    path: str
    old: str
    new: str = ""


@dataclass(frozen=True)
class Guard:
    """One guard. There is no switch for it in the product: it is switched off by editing a copy of the source.

    `promise` is the row of docs/reliability.md it holds up, `off` says in words what the edits do, `tests` are those that
    must go red (of several, one is enough), `shows` is how the failure that counts begins. `quick`: its tests need
    neither Postgres nor Temporal.
    """

    name: str
    promise: str
    off: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    shows: str = FINDING
    quick: bool = False

    def is_finding(self, message: str) -> bool:
        """Whether a test's failure, by its message, is the kind that counts for this guard."""
        return re.match(self.shows, message) is not None


class NotThere(AssertionError):
    """An edit's text does not stand exactly once in its file: the product has changed, and the control with it."""


def edited(root: Path, guard: Guard) -> dict[Path, str]:
    """Every file the guard's edits touch, with its text while the guard is off. Raises NotThere."""
    texts: dict[Path, str] = {}
    for edit in guard.edits:
        path = root / edit.path
        text = texts.get(path) or path.read_text()
        if text.count(edit.old) != 1:
            raise NotThere(f"{guard.name}: found {text.count(edit.old)} times in {edit.path}: {edit.old!r}")
        texts[path] = text.replace(edit.old, edit.new)
    return texts
