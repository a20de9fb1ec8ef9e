"""How postings travel to the ledger's functions: one new transfer as plain values, any number of postings as parallel arrays
with one element a transfer, written as Postgres's own literals."""

from collections.abc import Sequence

from domain.accounts import Phase, Posting
from domain.transfers import Transfer, pair_up


def values_to_add(posting: Posting) -> tuple[str | int, ...] | None:
    """The values of `ledger_add`, for a posting of two legs; None where it is held, or lowers a bounded account."""
    (each,) = pair_up(posting.legs)
    if posting.phase is not Phase.SINGLE or not each.debit.debits_freely or not each.credit.credits_freely:
        return None
    return (
        posting.key,
        posting.event,
        posting.payload_hash,
        posting.effective_at.isoformat(),
        each.debit.code,
        each.debit.stripes,
        each.credit.code,
        each.credit.stripes,
        each.amount_minor,
    )


def values_of(posting: Posting) -> tuple[str | int | None, ...]:
    """The values of `ledger_post_one`, for a posting of two legs."""
    (each,) = pair_up(posting.legs)
    return (
        posting.key,
        posting.event,
        posting.phase.value,
        posting.payload_hash,
        posting.effective_at.isoformat(),
        posting.expires_at.isoformat() if posting.expires_at else None,
        each.debit.code,
        each.credit.code,
        each.amount_minor,
    )


Row = tuple[Posting, int, Transfer | None]
"""What becomes one element of the arrays: a posting, the number of its part from 1, and what that moves."""


def rows_of(postings: Sequence[Posting]) -> list[Row]:
    """A row for each transfer of each posting; one for a resolution or reversal, which moves what its target says."""
    return [
        (posting, part, each)
        for posting in postings
        for part, each in enumerate(pair_up(posting.legs) if posting.legs else (None,), start=1)
    ]


def arguments(rows: Sequence[Row]) -> tuple[str | None, ...]:
    """The parallel arrays of `ledger_post`. Text literals: ten times cheaper to build than lists are to adapt."""
    heads = [posting for posting, _, _ in rows]
    parts = [part for _, part, _ in rows]
    transfers = [each for _, _, each in rows]
    accounts = {spec.code: spec for each in transfers if each for spec in (each.debit, each.credit)}
    positions = {code: position for position, code in enumerate(accounts, start=1)}
    specs = accounts.values()
    targets = [p.target for p in heads]
    return (
        _texts([p.key for p in heads]),
        None if max(parts) == 1 else _array(parts),
        _shared([p.event for p in heads]),
        _shared([p.phase.value for p in heads]),
        _array([p.payload_hash for p in heads]),
        _shared([p.effective_at.isoformat() for p in heads]),
        _column([p.expires_at and p.expires_at.isoformat() for p in heads]),
        None if not any(targets) else _texts(targets),
        _column([each and positions[each.debit.code] for each in transfers]),
        _column([each and positions[each.credit.code] for each in transfers]),
        _column([each.amount_minor if each else p.amount and p.amount.amount_minor for p, _, each in rows]),
        _column([p.amount and p.amount.currency for p in heads]),
        _array([s.code for s in specs]),
        _array([s.kind.value for s in specs]),
        _array([s.bounded for s in specs]),
        _array([s.stripes for s in specs]),
    )


def _array(values: Sequence[object]) -> str:
    """A Postgres array literal of numbers, hashes, times and plain words (no quote, comma, brace or backslash)."""
    return "{" + ",".join(["null" if value is None else str(value) for value in values]) + "}"


def _shared(values: Sequence[str]) -> str:
    """An array whose one element stands for all where they are the same: a batch has usually one event, phase and date."""
    return _array(values[:1] if values.count(values[0]) == len(values) else values)


def _texts(values: Sequence[str | None]) -> str:
    """A Postgres array literal of keys, which may hold any printable ASCII character."""
    return _array([None if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values])


def _column(values: Sequence[object]) -> str | None:
    """An array that few postings fill: None when none does, which neither side then reads."""
    return None if all([value is None for value in values]) else _array(values)
