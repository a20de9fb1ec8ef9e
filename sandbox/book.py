"""The provider's own durable book: one SQLite file, one writer thread, group commit.

Everything the sandbox promises is here before it is promised: an answer leaves only after the commit that holds its
effect (WAL), so `kill -9` at any moment loses nothing that was answered; only a power cut could, and that takes the tests
down as well. All work, reads included, runs on one thread and is therefore serial; work that queues up while a commit is
under way shares the next commit.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_BATCH = 64

SCHEMA = """
create table if not exists accounts (
    secret_key text primary key, provider text not null, merchant text not null, webhook_url text not null,
    webhook_secret text not null, clock integer, seed text, created integer not null);
create table if not exists payments (
    seq integer primary key autoincrement, id text not null unique, account text not null references accounts,
    reference text, amount integer not null, currency text not null, status text not null,
    captured integer not null, refunded integer not null, created integer not null, due integer,
    access text not null unique, doc text not null);
create index if not exists payments_by_reference on payments (account, reference);
create index if not exists payments_by_account on payments (account);
create index if not exists payments_by_due on payments (account, due) where due is not null;
create index if not exists payments_by_status on payments (account, status);
create table if not exists refunds (
    seq integer primary key autoincrement, id text not null unique, account text not null references accounts,
    payment integer not null references payments, amount integer not null, status text not null,
    created integer not null, ready_at real, doc text not null);
create index if not exists refunds_by_account on refunds (account);
create index if not exists refunds_by_payment on refunds (payment);
create index if not exists refunds_by_ready on refunds (ready_at) where ready_at is not null;
create table if not exists customers (id text primary key, account text not null, created integer not null, doc text not null);
create table if not exists instruments (
    id text primary key, account text not null, customer text, kind text not null, decline integer not null default 0);
create table if not exists idempotency (
    account text not null, key text not null, fingerprint text not null, status integer not null, body text not null,
    primary key (account, key));
create table if not exists faults (
    id integer primary key autoincrement, account text not null, operation text not null, kind text not null,
    times integer not null, fired integer not null default 0, params text not null, match text not null);
create table if not exists calls (
    account text not null, operation text not null, reference text not null, n integer not null,
    primary key (account, operation, reference));
create table if not exists deliveries (
    id integer primary key autoincrement, account text not null, event_id text not null, kind text not null,
    reference text, body text not null, forged integer not null default 0, state text not null,
    next_at real not null, after_id integer, attempts integer not null default 0, log text not null default '[]');
create index if not exists deliveries_by_due on deliveries (next_at) where state in ('due', 'held');
create index if not exists deliveries_held on deliveries (account, id) where state = 'held';
create table if not exists recipients (
    seq integer primary key autoincrement, id text not null unique, account text not null references accounts,
    kind text not null, name text not null, number text not null, bank text not null, currency text not null,
    created integer not null, unique (account, kind, bank, number, currency));
create table if not exists transfers (
    seq integer primary key autoincrement, id text not null unique, account text not null references accounts,
    recipient integer not null references recipients, reference text not null, amount integer not null,
    currency text not null, status text not null, taken integer not null, created integer not null, due integer,
    ready_at real, doc text not null, unique (account, reference));
create index if not exists transfers_listed on transfers (account, seq, created, status, recipient);
create index if not exists transfers_by_due on transfers (account, due) where due is not null;
create index if not exists transfers_by_ready on transfers (ready_at) where ready_at is not null;
create table if not exists topups (
    seq integer primary key autoincrement, account text not null references accounts, currency text not null,
    amount integer not null, created integer not null);
create table if not exists balances (
    account text not null, currency text not null, amount integer not null, primary key (account, currency))
    without rowid;
create table if not exists mails (
    id integer primary key autoincrement, sender text not null, recipients text not null, subject text not null,
    text text not null, html text not null, message_id text not null, received_at text not null);
"""
BALANCES = """
create trigger if not exists payment_made after insert on payments when new.captured <> new.refunded begin
    insert into balances values (new.account, new.currency, new.captured - new.refunded)
    on conflict do update set amount = amount + excluded.amount; end;
create trigger if not exists payment_moved after update of captured, refunded on payments
    when new.captured - new.refunded <> old.captured - old.refunded begin
    insert into balances values (new.account, new.currency, new.captured - new.refunded - old.captured + old.refunded)
    on conflict do update set amount = amount + excluded.amount; end;
create trigger if not exists transfer_made after insert on transfers begin
    insert into balances values (new.account, new.currency, -new.taken)
    on conflict do update set amount = amount + excluded.amount; end;
create trigger if not exists transfer_moved after update of taken on transfers when new.taken <> old.taken begin
    insert into balances values (new.account, new.currency, old.taken - new.taken)
    on conflict do update set amount = amount + excluded.amount; end;
create trigger if not exists topped_up after insert on topups begin
    insert into balances values (new.account, new.currency, new.amount)
    on conflict do update set amount = amount + excluded.amount; end;
insert into balances select account, currency, sum(captured - refunded) from payments where true group by 1, 2
    on conflict do nothing;
"""
"""What each account holds: charges and top-ups, less refunds and transfers. Kept by triggers, so whoever writes a row moves
it (bulk seeds too), and no transfer has to add up a hundred thousand payments. The last statement begins the balances of a
book that is older than they are."""


@dataclass
class Tx:
    """One unit of work on the writer thread. `early` collects deliveries that must leave before the API answer does."""

    db: sqlite3.Connection
    early: list[int] = field(default_factory=list)

    def rows(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        return self.db.execute(sql, args).fetchall()

    def row(self, sql: str, *args: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        found: sqlite3.Row | None = self.db.execute(sql, args).fetchone()
        return found

    def run(self, sql: str, *args: Any) -> int:
        """Execute a statement; the id of the inserted row, where one was inserted."""
        return self.db.execute(sql, args).lastrowid or 0


@dataclass
class _Job(Generic[T]):
    work: Callable[[Tx], T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    result: T | None = None
    error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


class Book:
    """The file and its writer thread. `run(work)` is the only door."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Create the file and tables where missing, and start the writer thread."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.execute("pragma foreign_keys=on")
        db.executescript(SCHEMA)
        db.executescript(BALANCES)
        self._thread = threading.Thread(target=self._write_until_closed, args=(db,), name="sandbox-book", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the queued work and close the file."""
        self._jobs.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 10)

    async def run(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction and answer after its commit. An exception rolls back this work alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        return await future

    def _write_until_closed(self, db: sqlite3.Connection) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                db.close()
                return
            batch, closing = [job], False
            while len(batch) < _BATCH and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    closing = True
                    break
                batch.append(more)
            _commit_together(db, batch)
            for done in batch:
                try:
                    done.loop.call_soon_threadsafe(done.resolve)
                except RuntimeError:  # the loop that asked is gone; its effect is in the book all the same
                    continue
            if closing:
                db.close()
                return


def _commit_together(db: sqlite3.Connection, batch: list[_Job[Any]]) -> None:
    """Run each job under its own savepoint and commit once; a failed commit fails every job of the batch."""
    try:
        db.execute("begin immediate")
        for job in batch:
            db.execute("savepoint job")
            try:
                job.result = job.work(Tx(db))
            except Exception as error:  # noqa: BLE001  handed to the caller, who awaits it
                db.execute("rollback to job")
                job.error = error
            db.execute("release job")
        db.execute("commit")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("rollback")
        for job in batch:
            job.error = error
