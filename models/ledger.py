"""The ledger's tables and the only writer of money.

Three tables, all written by four database functions (migrations/sql): the app role may read them and call these, nothing else.
`ledger_add` and `ledger_post_one` write one new transfer, `ledger_post_new` a batch of them, and `ledger_post` everything, also
what the others leave: it is asked when one answers null, and says why or that it was there before. A caller builds a `Posting`
with a template of `domain/accounts.py` and hands it to `post` or `post_many` inside its own transaction, so money and the
rows that describe it commit together.

A refusal is raised as a domain error and leaves the transaction aborted: let it end there, or wrap the call in
`async with tx.transaction():` (a savepoint) to go on. Two postings in one transaction lock in the order they are made;
where that can meet another order, give them to `post_many`, which locks once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString
from uuid import UUID

from psycopg import DatabaseError
from psycopg.rows import DictRow
from sqlalchemy import BigInteger, Column, DateTime, Identity, Integer, SmallInteger
from sqlmodel import Field

from domain.accounts import (
    AccountKind,
    AlreadyReversed,
    ExceedsHold,
    HoldExpired,
    HoldNotExpired,
    HoldResolved,
    InsufficientFunds,
    InvalidPosting,
    LedgerKeyConflict,
    Phase,
    Posting,
    UnknownHold,
    reversal,
)
from domain.errors import DomainError, NotFound
from domain.money import InvalidMoney, Money
from infra.database import Tx, fetch_one
from models.base import Scoped
from models.ledger_arguments import (
    ADD,
    POST,
    POST_NEW,
    POST_ONE,
    Row,
    arguments,
    arguments_of_new,
    rows_of,
    values_of,
    values_to_add,
)


class LedgerAccount(Scoped, table=True):
    """An account, opened by its first posting and never changed. `code` is unique per tenant and mode."""

    __tablename__ = "ledger_accounts"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), unique=True, nullable=False))
    code: str = Field(primary_key=True)
    currency: str
    kind: str
    bounded: bool
    stripes: int = Field(sa_type=SmallInteger)
    opened_at: datetime = Field(sa_type=DateTime(timezone=True))


class LedgerBalance(Scoped, table=True):
    """One stripe of an account's cached balance; only the sum over the stripes means anything.

    The account's rules are repeated here, so that a posting finds all it needs by `code` and stripe.
    """

    __tablename__ = "ledger_balances"

    account_id: int = Field(primary_key=True, sa_type=BigInteger)
    code: str
    stripe: int = Field(primary_key=True, sa_type=SmallInteger)
    stripes: int = Field(sa_type=SmallInteger)
    bounded: bool
    debit_normal: bool
    debits_freely: bool
    credits_freely: bool
    posted_minor: int = Field(sa_type=BigInteger)
    pending_debit_minor: int = Field(sa_type=BigInteger)
    pending_credit_minor: int = Field(sa_type=BigInteger)


class LedgerTransfer(Scoped, table=True):
    """One amount moved from the credit account to the debit account; for `pending` held, for `void` and `expire` released.

    A posting is one transfer or several `part`s under one id and key. `key` is unique per tenant and mode; at most one
    resolution and one reversal target a transaction. The views `ledger_transactions` and `ledger_entries` show the same
    as headers and signed legs.
    """

    __tablename__ = "ledger_transfers"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    part: int = Field(primary_key=True, sa_type=Integer)
    key: str = Field(primary_key=True)
    event: str
    phase: str
    target_id: int | None = Field(default=None, sa_type=BigInteger)
    payload_hash: UUID
    debit_id: int = Field(sa_type=BigInteger)
    credit_id: int = Field(sa_type=BigInteger)
    currency: str
    amount_minor: int = Field(sa_type=BigInteger)
    effective_at: datetime = Field(sa_type=DateTime(timezone=True))
    expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    posted_at: datetime = Field(sa_type=DateTime(timezone=True))


_REFUSALS: dict[str, type[DomainError]] = {
    "CH002": LedgerKeyConflict,
    "CH003": HoldResolved,
    "CH004": InvalidPosting,
    "CH005": UnknownHold,
    "CH006": ExceedsHold,
    "CH007": HoldExpired,
    "CH008": AlreadyReversed,
    "CH009": InvalidMoney,
    "CH010": HoldNotExpired,
}
"""SQLSTATE of `ledger_post` → the domain error it means. The message names keys and codes, never a person."""


def _refusal(error: DatabaseError) -> DomainError | None:
    """The domain error a database error stands for; None when it is no refusal of the ledger."""
    if error.sqlstate == "CH001":
        return InsufficientFunds()  # whose account lacks how much stays in our own logs
    refusal = _REFUSALS.get(error.sqlstate or "")
    return refusal(error.diag.message_primary or "") if refusal else None  # type: ignore[call-arg]


@dataclass(frozen=True, slots=True)
class PostedTransaction:
    """`replayed`: the posting was in the ledger before, and nothing moved this time."""

    id: int
    replayed: bool


async def post(tx: Tx, posting: Posting) -> PostedTransaction:
    """Write one posting, or find it already written. Raises as `post_many` does."""
    if len(posting.legs) == 2:
        added = values_to_add(posting)
        row = await (_call(tx, ADD, added) if added else _call(tx, POST_ONE, values_of(posting)))
        if row["id"] is not None:
            return PostedTransaction(row["id"], replayed=False)
        return (await _post(tx, rows_of((posting,))))[0]
    return (await post_many(tx, (posting,)))[0]


async def _post(tx: Tx, rows: Sequence[Row]) -> list[PostedTransaction]:
    """What was posted, or was there before; one for each row."""
    answer = await _call(tx, POST, arguments(rows))
    return list(map(PostedTransaction, answer["ids"], answer["replayed"]))


async def _call(tx: Tx, query: LiteralString, values: Sequence[object]) -> DictRow:
    """The answer of a function that writes. Raises the domain error its refusal stands for."""
    try:
        row = await fetch_one(tx, query, values)
    except DatabaseError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from error
    assert row is not None
    return row


async def post_many(tx: Tx, postings: Sequence[Posting]) -> list[PostedTransaction]:
    """Write any number of postings (1,000 and more) of any phases, all or none; answers in their order.

    The bounds hold for the batch as a whole. The same posting twice is written once. Raises InsufficientFunds,
    LedgerKeyConflict, HoldResolved, UnknownHold, ExceedsHold, HoldExpired, HoldNotExpired, AlreadyReversed, InvalidMoney
    (a part in another currency than its hold) or InvalidPosting.
    """
    unique: dict[str, Posting] = {}
    for posting in postings:
        first = unique.setdefault(posting.key, posting)
        if first is not posting and first.payload_hash != posting.payload_hash:
            raise LedgerKeyConflict(f"key {posting.key} stands for two postings")
    if not unique:
        return []
    rows = rows_of(list(unique.values()))
    new = arguments_of_new(rows)
    ids = (await _call(tx, POST_NEW, new))["ids"] if new else None
    if ids is not None:
        posted = [PostedTransaction(id, replayed=False) for id in ids]
    else:
        posted = await _post(tx, rows)
    by_key = {posting.key: each for (posting, _, _), each in zip(rows, posted, strict=True)}
    return [by_key[posting.key] for posting in postings]


async def post_hold(
    tx: Tx, *, key: str, hold: str, event: str, as_of: datetime, amount: Money | None = None
) -> PostedTransaction:
    """Make a hold final, in full or for `amount` of it; the rest is released. Raises as `post_many` does."""
    return await post(tx, Posting(key, event, Phase.POST, as_of, target=hold, amount=amount))


async def void_hold(tx: Tx, *, key: str, hold: str, event: str, as_of: datetime) -> PostedTransaction:
    """Release a hold. Raises as `post_many` does."""
    return await post(tx, Posting(key, event, Phase.VOID, as_of, target=hold))


async def expire_hold(tx: Tx, *, key: str, hold: str, event: str, as_of: datetime) -> PostedTransaction:
    """Release a hold whose `expires_at` has come. Raises HoldNotExpired before, else as `post_many` does."""
    return await post(tx, Posting(key, event, Phase.EXPIRE, as_of, target=hold))


async def reverse(tx: Tx, *, key: str, target: str, as_of: datetime) -> PostedTransaction:
    """Undo a posted transaction by its mirror image, once. Raises AlreadyReversed, UnknownHold, InsufficientFunds."""
    return await post(tx, reversal(key, target=target, as_of=as_of))


@dataclass(frozen=True, slots=True)
class Balance:
    """An account seen from its normal side: what grows it is positive, whatever its kind.

    `pending_in_minor` is promised but not yet there; `pending_out_minor` is claimed by holds, so not available.
    """

    code: str
    currency: str
    kind: AccountKind
    posted_minor: int
    pending_in_minor: int
    pending_out_minor: int

    @property
    def available_minor(self) -> int:
        """What may be spent: posted less what leaving holds claim."""
        return self.posted_minor - self.pending_out_minor


def _balance(row: DictRow) -> Balance:
    kind = AccountKind(row["kind"])
    sides = row["pending_debit"], row["pending_credit"]
    posted, (incoming, outgoing) = (row["posted"], sides) if kind.debit_normal else (-row["posted"], sides[::-1])
    return Balance(row["code"], row["currency"], kind, posted, incoming, outgoing)


_BALANCES = """
select a.code, a.currency, a.kind, sum(b.posted_minor)::bigint as posted,
       sum(b.pending_debit_minor)::bigint as pending_debit, sum(b.pending_credit_minor)::bigint as pending_credit
  from ledger_accounts a
  join ledger_balances b on b.tenant_id = a.tenant_id and b.mode = a.mode and b.account_id = a.id
 where {condition}
 group by a.code, a.currency, a.kind order by a.code limit %(limit)s
