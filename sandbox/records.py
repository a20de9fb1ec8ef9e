"""Accounts, payments, refunds and instruments as the book keeps them, whatever the provider's wire format.

Amounts are integers in the unit the provider's wire uses; times are whole seconds since the epoch, in the account's
business time. Data of two accounts never meet: every look-up takes the account.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.book import Tx
from sandbox.transfers import TransferLife

Doc = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """A merchant's account with the provider. `clock` is None while it follows real time."""

    secret_key: str
    provider: str
    merchant: str
    webhook_url: str
    webhook_secret: str
    clock: int | None
    seed: Doc | None

    def now(self) -> int:
        """Business time."""
        return int(time.time()) if self.clock is None else self.clock


@dataclass
class Payment:
    """One payment. `doc` holds what only one wire format knows; `due` is the business time of its next own change."""

    id: str
    account: str
    reference: str | None
    amount: int
    currency: str
    status: str
    created: int
    access: str
    captured: int = 0
    refunded: int = 0
    due: int | None = None
    seq: int = 0
    doc: Doc = field(default_factory=dict)


@dataclass
class Refund:
    """One refund. `ready_at` is the real time at which a pending one completes by itself."""

    id: str
    account: str
    payment: int
    amount: int
    status: str
    created: int
    ready_at: float | None = None
    seq: int = 0
    doc: Doc = field(default_factory=dict)


@dataclass
class Instrument:
    """A saved payment method. `kind` is the test method it came from; `decline` makes it refuse from now on."""

    id: str
    account: str
    customer: str | None
    kind: str
    decline: bool = False


def new_id(prefix: str) -> str:
    """A fresh id in the providers' manner: prefix, underscore, 24 characters."""
    return f"{prefix}_{secrets.token_hex(12)}"


def find_account(tx: Tx, secret_key: str, provider: str | None = None) -> Account | None:
    """The account of a secret key, where it exists and is of that provider."""
    row = tx.row("select * from accounts where secret_key = ?", secret_key)
    if row is None or (provider is not None and row["provider"] != provider):
        return None
    return Account(
        row["secret_key"],
        row["provider"],
        row["merchant"],
        row["webhook_url"],
        row["webhook_secret"],
        row["clock"],
        json.loads(row["seed"]) if row["seed"] else None,
    )


def _payment(row: sqlite3.Row | None) -> Payment | None:
    return None if row is None else Payment(**{**dict(row), "doc": json.loads(row["doc"])})


def find_payment(tx: Tx, account: str, payment_id: str) -> Payment | None:
    """A payment by the provider's id."""
    return _payment(tx.row("select * from payments where account = ? and id = ?", account, payment_id))


def find_by_reference(tx: Tx, account: str, reference: str) -> Payment | None:
    """The newest payment with that merchant reference."""
    sql = "select * from payments where account = ? and reference = ? order by seq desc limit 1"
    return _payment(tx.row(sql, account, reference))


def find_by_access(tx: Tx, access: str) -> Payment | None:
    """A payment by its client secret or access code (the payer's credential, so no account)."""
    return _payment(tx.row("select * from payments where access = ?", access))


def payment_of(tx: Tx, refund: Refund) -> Payment:
    """The payment a refund belongs to."""
    payment = _payment(tx.row("select * from payments where seq = ?", refund.payment))
    assert payment is not None, f"refund {refund.id} without its payment"
    return payment


def list_payments(
    tx: Tx, account: str, where: str = "1=1", *args: Any, limit: int = 100, offset: int = 0
) -> list[Payment]:
    """Newest first; `where` is SQL of ours, its values are bound."""
    sql = f"select * from payments where account = ? and {where} order by seq desc limit ? offset ?"  # noqa: S608
    return [p for p in map(_payment, tx.rows(sql, account, *args, limit, offset)) if p is not None]


