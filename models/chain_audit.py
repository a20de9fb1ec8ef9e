"""`chama audit verify`: recomputes every hash chain and compares chain, rows and anchors. Changes nothing.

One pass a chain: links in the order of their positions beside rows in the order of their ids, both through server-side
cursors, and the anchors beside them. Memory does not grow with the tables. What each finding means:

    changed       the row's columns, or its link, are not those that were chained
    missing row   a link stands for a row that is gone
    unchained     a row that appeared behind the chain's back, or whose link is gone
    link          a link is missing, out of order, edited, or names another tenant than its row
    anchor        the chain contradicts what was anchored outside: cut off, or computed anew
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from psycopg import sql
from psycopg.rows import tuple_row

from domain.chain import Anchor, Tail
from infra.anchors import AnchorFile, AnchorUnreadable
from infra.database import Tx
from models.chain import CHAINS, Chain, Key, as_text, row_name

LIMIT: Final = 1_000
"""Findings that are kept, in the order of the chain; the others are only counted."""

_FETCH = 2_000
"""Rows that a cursor brings at once."""

Progress = Callable[[str, int, int], None]
"""Told now and then: the table, how many of its links are done, how many there are."""


@dataclass(frozen=True, slots=True)
class Tampering:
    """One thing that is wrong. `row`: number, or `transaction/part`; `scope`: `tenant/mode`; both "" where none is known."""

    table: str
    row: str
    scope: str
    problem: str
    detail: str

    def __str__(self) -> str:
        """One line for a person."""
        of = f" of {self.scope}" if self.scope else ""
        return f"F6 {self.table} {self.row}{of}: {self.problem}: {self.detail}"


@dataclass
class Counts:
    """One chain's figures: links recomputed, and rows that no chainer has come to yet."""

    verified: int = 0
    not_yet_chained: int = 0


@dataclass
class Report:
    """What a verification found. `anchors`: how many anchored tails were compared."""

    chains: dict[str, Counts] = field(default_factory=dict)
    findings: list[Tampering] = field(default_factory=list)
    found: int = 0
    anchors: int = 0

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return self.found == 0

    def add(self, finding: Tampering) -> None:
        """Count a finding, and keep it while there is room."""
        self.found += 1
        if len(self.findings) < LIMIT:
            self.findings.append(finding)


@dataclass(slots=True)
class _Link:
    position: int
    key: Key
    scope: str
    hash: bytes


@dataclass(slots=True)
class _Row:
    key: Key
    values: tuple[str | None, ...]

    @property
    def scope(self) -> str:
        return f"{self.values[0]}/{self.values[1]}"


async def verify(
    tx: Tx, anchors: AnchorFile | None, size: int, progress: Progress = lambda table, done, of: None
) -> Report:
    """Recompute everything. `tx`: a fresh transaction of the audit role, without a scope.

    `size` is that of the anchor file before `tx` began: what is anchored meanwhile is newer than what `tx` sees.
    """
    await tx.execute("set transaction isolation level repeatable read, read only")
    await as_text(tx)
    report = Report()
    for chain in CHAINS:
        await _Check(report, chain, _Anchors(report, chain, anchors, size)).run(tx, progress)
    return report


class _Check:
    """The pass over one chain."""

    def __init__(self, report: Report, chain: Chain, anchors: "_Anchors") -> None:
        self._report, self._chain, self._anchors = report, chain, anchors
        self._linker = chain.linker
        self._counts = report.chains.setdefault(chain.table, Counts())
        self._previous: bytes | None = self._linker.start
        """The hash that the next link follows; None behind a gap, where nothing can be recomputed."""
        self._instead: bytes | None = None
        """Behind a link that did not fit: what its hash should have been."""
        self.last: _Link | None = None

    async def run(self, tx: Tx, progress: Progress) -> None:
        """Merge links and rows. Rows behind that of the last link are not yet chained."""
        tail = await (await tx.execute(_TAIL, (self._chain.table,))).fetchone()
        total, mark = (tail["position"], (tail["row_id"], tail["part"])) if tail else (0, (0, 0))
        async with _rows(tx, self._chain) as rows, _links(tx, self._chain) as links:
            row = await anext(rows, None)
            async for link in links:
                if not self._in_order(link):
                    continue
                while row is not None and row.key < link.key:
                    self._unchained(row)
                    row = await anext(rows, None)
                if row is None or row.key > link.key:
                    self._find(
                        link.key, link.scope, "missing row", f"link {link.position} stands for a row that is gone"
                    )
                else:
                    self._compare(link, row)
                    row = await anext(rows, None)
                self._previous, self.last = link.hash, link
                self._anchors.pass_by(link.position, link.hash)
                self._counts.verified += 1
                if link.position % _FETCH == 0:
                    progress(self._chain.table, link.position, total)
            while row is not None:
                if row.key <= mark:
                    self._unchained(row)
                else:
                    self._counts.not_yet_chained += 1
                row = await anext(rows, None)
        self._anchors.end(self.last.position if self.last else 0)
        progress(self._chain.table, total, total)

    def _in_order(self, link: _Link) -> bool:
        """Whether the link comes where it should; a missing one before it is a finding, and so is a row out of turn."""
        expected = self.last.position + 1 if self.last else 1
        if link.position != expected:
            gone = f"{expected}" if link.position == expected + 1 else f"{expected} to {link.position - 1}"
            self._find(link.key, link.scope, "link", f"before link {link.position} of this row, {gone} is missing")
            self._previous = self._instead = None
        if self.last and link.key <= self.last.key:
            self._find(link.key, link.scope, "link", f"link {link.position} is out of order")
            self._previous, self._instead = link.hash, None
            self.last = _Link(link.position, self.last.key, link.scope, link.hash)
            self._anchors.pass_by(link.position, link.hash)
            return False
        return True

    def _compare(self, link: _Link, row: _Row) -> None:
        instead, self._instead = self._instead, None
        if self._previous is not None:
            computed = self._linker.follow(self._previous, row.values)
            if computed != link.hash:
                if instead is not None and self._linker.follow(instead, row.values) == link.hash:
                    self._blame_the_link()
                    return
                detail = f"the row does not give the hash of link {link.position}; it, or that link, or what the link follows"
                self._find(row.key, link.scope, "changed", f"{detail}, is not what was chained")
                self._instead = computed
                return
        if row.scope != link.scope:
            self._find(row.key, row.scope, "link", f"link {link.position} names {link.scope}")

    def _blame_the_link(self) -> None:
        """The link just reported was edited, not its row: this one follows from the hash it should have had."""
        if self._report.findings and self._report.found == len(self._report.findings):
            found = self._report.findings[-1]
            self._report.findings[-1] = replace(
                found, problem="link", detail="the hash of its link was edited, not the row"
            )

    def _unchained(self, row: _Row) -> None:
        self._find(row.key, row.scope, "unchained", "the chain has passed this row and has no link for it")

    def _find(self, key: Key, scope: str, problem: str, detail: str) -> None:
        self._report.add(Tampering(self._chain.table, row_name(key, self._chain), scope, problem, detail))