"""
_ONE_BALANCE = _BALANCES.format(condition="a.code = %(code)s")
_PAGE_OF_BALANCES = _BALANCES.format(condition="a.code >= %(low)s and a.code < %(high)s and a.code > %(after)s")

_BALANCE_AS_OF = """
select a.code, a.currency, a.kind,
       coalesce(sum(l.minor) filter (where l.phase <> 'pending'), 0)::bigint as posted,
       coalesce(sum(l.minor) filter (where l.open and l.minor > 0), 0)::bigint as pending_debit,
       coalesce(sum(-l.minor) filter (where l.open and l.minor < 0), 0)::bigint as pending_credit
  from ledger_accounts a
  left join lateral (
       select t.minor, t.phase, t.phase = 'pending' and r.id is null as open
         from (select d.*, d.amount_minor as minor from ledger_transfers d where d.debit_id = a.id
                union all
               select c.*, -c.amount_minor from ledger_transfers c where c.credit_id = a.id) t
         left join ledger_transfers r
           on r.target_id = t.id and r.part = t.part and t.phase = 'pending' and r.phase <> 'reversal' and r.{date} <= %(as_of)s
        where t.phase not in ('void', 'expire') and t.{date} <= %(as_of)s) l on true
 where a.code = %(code)s group by a.code, a.currency, a.kind
