"""The life of a Stripe PaymentIntent and its refunds: confirm, authenticate, capture, cancel, lapse, settle, refund.

Test payment methods (as in Stripe's own test mode, and `pm_bank_*` for money that takes days):

    pm_card_visa, pm_card_mastercard            succeed
    pm_card_chargeDeclined…                     402 card_error
    pm_card_authenticationRequired              requires_action; off_session: 402 authentication_required
    pm_bank_slow, pm_bank_slow_fail             processing, decided two days later in business time

A method that was used successfully with `setup_future_usage` belongs to a customer (made when none was named) and may
be charged off session under its durable `pm_…` id.
"""

import json
import time
from dataclasses import dataclass

from sandbox import stripe_objects as wire
from sandbox.answers import Answer
from sandbox.book import Tx
from sandbox.faults import NONE, Fault, wrong
from sandbox.records import (
    Account,
    Instrument,
    Payment,
    Provider,
    Refund,
    find_instrument,
    new_id,
    payment_of,
    save_instrument,
    save_payment,
    save_refund,
)

DAY = 86_400
AUTHORIZATION_LIFETIME = 7 * DAY
SLOW_MONEY = 2 * DAY
BANK_REFUND_SECONDS = 0.3
TEST_METHODS = {
    "pm_card_visa": "ok",
    "pm_card_mastercard": "ok",
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
    "pm_card_authenticationRequired": "action",
    "pm_bank_slow": "slow",
    "pm_bank_slow_fail": "slow",
}


@dataclass(frozen=True)
class Confirmation:
    """What a confirmation brings: the method, and where the payer comes from and goes back to."""

    method: str
    base_url: str
    return_url: str | None = None
    off_session: bool = False


def confirm(tx: Tx, account: Account, p: Payment, how: Confirmation, fault: Fault = NONE) -> Answer:
    """Try to pay. Raises Refusal when the status or the method does not allow an attempt at all."""
    if p.status not in {"requires_payment_method", "requires_confirmation", "requires_action"}:
        raise wire.unexpected_state(p, "confirmed", "requires_payment_method, requires_confirmation, requires_action")
    instrument = _instrument(tx, account, p, how.method)
    p.amount = wrong(p.amount, fault)
    p.doc.update(payment_method=instrument.id, kind=instrument.kind, last_payment_error=None)
    if how.return_url:
        p.doc["return_url"] = how.return_url
    save_instrument(tx, instrument)
    forced = fault.kind if fault.kind in {"decline", "requires_action"} else p.doc.pop("next_outcome", None)
    outcome = "generic_decline" if instrument.decline else TEST_METHODS.get(instrument.kind, "ok")
    outcome = {"decline": "generic_decline", "requires_action": "action", None: outcome}[forced]
    if outcome == "action" and how.off_session:
        outcome = "authentication_required"
    now = account.now()
    if outcome == "ok":
        authorize(tx, account, p, now)
    elif outcome == "slow":
        _charge(p, now)
        p.status, p.due = "processing", now + SLOW_MONEY
        save_payment(tx, p)
        _tell(tx, account, p, "payment_intent.processing", now)
    elif outcome == "action":
        p.status = "requires_action"
        p.doc["action_url"] = f"{how.base_url}stripe/3ds/{p.id}"
        save_payment(tx, p)
        _tell(tx, account, p, "payment_intent.requires_action", now)
    else:
        decline(tx, account, p, outcome, now)
        return wire.card_declined(p)
    return Answer(200, wire.payment_intent(p))


def _instrument(tx: Tx, account: Account, p: Payment, method: str) -> Instrument:
    """A fresh instrument for a test token, or the saved one. Raises Refusal for one that may not be used."""
    if method in TEST_METHODS:
        return Instrument(new_id("pm"), account.secret_key, p.doc.get("customer"), method)
    saved = find_instrument(tx, account.secret_key, method)
    if saved is None:
        raise wire.missing("PaymentMethod", method, "payment_method")
    if saved.id == p.doc.get("payment_method") and "kind" in p.doc:  # another attempt with the same method
        return saved
    if not saved.customer:
        raise wire.invalid("This PaymentMethod was previously used without being attached to a Customer.")
    if p.doc.get("customer") != saved.customer:
        raise wire.invalid(
            "The provided PaymentMethod does not belong to the Customer of this PaymentIntent.", param="customer"
        )
    return saved


