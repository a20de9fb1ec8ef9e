"""Paystack's objects and errors on the wire."""

import json
from datetime import UTC, datetime
from typing import Any

from sandbox.answers import Answer, Refusal, Vendor
from sandbox.book import Tx
from sandbox.records import Account, Payment, Refund, new_id
from sandbox.webhooks import announce

Wire = dict[str, Any]
CURRENCIES = ("GHS", "KES", "NGN", "USD", "ZAR")
FIRST_ID = 4_100_000_000
INTEGRATION = 412_829

UNPAID = "The transaction was not completed"
GATEWAY = {
    "success": "Successful",
    "reversed": "Successful",
    "failed": "Declined",
    "ongoing": "Transaction in progress",
    "pending": "Pending",
}
COUNTRIES = {"GHS": "GH", "KES": "KE", "NGN": "NG", "USD": "NG", "ZAR": "ZA"}


def refusal(status: int, message: str, code: str, next_step: str = "", kind: str = "validation_error") -> Refusal:
    """A no in Paystack's error format."""
    return Refusal(problem(status, message, code, next_step, kind))


def problem(status: int, message: str, code: str, next_step: str = "", kind: str = "validation_error") -> Answer:
    """An error answer: `{"status": false, "message", "meta": {"nextStep"}, "type", "code"}`."""
    meta = {"nextStep": next_step or "Check the request and try again"}
    return Answer(status, {"status": False, "message": message, "meta": meta, "type": kind, "code": code})


def ok(message: str, data: Any, **more: Any) -> Answer:
    """A success answer: `{"status": true, "message", "data"}`."""
    return Answer(200, {"status": True, "message": message, "data": data, **more})


NO_KEY_USE = problem(409, "Unused by Paystack", "api_error")
VENDOR = Vendor(
    unauthorized=problem(401, "Invalid key", "invalid_Key", "Ensure that you provide the correct authorization key"),
    server_error=problem(500, "An error occurred", "api_error", kind="api_error"),
    too_many=problem(429, "Too many requests", "rate_limited", kind="api_error"),
    in_flight=NO_KEY_USE,
    other_body=NO_KEY_USE,
)


def number(p: Payment) -> int:
    """The transaction's id on the wire."""
    return FIRST_ID + p.seq


def iso(at: int | None) -> str | None:
    """A time as Paystack writes it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def wire_status(p: Payment) -> str:
    """The status on the wire. A checkout nobody has opened is already "abandoned", as at Paystack; one past its
    session stays so for good."""
    return "abandoned" if p.status in {"open", "closed"} else p.status


def customer(p: Payment) -> Wire:
    """The payer."""
    return {
        "id": 180_000_000 + p.seq,
        "first_name": None,
        "last_name": None,
        "email": p.doc["email"],
        "customer_code": "CUS_" + p.access[-15:],
        "phone": None,
        "metadata": None,
        "risk_action": "default",
        "international_format_phone": None,
    }


def authorization(p: Payment) -> Wire:
    """The payer's card, reusable under its authorization code once a charge succeeded; empty before."""
    code = p.doc.get("authorization_code")
    if code is None or p.status not in {"success", "reversed"}:
        return {}
    return {
        "authorization_code": code,
        "bin": "408408",
        "last4": "4081",
        "exp_month": "12",
        "exp_year": "2030",
        "channel": "card",
        "card_type": "visa ",
        "bank": "TEST BANK",
        "country_code": COUNTRIES.get(p.currency, "NG"),
        "brand": "visa",
        "reusable": p.doc.get("channel", "card") == "card",
        "signature": "SIG_" + p.access[-20:],
        "account_name": None,
    }


def transaction(p: Payment) -> Wire:
    """A transaction as verify, list, charge_authorization and charge.success describe it."""
    paid_at = iso(p.doc.get("paid_at"))
    metadata = p.doc.get("metadata")
    return {
        "id": number(p),
        "domain": "test",
        "status": wire_status(p),
        "reference": p.reference,
        "receipt_number": None,
        "amount": p.amount,
        "message": p.doc.get("message"),
        "gateway_response": GATEWAY.get(p.status, UNPAID),
        "paid_at": paid_at,
        "created_at": iso(p.created),
        "channel": p.doc.get("channel", "card"),
        "currency": p.currency,
        "ip_address": "127.0.0.1",
        "metadata": metadata if metadata is not None else "",
        "log": None,
        "fees": 0 if paid_at else None,
        "fees_split": None,
        "authorization": authorization(p),
        "customer": customer(p),
        "plan": None,
        "split": {},
        "order_id": None,
        "paidAt": paid_at,
        "createdAt": iso(p.created),
        "requested_amount": p.doc["requested_amount"],
        "pos_transaction_data": None,
        "source": None,
        "fees_breakdown": None,
        "connect": None,
        "transaction_date": iso(p.created),
        "plan_object": {},
        "subaccount": {},
    }


