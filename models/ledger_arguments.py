"""How postings travel to the ledger's functions: the calls, and their values. One new transfer is plain values, any number of
postings parallel arrays with one element a transfer, written as Postgres's own literals."""

from collections.abc import Sequence
from typing import NamedTuple

from domain.accounts import Phase, Posting
from domain.transfers import Transfer, pair_up

ADD = """
select ledger_add(%s, %s, %s::uuid, %s::timestamptz, %s, %s::smallint, %s, %s::smallint, %s) as id
"""
"""One new final transfer that lowers no bounded account; its values are those of `values_to_add`. The id is
null when `POST` has the answer."""

POST_ONE = """
select ledger_post_one(%s, %s, %s::ledger_phase, %s::uuid, %s::timestamptz, %s::timestamptz, %s, %s, %s) as id
"""
"""One new transfer of any other kind; its values are those of `values_of`. Null as `ADD`."""

POST_NEW = """
select ledger_post_new(
    %s::text[], %s::integer[], %s::text[], %s::ledger_phase, %s::uuid[], %s::timestamptz[], %s::timestamptz[],
    %s::integer[], %s::integer[], %s::bigint[], %s::text[], %s::smallint[], %s) as ids
"""
"""New transfers; its values are those of `arguments_of_new`. The ids are null when `POST` has the answer."""

POST = """
select ids, replayed from ledger_post(
    %s::text[], %s::integer[], %s::text[], %s::ledger_phase[], %s::uuid[], %s::timestamptz[], %s::timestamptz[],
    %s::text[], %s::integer[], %s::integer[], %s::bigint[], %s::text[],
    %s::text[], %s::text[], %s::boolean[], %s::smallint[])
"""
"""Any number of postings; its values are those of `arguments`."""


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


class Arguments(NamedTuple):
    """The parallel arrays of `ledger_post`, as text literals: ten times cheaper to build than lists are to adapt."""

    keys: str
    parts: str | None
    events: str
    phases: str
    hashes: str
    effective: str
    expires: str | None
    targets: str | None
    debits: str | None
    credits: str | None
    amounts: str | None
    currencies: str | None
    codes: str
    kinds: str
    bounded: str
    stripes: str


def arguments(rows: Sequence[Row]) -> Arguments:
    """The values of `ledger_post`."""
    heads = [posting for posting, _, _ in rows]
    parts = [part for _, part, _ in rows]
    transfers = [each for _, _, each in rows]
    accounts = {spec.code: spec for each in transfers if each for spec in (each.debit, each.credit)}
    codes = sorted(accounts)  # as they are locked
    positions = {code: position for position, code in enumerate(codes, start=1)}
    specs = [accounts[code] for code in codes]
    targets = [p.target for p in heads]
    return Arguments(
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
        _array(codes),
        _array([s.kind.value for s in specs]),
        _array([s.bounded for s in specs]),
        _array([s.stripes for s in specs]),
    )


def arguments_of_new(rows: Sequence[Row]) -> tuple[str | None, ...] | None:
    """The values of `ledger_post_new`; None where that has no answer: a posting acts on another, some are held and some
    final, there are several currencies, or an account of several stripes may be lowered that is bounded."""
    kinds = {(posting.phase, each.debit.currency) if each else None for posting, _, each in rows}
    if len(kinds) > 1 or None in kinds or any([each and _lowers_striped(each) for _, _, each in rows]):
        return None
    ((phase, currency),) = [kind for kind in kinds if kind]
    sets = arguments(rows)
    return (
        *(sets.keys, sets.parts, sets.events, phase.value, sets.hashes, sets.effective, sets.expires),
        *(sets.debits, sets.credits, sets.amounts, sets.codes, sets.stripes, currency),
    )


def _lowers_striped(each: Transfer) -> bool:
    return (each.debit.stripes > 1 and not each.debit.debits_freely) or (
        each.credit.stripes > 1 and not each.credit.credits_freely
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
