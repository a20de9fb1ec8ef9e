"""The life of a Paystack transaction and its refunds.

    open        initialized, page not used yet          on the wire: abandoned
    ongoing     the payer opened the page
    pending     paid by bank transfer, decided two days later in business time
    success, failed, reversed (wholly refunded)
    closed      a day old and unpaid: the page takes no more money, on the wire: abandoned

Refunds go pending → processed by themselves a moment later (real time); after fault "decline" they go pending → failed.
"""

import time

from sandbox import paystack_objects as wire
from sandbox.book import Tx
from sandbox.faults import Fault, wrong
from sandbox.paystack_transfer_states import LIFE
from sandbox.records import (
    Account,
    Instrument,
    Payment,
    Provider,
    Refund,
    new_id,
    payment_of,
    save_instrument,
    save_payment,
    save_refund,
)

DAY = 86_400
SESSION = DAY
SLOW_MONEY = 2 * DAY
REFUND_SECONDS = 0.3
PAYABLE = frozenset({"open", "ongoing"})


def begin(account: Account, reference: str, amount: int, currency: str, email: str) -> Payment:
    """A new transaction, not yet saved."""
    now = account.now()
    p = Payment(new_id("trx"), account.secret_key, reference, amount, currency, "open", now, new_id("acc")[4:])
    p.due = now + SESSION
    p.doc = {"email": email, "requested_amount": amount}
    return p


def opened(tx: Tx, p: Payment) -> None:
    """The payer looks at the page."""
    if p.status == "open":
        p.status = "ongoing"
        save_payment(tx, p)


def pay(tx: Tx, account: Account, p: Payment, channel: str = "card") -> None:
    """The payer pays on the page. "bank_transfer" is slow money. Nothing happens unless the page is still payable."""
    if p.status not in PAYABLE:
        return
    p.doc["channel"] = channel
    if p.doc.get("next_outcome") == "decline":
        decline(tx, p)
    elif channel == "bank_transfer":
        p.status, p.due = "pending", account.now() + SLOW_MONEY
        save_payment(tx, p)
    else:
        _succeed(tx, account, p, account.now())


def charge(tx: Tx, account: Account, p: Payment, instrument: Instrument, declined: bool) -> None:
    """Charge a saved authorization; succeeds or fails at once."""
    p.doc["authorization_code"] = instrument.id
    if declined or instrument.decline:
        decline(tx, p)
    else:
        _succeed(tx, account, p, account.now())


def decline(tx: Tx, p: Payment) -> None:
    """The charge failed. Paystack sends no event for it."""
    p.status, p.due = "failed", None
    p.doc["message"] = "Declined"
    save_payment(tx, p)


def _succeed(tx: Tx, account: Account, p: Payment, at: int) -> None:
    p.status, p.due, p.captured = "success", None, p.amount
    p.doc["paid_at"] = at
    if "authorization_code" not in p.doc:
        p.doc["authorization_code"] = "AUTH_" + new_id("a")[-10:]
    save_instrument(tx, Instrument(p.doc["authorization_code"], account.secret_key, p.doc["email"], "card"))
    save_payment(tx, p)
    wire.charge_success(tx, account, p)


def refund(tx: Tx, account: Account, p: Payment, asked: tuple[int | None, wire.Wire], fault: Fault) -> Refund:
    """Give money back. `asked` is the amount (None: all that is left) and the notes. Raises Refusal beyond what is left."""
    amount, notes = asked
    left = p.captured - p.refunded
    if p.captured == 0:
        raise wire.refusal(400, "Transaction has not been paid for", "invalid_transaction")
    if left <= 0:
        raise wire.refusal(400, "Transaction has been fully reversed", "transaction_reversed")
    wanted = left if amount is None else amount
    if wanted > left:
        raise wire.refusal(
            400, "Refund amount cannot be more than the amount left of the transaction", "invalid_amount"
        )
    wanted = min(left, wrong(wanted, fault))
    r = Refund(new_id("TRF"), account.secret_key, p.seq, wanted, "pending", account.now(), time.time() + REFUND_SECONDS)
    r.doc = {**notes, "will_fail": fault.kind == "decline"}
    save_refund(tx, r)
    p.refunded += wanted
    save_payment(tx, p)
    wire.refund_event(tx, account, r, p)
    return r


def advance(tx: Tx, account: Account, p: Payment, at: int) -> None:
    """What happens when a transaction's own time has come."""
    if p.status == "pending":
        _succeed(tx, account, p, at)
        return
    if p.status in PAYABLE:
        p.status = "closed"
    p.due = None
    save_payment(tx, p)


def settle(tx: Tx, account: Account, p: Payment, paid: bool) -> None:
    """Decide slow money."""
    if p.status != "pending":
        raise ValueError(f"payment {p.reference} is {wire.wire_status(p)}, not pending")
    if paid:
        _succeed(tx, account, p, account.now())
    else:
        decline(tx, p)


def finish_refund(tx: Tx, account: Account, r: Refund, paid: bool) -> None:
    """Complete a pending refund, or fail it and keep the money."""
    if r.status != "pending":
        raise ValueError(f"refund {wire.refund_number(r)} is {r.status}, not pending")
    p = payment_of(tx, r)
    r.status, r.ready_at = "processed" if paid else "failed", None
    save_refund(tx, r)
    if not paid:
        p.refunded -= r.amount
    elif p.refunded >= p.captured:
        p.status = "reversed"
    save_payment(tx, p)
    wire.refund_event(tx, account, r, p)


def plant(tx: Tx, account: Account, amount: int, currency: str, reference: str | None) -> Payment:
    """A successful transaction nobody asked for: books it silently, for auditors to find."""
    p = begin(account, reference or new_id("T")[2:], amount, currency.upper(), "stranger@example.test")
    p.status, p.due, p.captured = "success", None, amount
    p.doc["paid_at"] = account.now()
    save_payment(tx, p)
    return p


PROVIDER = Provider(advance=advance, settle=settle, finish_refund=finish_refund, plant=plant, transfers=LIFE)
