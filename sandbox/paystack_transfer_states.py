"""The life of a Paystack transfer.

    pending     queued; its amount has left the balance. Sent a moment later in real time, unless the account is slow
    otp         waits for a one-time password; half an hour later in business time: abandoned
    success     may still be reversed
    failed, reversed, abandoned   the amount is in the balance again

The number of the recipient's account decides (`paystack_banks`), or fault "decline" (fails) or "requires_action" (otp).
"""

import time

from sandbox import paystack_banks as banks
from sandbox import paystack_objects as wire
from sandbox import paystack_transfer_objects as objects
from sandbox.book import Tx
from sandbox.faults import Fault, wrong
from sandbox.records import Account, new_id
from sandbox.transfers import Recipient, Transfer, TransferLife, balances, save_transfer

DAY = 86_400
PASSWORD_LIFE = 1800
SEND_SECONDS = 0.3
_UNDECIDED = frozenset({"pending", "otp"})


def require_balance(tx: Tx, account: Account, currency: str, amount: int) -> None:
    """Raises Refusal where the account holds less than that."""
    if balances(tx, account.secret_key).get(currency, 0) < amount:
        next_step = "Top up your balance, or wait for payments to be settled"
        raise wire.refusal(400, "Your balance is not enough to fulfil this request", "insufficient_balance", next_step)


def start(tx: Tx, account: Account, to: Recipient, asked: tuple[str, int, str | None], fault: Fault) -> Transfer:
    """Take the amount out of the balance and queue the transfer. `asked` is reference, amount and reason."""
    reference, amount, reason = asked
    amount = wrong(amount, fault)
    fate = "decline" if fault.kind == "decline" else to.number[:4]
    t = Transfer(
        new_id("TRF"), account.secret_key, to.seq, reference, amount, to.currency, "pending", account.now(), amount
    )  # fmt: skip
    t.doc = {"reason": reason, "fate": fate, "changed": t.created}
    if fault.kind == "requires_action" or fate == banks.PASSWORD:
        t.status, t.due = "otp", t.created + PASSWORD_LIFE
    elif fate != banks.PENDING:
        t.ready_at = time.time() + SEND_SECONDS
    save_transfer(tx, t)
    return t


def send(tx: Tx, account: Account, t: Transfer) -> None:
    """A queued transfer reaches the bank."""
    _end(tx, account, t, "failed" if t.doc["fate"] in ("decline", banks.FAILS) else "success", account.now())


def advance(tx: Tx, account: Account, t: Transfer, at: int) -> None:
    """What happens when a transfer's own time has come."""
    _end(tx, account, t, "abandoned" if t.status == "otp" else "reversed", at)


def finish(tx: Tx, account: Account, t: Transfer, outcome: str) -> None:
    """Somebody decides: an undecided transfer succeeds or fails, a successful one is returned."""
    status = {"succeeded": "success", "failed": "failed", "returned": "reversed"}.get(outcome)
    if status is None:
        raise ValueError("outcome of a transfer is succeeded, failed or returned")
    if (t.status not in _UNDECIDED) if status != "reversed" else (t.status != "success"):
        raise ValueError(f"transfer {t.reference} is {t.status}: it cannot be {outcome}")
    _end(tx, account, t, status, account.now())


def _end(tx: Tx, account: Account, t: Transfer, status: str, at: int) -> None:
    t.status, t.due, t.ready_at = status, None, None
    t.doc["changed"] = at
    if status != "success":
        t.taken = 0
    elif t.doc["fate"] == banks.RETURNED:
        t.due = at + DAY
    save_transfer(tx, t)
    if status != "abandoned":  # Paystack has no event for it
        objects.transfer_event(tx, account, t)


LIFE = TransferLife(advance=advance, send=send, finish=finish)
