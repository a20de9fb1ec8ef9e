"""Outgoing webhooks: signed as each provider signs, stored with the effect they report, sent until accepted.

`announce` writes the delivery in the transaction of the effect and applies webhook faults. The `Courier` sends: at most
eight at a time, 5 s timeout, no redirects, then 0.2 s, 1 s, 5 s, 15 s and every 60 s. Deliveries are rows, so a
restarted sandbox sends what the last one owed. The body and event id of a repeat are those of the first attempt; a
Stripe signature carries the real time of each attempt (a business date would look like a replay).
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from typing import Any, Protocol

import httpx

from sandbox.book import Book, Tx
from sandbox.faults import Fault, Target, pick
from sandbox.records import Account, find_account, new_id

logger = logging.getLogger("sandbox.webhooks")
RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
LAST_RETRY_SECONDS = 60.0
MAX_ATTEMPTS = 60
IN_FLIGHT = 8
_AFTER_ANSWER = 0.03  # a webhook normally leaves just after the API answer that caused it
_HELD_AT_MOST = 10.0  # a "reorder" without a next event is sent after all


def stripe_signature(secret: str, body: bytes, timestamp: int) -> str:
    """The value of `Stripe-Signature`."""
    signed = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def paystack_signature(secret_key: str, body: bytes) -> str:
    """The value of `x-paystack-signature`."""
    return hmac.new(secret_key.encode(), body, hashlib.sha512).hexdigest()


class Subject(Protocol):
    """What an event is about: a payment or a transfer."""

    @property
    def id(self) -> str:
        """The provider's own id."""

    @property
    def reference(self) -> str | None:
        """The merchant's reference."""

    @property
    def amount(self) -> int:
        """The amount, in the wire's unit."""


def announce(tx: Tx, account: Account, subject: Subject, event_id: str, kind: str, body: dict[str, Any]) -> None:
    """Owe the merchant one event about `subject`."""
    if not account.webhook_url:
        return
    fault = pick(tx, account, "webhook", Target(subject.reference, subject.amount, subject.id, kind))
    raw = json.dumps(body, separators=(",", ":"))
    now = time.time()
    state, next_at = "due", now + _AFTER_ANSWER
    if fault.kind == "drop":
        state = "dropped"
    elif fault.kind == "late":
        next_at = now + fault.seconds
    elif fault.kind == "reorder":
        state, next_at = "held", now + _HELD_AT_MOST
    elif fault.kind == "early":
        next_at = now
    delivery = _insert(tx, account, event_id, kind, subject.reference, raw, state, next_at)
    if fault.kind == "early":
        tx.early.append(delivery)
    if state != "held":
        sql = "update deliveries set state='due', next_at=?, after_id=? where account=? and state='held' and id < ?"
        tx.run(sql, now, delivery if state == "due" else None, account.secret_key, delivery)
    _extra_copies(tx, account, subject, fault, (event_id, kind, raw), next_at)


def _extra_copies(
    tx: Tx, account: Account, subject: Subject, fault: Fault, event: tuple[str, str, str], at: float
) -> None:
    event_id, kind, raw = event
    if fault.kind == "duplicate":
        for _ in range(int(fault.params.get("n", 1))):
            _insert(tx, account, event_id, kind, subject.reference, raw, "due", at)
    elif fault.kind == "forged":
        forged_id = new_id("evt_forged")
        fake = raw.replace(event_id, forged_id)
        _insert(tx, account, forged_id, kind, subject.reference, fake, "due", at, forged=1)


def _insert(
    tx: Tx, account: Account, event_id: str, kind: str, reference: str | None, raw: str, state: str, next_at: float,
    forged: int = 0,
) -> int:  # fmt: skip
    return tx.run(
        "insert into deliveries (account, event_id, kind, reference, body, state, next_at, forged) values (?,?,?,?,?,?,?,?)",
        account.secret_key, event_id, kind, reference, raw, state, next_at, forged,
    )  # fmt: skip


def headers(account: Account, raw: bytes, *, forged: bool) -> dict[str, str]:
    """Content type and the provider's signature; a forged event is signed with a secret nobody has."""
    common = {"Content-Type": "application/json", "User-Agent": f"{account.provider}-sandbox/1"}
    if account.provider == "stripe":
        secret = "whsec_forged" if forged else account.webhook_secret
        return {**common, "Stripe-Signature": stripe_signature(secret, raw, int(time.time()))}
    return {**common, "x-paystack-signature": paystack_signature("sk_forged" if forged else account.secret_key, raw)}


