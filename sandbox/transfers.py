"""Money out, as the book keeps it: recipients, transfers, and the balance they are paid from.

Units as in `records`. A balance is moved by the rows themselves (`book.BALANCES`): up by charges and top-ups, down by refunds
and transfers. Nothing is ever paid on to a bank account of the merchant's, as the real providers do every day.
"""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.book import Tx

if TYPE_CHECKING:  # records knows the life of transfers, by `Provider`
    from sandbox.records import Account

Doc = dict[str, Any]


@dataclass(frozen=True)
class Recipient:
    """An account that was named to the provider. `kind` is the wire's type, `number` decides what becomes of a transfer."""

    id: str
    account: str
    kind: str
    name: str
    number: str
    bank: str
    currency: str
    created: int
    seq: int = 0


@dataclass
class Transfer:
    """One transfer. `taken` is what it takes out of the balance as it stands; `due` is the business time of its next own
    change, `ready_at` the real time at which it is sent by itself."""

    id: str
    account: str
    recipient: int
    reference: str
    amount: int
    currency: str
    status: str
    created: int
    taken: int = 0
    due: int | None = None
    ready_at: float | None = None
    seq: int = 0
    doc: Doc = field(default_factory=dict)


@dataclass(frozen=True)
class TransferLife:
    """The changes a provider makes to a transfer: `advance` when business time comes, `send` when real time does, `finish`
    when somebody decides (succeeded, failed, returned; ValueError where that cannot follow)."""

    advance: Callable[[Tx, "Account", Transfer, int], None]
    send: Callable[[Tx, "Account", Transfer], None]
    finish: Callable[[Tx, "Account", Transfer, str], None]


def _recipient(row: sqlite3.Row | None) -> Recipient | None:
    return None if row is None else Recipient(**dict(row))


def find_recipient(tx: Tx, account: str, code: str) -> Recipient | None:
    """A recipient by its code."""
    return _recipient(tx.row("select * from recipients where account = ? and id = ?", account, code))


def recipient_of(tx: Tx, transfer: Transfer) -> Recipient:
    """Whom a transfer goes to."""
    found = _recipient(tx.row("select * from recipients where seq = ?", transfer.recipient))
    assert found is not None, f"transfer {transfer.id} without its recipient"
    return found


def save_recipient(tx: Tx, r: Recipient) -> Recipient:
    """The recipient as the book has it: an earlier one for the same account stays as it was."""
    same = (r.account, r.kind, r.bank, r.number, r.currency)
    tx.run(
        "insert into recipients (account, kind, bank, number, currency, id, name, created) values (?,?,?,?,?,?,?,?)"
        " on conflict (account, kind, bank, number, currency) do nothing",
        *same, r.id, r.name, r.created,
    )  # fmt: skip
    sql = "select * from recipients where account = ? and kind = ? and bank = ? and number = ? and currency = ?"
    found = _recipient(tx.row(sql, *same))
    assert found is not None
    return found


def _transfer(row: sqlite3.Row | None) -> Transfer | None:
    return None if row is None else Transfer(**{**dict(row), "doc": json.loads(row["doc"])})


def find_transfer(tx: Tx, account: str, named: str) -> Transfer | None:
    """A transfer by its code or by the merchant's reference."""
    sql = "select * from transfers where account = ? and (id = ? or reference = ?)"
    return _transfer(tx.row(sql, account, named, named))


def list_transfers(
    tx: Tx, account: str, where: str = "1=1", *args: Any, limit: int = 100, offset: int = 0
) -> list[Transfer]:
    """Newest first; `where` is SQL of ours, its values are bound. The pages before are passed over in the index alone."""
    page = f"select seq from transfers where account = ? and {where} order by seq desc limit ? offset ?"  # noqa: S608
    sql = f"select * from transfers where seq in ({page}) order by seq desc"  # noqa: S608
    return [t for t in map(_transfer, tx.rows(sql, account, *args, limit, offset)) if t is not None]


def transfers_due(tx: Tx, account: str, now: int, limit: int = 500) -> list[Transfer]:
    """Transfers whose own next change has come in business time, in the order in which it came."""
    sql = "select * from transfers where account = ? and due is not null and due <= ? order by due, seq limit ?"
    return [t for t in map(_transfer, tx.rows(sql, account, now, limit)) if t is not None]


def transfers_ready(tx: Tx, now: float, limit: int = 500) -> list[Transfer]:
    """Transfers of all accounts that are sent by now (real time)."""
    sql = "select * from transfers where ready_at is not null and ready_at <= ? order by ready_at, seq limit ?"
    return [t for t in map(_transfer, tx.rows(sql, now, limit)) if t is not None]


def save_transfer(tx: Tx, t: Transfer) -> None:
    """Insert or update; fills `seq` on insert."""
    values = (t.status, t.taken, t.due, t.ready_at, json.dumps(t.doc))
    if t.seq:
        tx.run("update transfers set status=?, taken=?, due=?, ready_at=?, doc=? where seq=?", *values, t.seq)
        return
    t.seq = tx.run(
        "insert into transfers (status, taken, due, ready_at, doc, id, account, recipient, reference, amount, currency, created)"
        " values (?,?,?,?,?,?,?,?,?,?,?,?)",
        *values, t.id, t.account, t.recipient, t.reference, t.amount, t.currency, t.created,
    )  # fmt: skip


def balances(tx: Tx, account: str) -> dict[str, int]:
    """What the account holds, by currency. Below zero where a refund took what had been paid out already."""
    rows = tx.rows("select currency, amount from balances where account = ? order by currency", account)
    return {row["currency"]: row["amount"] for row in rows}


def top_up(tx: Tx, account: str, currency: str, amount: int, at: int) -> None:
    """The merchant pays money of his own into the account."""
    sql = "insert into topups (account, currency, amount, created) values (?,?,?,?)"
    tx.run(sql, account, currency, amount, at)
