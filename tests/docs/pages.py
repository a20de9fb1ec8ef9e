"""The pages a reader sees, taken apart: links, headings, tables, and the code blocks that are run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source import ROOT

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_RUN = re.compile(r"^<!-- run -->\n```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_PUNCTUATION = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Link:
    """One link: the page it stands on, its text, and the file and heading it names (relative to the page)."""

    page: Path
    text: str
    path: str
    anchor: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: [{self.text}]({self.path}{'#' if self.anchor else ''}{self.anchor})"

    @property
    def file(self) -> Path:
        return (self.page.parent / self.path).resolve() if self.path else self.page


def pages() -> list[Path]:
    """README and its kin, and everything under docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> Iterator[Link]:
    """Every link to something of ours."""
    for found in _LINK.finditer(_FENCED.sub("", page.read_text())):
        path, _, anchor = found["target"].partition("#")
        if "://" not in path:
            yield Link(page, found["text"], path, anchor)


def anchors(page: Path) -> set[str]:
    """What headings can be linked as, by GitHub's rule."""
    plain = (_LINK.sub(r"\g<text>", title) for title in _HEADING.findall(_FENCED.sub("", page.read_text())))
    return {_PUNCTUATION.sub("", title.strip().lower()).replace(" ", "-") for title in plain}


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its own two header lines."""
    below = page.read_text().split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None, f"{page.name} has no table below {heading}"
    cut = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.group().splitlines()]
    return [[cell.strip() for cell in cells] for cells in cut][2:]


def code(cell: str) -> str:
    """The first thing in backticks."""
    found = re.search(r"`([^`]+)`", cell)
    return found[1] if found else ""


def walkthrough() -> str:
    """The blocks of the README that a reader pastes, one after the other."""
    return "".join(_RUN.findall((ROOT / "README.md").read_text()))