"""
_AS_OF = {on: _BALANCE_AS_OF.format(date=f"{on}_at") for on in ("effective", "posted")}


async def balance(
    tx: Tx, code: str, as_of: datetime | None = None, on: Literal["effective", "posted"] = "effective"
) -> Balance:
    """One account's balance: now from the cache, or as of a date from the entries themselves.

    `on` says which date counts: when it happened (`effective`) or when we wrote it down (`posted`). Raises NotFound for
    an account no posting has opened.
    """
    query = _ONE_BALANCE if as_of is None else _AS_OF[on]
    row = await fetch_one(tx, query, {"code": code, "as_of": as_of, "limit": 1})
    if row is None:
        raise NotFound("account")
    return _balance(row)


async def accounts(tx: Tx, prefix: str = "", after: str = "", limit: int = 50) -> list[Balance]:
    """A page of accounts with balances, by code. `after`: the last code of the page before."""
    params = {"low": prefix, "high": prefix + "\U0010ffff", "after": after, "limit": limit}
    return [_balance(row) for row in await (await tx.execute(_PAGE_OF_BALANCES, params)).fetchall()]


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One leg with its transaction. `amount_minor` is signed: positive = debit."""

    transaction_id: int
    leg: int
    code: str
    amount_minor: int
    currency: str
    pending: bool
    key: str
    event: str
    phase: Phase
    effective_at: datetime
    posted_at: datetime