class Courier:
    """The task that delivers. `wake` tells it that the book may hold something new."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._wake = asyncio.Event()
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._client = httpx.AsyncClient(timeout=5.0, follow_redirects=False, trust_env=False)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._deliver_for_ever(), name="sandbox-courier")

    async def stop(self) -> None:
        """Stop; what is owed stays in the book."""
        tasks = [t for t in (self._task, *self._flying.values()) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def wake(self) -> None:
        """Look at the book now."""
        self._wake.set()

    async def deliver_first(self, ids: list[int]) -> None:
        """Make the first attempt of these deliveries and return when each has been tried (fault "early")."""
        for number in ids:
            await asyncio.shield(self._send(number))

    async def _deliver_for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                ids, wait = await self._book.run(self._next_due)
            except asyncio.CancelledError:
                raise
            except Exception:
                logger.exception("courier could not read the book")
                ids, wait = [], 1.0
            for number in ids:
                self._send(number)
            try:
                await asyncio.wait_for(self._wake.wait(), timeout=wait)
            except TimeoutError:
                continue

    def _next_due(self, tx: Tx) -> tuple[list[int], float]:
        """Ids to send now, and how long until the book should be read again."""
        free = IN_FLIGHT - len(self._flying)
        now = time.time()
        rows = tx.rows(
            "select id, next_at from deliveries d where state in ('due', 'held') and (after_id is null or next_at < ?"
            " or exists (select 1 from deliveries b where b.id = d.after_id and b.attempts > 0)) order by next_at limit ?",
            now - _HELD_AT_MOST,
            IN_FLIGHT * 2 + 1,
        )
        waiting = [row for row in rows if row["id"] not in self._flying]
        due = [row["id"] for row in waiting if row["next_at"] <= now]
        later = [row["next_at"] - now for row in waiting if row["next_at"] > now]
        # With every slot taken, the end of a delivery wakes the loop.
        return due[: max(free, 0)], min([1.0, *later]) if len(due) <= free else 1.0

    def _send(self, number: int) -> "asyncio.Task[None]":
        task = self._flying.get(number)
        if task is None:
            task = asyncio.create_task(self._attempt(number), name=f"sandbox-webhook-{number}")
            self._flying[number] = task
            task.add_done_callback(lambda _: self._landed(number))
        return task

    def _landed(self, number: int) -> None:
        self._flying.pop(number, None)
        self.wake()

    async def _attempt(self, number: int) -> None:
        def load(tx: Tx) -> tuple[Any, Account] | None:
            row = tx.row("select * from deliveries where id = ? and state in ('due', 'held')", number)
            account = find_account(tx, row["account"]) if row is not None else None
            return None if row is None or account is None else (row, account)

        loaded = await self._book.run(load)
        if loaded is None:
            return
        row, account = loaded
        raw = row["body"].encode()
        started = time.time()
        try:
            answer = await self._client.post(
                account.webhook_url, content=raw, headers=headers(account, raw, forged=bool(row["forged"]))
            )
            outcome = str(answer.status_code)
            accepted = answer.is_success
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            outcome, accepted = type(error).__name__, False
        note = {"at": round(started, 3), "outcome": outcome}
        await self._book.run(lambda tx: _record(tx, number, note, accepted))


def _record(tx: Tx, number: int, note: dict[str, Any], accepted: bool) -> None:
    """Write one attempt down and decide on the next."""
    row = tx.row("select attempts, log, forged from deliveries where id = ?", number)
    assert row is not None
    attempts = row["attempts"] + 1
    if accepted:
        state = "delivered"
    elif row["forged"] and note["outcome"].isdigit():
        state = "refused"  # the answer a forged event should get; repeating it proves nothing more
    else:
        state = "due" if attempts < MAX_ATTEMPTS else "given_up"
    pause = RETRY_SECONDS[attempts - 1] if attempts <= len(RETRY_SECONDS) else LAST_RETRY_SECONDS
    log = json.dumps([*json.loads(row["log"]), note][-20:])
    tx.run(
        "update deliveries set attempts=?, log=?, state=?, next_at=? where id=?",
        attempts,
        log,
        state,
        time.time() + pause,
        number,
    )