def listed(p: Payment) -> Wire:
    """A transaction as the list shows it."""
    row = transaction(p)
    row["metadata"] = row["metadata"] or None
    row["plan"] = {}
    blank = {name: None for name in ("authorization_code", "bin", "last4", "exp_month", "exp_year", "channel")}
    blank |= {name: None for name in ("card_type", "bank", "country_code", "brand", "signature", "account_name")}
    row["authorization"] = row["authorization"] or {**blank, "reusable": False}
    return row


def charged(p: Payment) -> Wire:
    """A transaction as charge_authorization answers it: metadata is text there."""
    row = transaction(p)
    row["metadata"] = row["metadata"] if isinstance(row["metadata"], str) else json.dumps(row["metadata"])
    code = {"authorization_code": p.doc["authorization_code"], "bin": None, "last4": "4081", "exp_month": "12"}
    more = {"exp_year": "2030", "channel": "card", "card_type": "visa ", "bank": "TEST BANK", "country_code": "NG"}
    tail = {"brand": "visa", "reusable": True, "signature": "SIG_" + p.access[-20:], "account_name": None}
    row["authorization"] = row["authorization"] or {**code, **more, **tail}
    return row


def refund(r: Refund, p: Payment) -> Wire:
    """A refund as fetch and list describe it."""
    at = iso(r.created)
    return {
        "integration": INTEGRATION,
        "transaction": number(p),
        "dispute": None,
        "settlement": None,
        "id": refund_number(r),
        "domain": "test",
        "currency": p.currency,
        "amount": r.amount,
        "status": r.status,
        "refunded_at": at if r.status == "processed" else None,
        "refunded_by": "merchant@example.test",
        "customer_note": r.doc["customer_note"],
        "merchant_note": r.doc["merchant_note"],
        "deducted_amount": r.amount,
        "fully_deducted": 1,
        "createdAt": at,
        "bank_reference": None,
        "transaction_reference": p.reference,
        "reason": r.doc["merchant_note"],
        "customer": {name: value if value is not None else "" for name, value in customer(p).items()},
        "refund_type": "full" if r.amount == p.amount else "partial",
        "transaction_amount": p.amount,
        "initiated_by": "merchant@example.test",
        "refund_channel": "card",
        "session_id": None,
        "collect_account_number": False,
    }  # fmt: skip


def created_refund(r: Refund, p: Payment) -> Wire:
    """A refund as its creation answers it: with the transaction inside."""
    paid = transaction(p)
    names = ("id", "domain", "reference", "amount", "paid_at", "channel", "currency", "order_id", "paidAt", "split")
    inner = {name: paid[name] for name in (*names, "pos_transaction_data", "source", "fees_breakdown")}
    inner |= {
        "authorization": {"exp_month": None, "exp_year": None, "account_name": None},
        "customer": {"international_format_phone": None},
        "plan": {},
        "subaccount": {"currency": None},
    }
    at = iso(r.created)
    return {
        "transaction": inner,
        "integration": INTEGRATION,
        "deducted_amount": 0,
        "channel": None,
        "merchant_note": r.doc["merchant_note"],
        "customer_note": r.doc["customer_note"],
        "status": r.status,
        "refunded_by": "merchant@example.test",
        "expected_at": iso(r.created + 10 * 86_400),
        "currency": p.currency,
        "domain": "test",
        "amount": r.amount,
        "fully_deducted": False,
        "id": refund_number(r),
        "createdAt": at,
        "updatedAt": at,
    }


def refund_number(r: Refund) -> int:
    """The refund's id on the wire."""
    return 15_000_000 + r.seq


def charge_success(tx: Tx, account: Account, p: Payment) -> None:
    """Announce `charge.success`, the only event Paystack has for a charge."""
    body = {"event": "charge.success", "data": {**transaction(p), "metadata": p.doc.get("metadata") or 0, "plan": {}}}
    announce(tx, account, p, new_id("psk"), "charge.success", body)


def refund_event(tx: Tx, account: Account, r: Refund, p: Payment) -> None:
    """Announce `refund.<status>`. The samples write the amount of unfinished refunds as text."""
    body = {
        "event": f"refund.{r.status}",
        "data": {
            "status": r.status,
            "transaction_reference": p.reference,
            "refund_reference": r.id if r.status == "processed" else None,
            "amount": r.amount if r.status == "failed" else str(r.amount),
            "currency": p.currency,
            "processor": "instant-transfer",
            "customer": {"first_name": None, "last_name": None, "email": p.doc["email"]},
            "integration": INTEGRATION,
            "domain": "test",
            "id": str(refund_number(r)),
            "customer_note": r.doc["customer_note"],
            "merchant_note": r.doc["merchant_note"],
        },
    }
    announce(tx, account, p, new_id("psk"), f"refund.{r.status}", body)