def authorize(tx: Tx, account: Account, p: Payment, now: int) -> None:
    """The money is held (manual capture) or taken."""
    _charge(p, now)
    _save_method(tx, account, p, now)
    if p.doc["capture_method"] == "manual":
        p.status, p.due = "requires_capture", now + AUTHORIZATION_LIFETIME
        save_payment(tx, p)
        _tell(tx, account, p, "payment_intent.amount_capturable_updated", now)
        return
    p.status, p.due, p.captured = "succeeded", None, p.amount
    save_payment(tx, p)
    _tell(tx, account, p, "payment_intent.succeeded", now)


def _charge(p: Payment, now: int) -> None:
    p.doc.update(latest_charge=new_id("ch"), charged_at=now)


def _save_method(tx: Tx, account: Account, p: Payment, now: int) -> None:
    """Keep the method for later, where the merchant asked for it."""
    instrument = find_instrument(tx, account.secret_key, p.doc["payment_method"])
    if instrument is None:
        return
    if p.doc.get("setup_future_usage"):
        if not p.doc.get("customer"):
            p.doc["customer"] = new_customer(tx, account, {"email": p.doc.get("receipt_email")}, now)["id"]
        instrument.customer = p.doc["customer"]
    if TEST_METHODS.get(instrument.kind) == "action":
        instrument.kind = "authenticated"  # authenticated once: later charges off session go through
    save_instrument(tx, instrument)


def new_customer(tx: Tx, account: Account, doc: wire.Wire, now: int) -> wire.Wire:
    """Record a customer and return it as on the wire."""
    customer_id = new_id("cus")
    tx.run("insert into customers values (?,?,?,?)", customer_id, account.secret_key, now, json.dumps(doc))
    return wire.customer(customer_id, now, doc)


def decline(tx: Tx, account: Account, p: Payment, reason: str, now: int) -> None:
    """The attempt failed for good; the PaymentIntent waits for another method."""
    _charge(p, now)
    p.status, p.due = "requires_payment_method", None
    p.doc["last_payment_error"] = wire.payment_error(p, reason)
    p.doc["payment_method"] = None
    save_payment(tx, p)
    _tell(tx, account, p, "payment_intent.payment_failed", now)


def authenticate(tx: Tx, account: Account, p: Payment, passed: bool) -> None:
    """The payer's answer on the 3-D Secure page; nothing happens unless it is awaited."""
    if p.status != "requires_action":
        return
    if passed:
        authorize(tx, account, p, account.now())
    else:
        decline(tx, account, p, "payment_intent_authentication_failure", account.now())


def capture(tx: Tx, account: Account, p: Payment, amount: int | None, fault: Fault) -> Answer:
    """Take held money, once; what is not taken is released."""
    if p.status != "requires_capture":
        raise wire.unexpected_state(p, "captured", "requires_capture")
    wanted = p.amount if amount is None else amount
    if wanted > p.amount:
        message = f"The requested amount to capture ({wanted}) is greater than the amount capturable ({p.amount})."
        raise wire.invalid(message, code="amount_too_large", param="amount_to_capture")
    now = account.now()
    if fault.kind == "decline":
        decline(tx, account, p, "generic_decline", now)
        return wire.card_declined(p)
    p.status, p.due, p.captured = "succeeded", None, wrong(wanted, fault)
    save_payment(tx, p)
    _tell(tx, account, p, "payment_intent.succeeded", now)
    return Answer(200, wire.payment_intent(p))


def cancel(tx: Tx, account: Account, p: Payment, reason: str | None, at: int) -> Answer:
    """Release the payment before capture."""
    allowed = {"requires_payment_method", "requires_capture", "requires_confirmation", "requires_action"}
    if p.status not in allowed:
        raise wire.unexpected_state(p, "canceled", ", ".join(sorted(allowed)))
    p.status, p.due = "canceled", None
    p.doc.update(canceled_at=at, cancellation_reason=reason)
    save_payment(tx, p)
    _tell(tx, account, p, "payment_intent.canceled", at)
    return Answer(200, wire.payment_intent(p))