def payments_due(tx: Tx, account: str, now: int, limit: int = 500) -> list[Payment]:
    """Payments whose own next change has come, in the order in which it came."""
    sql = "select * from payments where account = ? and due is not null and due <= ? order by due, seq limit ?"
    return [p for p in map(_payment, tx.rows(sql, account, now, limit)) if p is not None]


def save_payment(tx: Tx, p: Payment) -> None:
    """Insert or update; fills `seq` on insert."""
    values = (p.reference, p.amount, p.currency, p.status, p.captured, p.refunded, p.due, json.dumps(p.doc))
    if p.seq:
        tx.run(
            "update payments set reference=?, amount=?, currency=?, status=?, captured=?, refunded=?, due=?, doc=? where seq=?",
            *values,
            p.seq,
        )
        return
    p.seq = tx.run(
        "insert into payments (reference, amount, currency, status, captured, refunded, due, doc, id, account, created, access)"
        " values (?,?,?,?,?,?,?,?,?,?,?,?)",
        *values,
        p.id,
        p.account,
        p.created,
        p.access,
    )


def _refund(row: sqlite3.Row | None) -> Refund | None:
    return None if row is None else Refund(**{**dict(row), "doc": json.loads(row["doc"])})


def find_refund(tx: Tx, account: str, refund_id: str) -> Refund | None:
    """A refund by the provider's id."""
    return _refund(tx.row("select * from refunds where account = ? and id = ?", account, refund_id))


def list_refunds(
    tx: Tx, account: str, where: str = "1=1", *args: Any, limit: int = 100, offset: int = 0
) -> list[Refund]:
    """Newest first; `where` is SQL of ours, its values are bound."""
    sql = f"select * from refunds where account = ? and {where} order by seq desc limit ? offset ?"  # noqa: S608
    return [r for r in map(_refund, tx.rows(sql, account, *args, limit, offset)) if r is not None]


def refunds_ready(tx: Tx, now: float, limit: int = 200) -> list[Refund]:
    """Pending refunds of all accounts that complete by now (real time)."""
    sql = "select * from refunds where ready_at is not null and ready_at <= ? order by ready_at, seq limit ?"
    return [r for r in map(_refund, tx.rows(sql, now, limit)) if r is not None]


def save_refund(tx: Tx, r: Refund) -> None:
    """Insert or update; fills `seq` on insert."""
    if r.seq:
        tx.run(
            "update refunds set status=?, ready_at=?, doc=? where seq=?", r.status, r.ready_at, json.dumps(r.doc), r.seq
        )
        return
    r.seq = tx.run(
        "insert into refunds (id, account, payment, amount, status, created, ready_at, doc) values (?,?,?,?,?,?,?,?)",
        r.id,
        r.account,
        r.payment,
        r.amount,
        r.status,
        r.created,
        r.ready_at,
        json.dumps(r.doc),
    )


def find_instrument(tx: Tx, account: str, instrument_id: str) -> Instrument | None:
    """A saved payment method by its id."""
    row = tx.row("select * from instruments where account = ? and id = ?", account, instrument_id)
    return None if row is None else Instrument(row["id"], account, row["customer"], row["kind"], bool(row["decline"]))


def save_instrument(tx: Tx, i: Instrument) -> None:
    """Insert or update."""
    tx.run(
        "insert into instruments (id, account, customer, kind, decline) values (?,?,?,?,?)"
        " on conflict (id) do update set customer=excluded.customer, decline=excluded.decline",
        i.id,
        i.account,
        i.customer,
        i.kind,
        int(i.decline),
    )


@dataclass(frozen=True)
class Provider:
    """The changes a provider makes on its own: `advance` when business time comes, the others when money settles."""

    advance: Callable[[Tx, Account, Payment, int], None]
    settle: Callable[[Tx, Account, Payment, bool], None]
    finish_refund: Callable[[Tx, Account, Refund, bool], None]
    plant: Callable[[Tx, Account, int, str, str | None], Payment]
    transfers: TransferLife | None = None
    """Where the provider sends money out."""
