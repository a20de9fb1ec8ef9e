"""The anchor file: the chains' tails, kept outside the database. One JSON object a line, only ever appended.

{"at": "2026-01-31T09:00:00.000000Z", "tails": {"audit_log": {"position": 7, "hash": "…", "row": "7", "scope": "…"}}}
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from domain.chain import Anchor, Tail


class AnchorUnreadable(ValueError):
    """A whole line of the file is no anchor; the message names the line."""


class AnchorFile:
    """One file of anchors. Any number of processes of a machine may append to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, anchor: Anchor) -> None:
        """Add one line, on the disk when this returns, unless the last one names the same tails. Raises OSError."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            said = asdict(anchor)
            if self._last_tails(file) == said["tails"]:
                return
            os.write(file, json.dumps(said, separators=(",", ":")).encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @staticmethod
    def _last_tails(file: int) -> object:
        """The tails in the last whole line, None where it cannot be read. A torn line behind it is dropped: what a crash left
        unfinished was never promised to anybody, and would spoil the next line."""
        end = os.lseek(file, 0, os.SEEK_END)
        start = max(0, end - 65_536)
        kept = os.pread(file, end - start, start)
        whole = kept[: kept.rfind(b"\n") + 1]
        if len(whole) < len(kept):
            os.ftruncate(file, start + len(whole))
        try:
            return json.loads(whole.splitlines()[-1])["tails"] if whole else None
        except (ValueError, KeyError, TypeError):
            return None

    def size(self) -> int:
        """Its length in bytes now; 0 when there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self, size: int) -> Iterator[Anchor]:
        """The anchors in its first `size` bytes, oldest first; a torn last line is left out. Raises AnchorUnreadable."""
        if not size:
            return
        with self.path.open("rb") as file:
            number = 0
            while size > 0 and (line := file.readline(size)).endswith(b"\n"):
                size -= len(line)
                number += 1
                try:
                    found = json.loads(line)
                    tails = {name: Tail(**tail) for name, tail in found["tails"].items()}
                    yield Anchor(str(found["at"]), tails)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise AnchorUnreadable(f"{self.path}: line {number} is no anchor") from error