def refund(tx: Tx, account: Account, p: Payment, asked: tuple[int | None, wire.Wire], fault: Fault) -> Answer:
    """Give captured money back. `asked` is the amount (None: all that is left) and the refund's own fields."""
    amount, doc = asked
    left = p.captured - p.refunded
    if p.captured == 0:
        raise wire.invalid(f"This PaymentIntent ({p.id}) does not have a successful charge to refund.")
    charge_id = p.doc["latest_charge"]
    if left <= 0:
        raise wire.invalid(f"Charge {charge_id} has already been refunded.", code="charge_already_refunded")
    wanted = left if amount is None else amount
    if wanted > left:
        raise wire.invalid(
            f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left})", param="amount"
        )
    wanted = min(left, wrong(wanted, fault))
    slow = TEST_METHODS.get(p.doc.get("kind", "")) == "slow"
    now = account.now()
    status = "failed" if fault.kind == "decline" else "pending" if slow else "succeeded"
    ready_at = time.time() + BANK_REFUND_SECONDS if status == "pending" else None
    r = Refund(new_id("re"), account.secret_key, p.seq, wanted, status, now, ready_at, doc=doc)
    save_refund(tx, r)
    if status != "failed":
        p.refunded += wanted
        save_payment(tx, p)
        wire.event(tx, account, p, "charge.refunded", wire.charge(p), now)
    wire.event(tx, account, p, "refund.created", wire.refund(r, p), now)
    return Answer(200, wire.refund(r, p))


def advance(tx: Tx, account: Account, p: Payment, at: int) -> None:
    """What happens when a payment's own time has come."""
    if p.status == "requires_capture":
        cancel(tx, account, p, "automatic", at)
    elif p.status == "processing":
        settle(tx, account, p, p.doc.get("kind") != "pm_bank_slow_fail", at)
    else:
        p.due = None
        save_payment(tx, p)


def settle(tx: Tx, account: Account, p: Payment, paid: bool, at: int | None = None) -> None:
    """Decide slow money. With manual capture the money is then held."""
    now = account.now() if at is None else at
    if p.status != "processing":
        raise ValueError(f"payment {p.id} is {p.status}, not processing")
    if paid:
        authorize(tx, account, p, now)
    else:
        decline(tx, account, p, "payment_intent_payment_attempt_failed", now)


def finish_refund(tx: Tx, account: Account, r: Refund, paid: bool) -> None:
    """Complete a pending refund, or fail it and keep the money. One that succeeded may fail later: the bank returns it."""
    returned = r.status == "succeeded" and not paid
    if r.status != "pending" and not returned:
        raise ValueError(f"refund {r.id} is {r.status}, not pending")
    p = payment_of(tx, r)
    r.status, r.ready_at = "succeeded" if paid else "failed", None
    save_refund(tx, r)
    if not paid:
        p.refunded -= r.amount
        save_payment(tx, p)
    kinds = ("refund.failed", "charge.refund.updated") if returned else ("refund.updated",)
    for kind in kinds:
        wire.event(tx, account, p, kind, wire.refund(r, p), account.now())


def plant(tx: Tx, account: Account, amount: int, currency: str, reference: str | None) -> Payment:
    """A captured payment nobody asked for: books it silently, for auditors to find."""
    intent, now = new_id("pi"), account.now()
    doc = {"capture_method": "automatic", "metadata": {"reference": reference} if reference else {}}
    p = Payment(
        intent, account.secret_key, reference, amount, currency.lower(), "succeeded", now, f"{intent}_secret", amount
    )
    p.doc = doc
    _charge(p, now)
    save_payment(tx, p)
    return p


def _tell(tx: Tx, account: Account, p: Payment, kind: str, at: int) -> None:
    wire.event(tx, account, p, kind, wire.payment_intent(p), at)


PROVIDER = Provider(advance=advance, settle=settle, finish_refund=finish_refund, plant=plant)