_LINES_OF_TRANSACTION = """
select t.id as transaction_id, e.leg, a.code, e.amount_minor, e.currency, e.pending,
       t.key, t.event, t.phase, t.effective_at, t.posted_at
  from ledger_transactions t
  join ledger_entries e on e.tenant_id = t.tenant_id and e.mode = t.mode and e.transaction_id = t.id
  join ledger_accounts a on a.tenant_id = e.tenant_id and a.mode = e.mode and a.id = e.account_id
 where t.key = %(key)s order by e.leg
"""
_SIDE_OF_ACCOUNT = """
select t.*, 2 * t.part - {less} as leg, {sign}t.amount_minor as minor
  from ledger_transfers t
 where t.{side}_id = a.id and t.phase not in ('void', 'expire')
   and t.id <= %(transaction)s and (t.id, 2 * t.part - {less}) < (%(transaction)s, %(leg)s)
 order by t.id desc, t.part desc limit %(limit)s
"""
# Not through the view: each side gives its newest, by its own index, and no more.
_LINES_OF_ACCOUNT = f"""
select l.id as transaction_id, l.leg, a.code, l.minor as amount_minor, l.currency, l.phase = 'pending' as pending,
       l.key, l.event, l.phase, l.effective_at, l.posted_at
  from ledger_accounts a
 cross join lateral (({_SIDE_OF_ACCOUNT.format(side="debit", less=1, sign="")})
                     union all ({_SIDE_OF_ACCOUNT.format(side="credit", less=0, sign="-")})) l
 where a.code = %(code)s order by l.id desc, l.leg desc limit %(limit)s
"""  # noqa: S608  constant text
_NEWEST = (2**62, 0)


def _line(row: DictRow) -> EntryLine:
    return EntryLine(**{**row, "phase": Phase(row["phase"])})


async def entries(tx: Tx, code: str, before: tuple[int, int] = _NEWEST, limit: int = 50) -> list[EntryLine]:
    """A page of an account's legs, newest first. `before`: (transaction_id, leg) of the last line so far."""
    params = {"code": code, "transaction": before[0], "leg": before[1], "limit": limit}
    return [_line(row) for row in await (await tx.execute(_LINES_OF_ACCOUNT, params)).fetchall()]


@dataclass(frozen=True, slots=True)
class TransactionView:
    """One transaction with its legs. `resolved_by`: for a hold, how and by which key it was resolved, if it was."""

    id: int
    key: str
    event: str
    phase: Phase
    effective_at: datetime
    posted_at: datetime
    expires_at: datetime | None
    target: str | None
    resolved_by: tuple[Phase, str] | None
    reversed_by: str | None
    legs: tuple[EntryLine, ...]


_TRANSACTION = """
select x.id, x.key, x.event, x.phase, x.effective_at, x.posted_at, x.expires_at, t.key as target,
       r.phase as resolution, r.key as resolution_key, v.key as reversed_by
  from ledger_transactions x
  left join ledger_transactions t on t.tenant_id = x.tenant_id and t.mode = x.mode and t.id = x.target_id
  left join ledger_transactions r
    on r.tenant_id = x.tenant_id and r.mode = x.mode and r.target_id = x.id and r.phase <> 'reversal'
  left join ledger_transactions v
    on v.tenant_id = x.tenant_id and v.mode = x.mode and v.target_id = x.id and v.phase = 'reversal'
 where x.key = %(key)s
"""


async def transaction(tx: Tx, key: str) -> TransactionView | None:
    """The transaction with that key and what became of it, or None."""
    row = await fetch_one(tx, _TRANSACTION, {"key": key})
    if row is None:
        return None
    legs = tuple(_line(each) for each in await (await tx.execute(_LINES_OF_TRANSACTION, {"key": key})).fetchall())
    resolution, resolution_key = row.pop("resolution"), row.pop("resolution_key")
    resolved_by = (Phase(resolution), resolution_key) if resolution else None
    return TransactionView(**{**row, "phase": Phase(row["phase"])}, resolved_by=resolved_by, legs=legs)