class _Anchors:
    """The anchored tails of one chain, in the order of the file, compared as the chain passes by."""

    def __init__(self, report: Report, chain: Chain, file: AnchorFile | None, size: int) -> None:
        self._report, self._chain, self._configured = report, chain, file is not None
        self._tails = self._read(file, size) if file is not None else iter(())
        self._next = next(self._tails, None)
        self._agreed = 0
        self._contradicted = False
        self._any = self._next is not None

    def _read(self, file: AnchorFile, size: int) -> Iterator[tuple[str, Tail]]:
        newest = None
        try:
            for anchor in file.read(size):
                tail = anchor.tails.get(self._chain.table)
                if newest is not None and (tail is None or tail.position < newest.position):
                    self._shrank(anchor, tail, newest)
                    return
                if tail is not None and tail != newest:
                    yield anchor.at, tail
                newest = tail
        except AnchorUnreadable as error:
            if self._chain is CHAINS[0]:
                self._report.add(Tampering("anchors", "", "", "anchor", str(error)))

    def _shrank(self, anchor: Anchor, tail: Tail | None, newest: Tail) -> None:
        """The file itself shows that the chain was shorter than before."""
        self._find(
            newest, f"{newest.position} links were anchored, then, at {anchor.at}, {tail.position if tail else 0}"
        )

    def pass_by(self, position: int, digest: bytes) -> None:
        """The chain has this hash at `position`."""
        while self._next is not None and self._next[1].position <= position:
            at, tail = self._next
            self._report.anchors += 1
            if not self._contradicted and (tail.position < position or tail.hash != digest.hex()):
                self._contradicted = True
                self._find(
                    tail,
                    f"the chain is not the one that was anchored at {at}: link {tail.position} has another hash, so "
                    f"something from link {self._agreed + 1} to {tail.position} was changed and the chain computed anew",
                )
            elif not self._contradicted:
                self._agreed = tail.position
            self._next = next(self._tails, None)

    def end(self, position: int) -> None:
        """The chain has no link after `position`."""
        newest = None
        while self._next is not None:
            newest = self._next
            self._report.anchors += 1
            self._next = next(self._tails, None)
        if newest is not None:
            at, tail = newest
            self._find(
                tail, f"the chain ends at link {position}, but at {at} link {tail.position}, of this row, was there"
            )
        if self._configured and position and not self._any:
            self._report.add(
                Tampering(self._chain.table, "", "", "anchor", "the chain has links, but was never anchored")
            )

    def _find(self, tail: Tail, detail: str) -> None:
        self._report.add(Tampering(self._chain.table, tail.row, tail.scope, "anchor", detail))


_TAIL = "select position, row_id, part from chain_links where chain = %s order by position desc limit 1"

_LINKS = """
select position, row_id, part, tenant_id || '/' || mode, hash from chain_links where chain = %s order by position
"""


@asynccontextmanager
async def _links(tx: Tx, chain: Chain) -> AsyncIterator[AsyncIterator[_Link]]:
    async with tx.cursor("chain_links", row_factory=tuple_row) as cursor:
        cursor.itersize = _FETCH
        await cursor.execute(_LINKS, (chain.table,))

        async def each() -> AsyncIterator[_Link]:
            async for position, row_id, part, scope, digest in cursor:
                yield _Link(position, (row_id, part), scope, bytes(digest))

        yield each()


@asynccontextmanager
async def _rows(tx: Tx, chain: Chain) -> AsyncIterator[AsyncIterator[_Row]]:
    query = sql.SQL("select {} from {} r order by 1, 2").format(chain.select(), sql.Identifier(chain.table))
    async with tx.cursor("chain_rows", row_factory=tuple_row) as cursor:
        cursor.itersize = _FETCH
        await cursor.execute(query)

        async def each() -> AsyncIterator[_Row]:
            async for row in cursor:
                yield _row(row)

        yield each()


def _row(row: tuple[Any, ...]) -> _Row:
    return _Row((row[0], row[1]), row[2:])
