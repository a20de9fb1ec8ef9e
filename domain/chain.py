"""The hash chain's one implementation: how a row is put into bytes, and how its link follows from the link before.

    hash(0) = SHA-256("chama chain 1\\n" + name of the table)
    hash(n) = SHA-256(hash(n-1) + row n)

A row is its columns in their fixed order, each as `name=length:text` and a line feed; `length` counts the bytes of the
text in UTF-8. A column that is null is left out, so a nullable column can be added later without a change to old rows.
The text is Postgres's own for the value (`column::text`) with the session's time zone UTC and date style ISO.

Pure Python on purpose: the database that is being watched has no part in the arithmetic.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_VERSION: Final = b"chama chain 1\n"

Values = Sequence[str | None]
"""A row's columns as texts, in the chain's order of columns."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last link of a chain: its position from 1, its hash in hex, and the row it stands for.

    `row` is the row's number, for a transfer `transaction/part`; `scope` is `tenant/mode`.
    """

    position: int
    hash: str
    row: str
    scope: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """Every chain's tail (by table) as it was at one instant (ISO 8601), kept where the database cannot reach."""

    at: str
    tails: dict[str, Tail]


class Linker:
    """Computes the hashes of one table's chain. `columns` are their names, in the chain's order."""

    def __init__(self, table: str, columns: Iterable[str]) -> None:
        self.start = sha256(_VERSION + table.encode()).digest()
        self._names = [column.encode() for column in columns]

    def follow(self, previous: bytes, values: Values) -> bytes:
        """The hash (32 bytes) of the row `values` after the link with hash `previous`."""
        parts = [previous]
        for name, value in zip(self._names, values, strict=True):
            if value is not None:
                text = value.encode()
                parts.append(b"%b=%d:%b\n" % (name, len(text), text))
        return sha256(b"".join(parts)).digest()

    def follow_all(self, previous: bytes, rows: Iterable[Values]) -> Iterator[bytes]:
        """The hash of each row, the first after `previous`."""
        for values in rows:
            previous = self.follow(previous, values)
            yield previous
