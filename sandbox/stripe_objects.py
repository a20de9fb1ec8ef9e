"""Stripe's objects and errors on the wire, at API version 2023-08-16."""

from typing import Any

from sandbox.answers import Answer, Refusal, Vendor
from sandbox.book import Tx
from sandbox.records import Account, Payment, Refund, new_id
from sandbox.webhooks import announce

API_VERSION = "2023-08-16"
Wire = dict[str, Any]

DECLINES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "payment_intent_authentication_failure": "The provided PaymentMethod has failed authentication.",
    "payment_intent_payment_attempt_failed": "The payment attempt failed.",
}


def error(status: int, kind: str, message: str, **more: Any) -> Answer:
    """An error answer: `{"error": {type, message, code?, param?, payment_intent?…}}`."""
    return Answer(status, {"error": {"type": kind, "message": message, **more}})


def invalid(message: str, **more: Any) -> Refusal:
    """A 400 of validation: nothing was executed."""
    return Refusal(error(400, "invalid_request_error", message, **more))


def missing(kind: str, object_id: str, param: str = "intent") -> Refusal:
    """The 404 of an id this account does not have."""
    message = f"No such {kind}: '{object_id}'"
    return Refusal(error(404, "invalid_request_error", message, code="resource_missing", param=param))


VENDOR = Vendor(
    unauthorized=error(401, "invalid_request_error", "Invalid API Key provided."),
    server_error=error(500, "api_error", "An unknown error occurred on our side."),
    too_many=error(429, "invalid_request_error", "Too many requests hit the API too quickly.", code="rate_limit"),
    in_flight=error(
        409,
        "idempotency_error",
        "There is currently another in-progress request using this Idempotent Key.",
        code="idempotency_key_in_use",
    ),
    other_body=error(
        400,
        "idempotency_error",
        "Keys for idempotent requests can only be used with the same parameters they were first used with.",
    ),
)


def payment_intent(p: Payment) -> Wire:
    """A PaymentIntent."""
    doc = p.doc
    return {
        "id": p.id,
        "object": "payment_intent",
        "amount": p.amount,
        "amount_capturable": p.amount if p.status == "requires_capture" else 0,
        "amount_details": {"tip": {}},
        "amount_received": p.captured,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": doc.get("automatic_payment_methods"),
        "canceled_at": doc.get("canceled_at"),
        "cancellation_reason": doc.get("cancellation_reason"),
        "capture_method": doc["capture_method"],
        "client_secret": p.access,
        "confirmation_method": "automatic",
        "created": p.created,
        "currency": p.currency,
        "customer": doc.get("customer"),
        "description": doc.get("description"),
        "invoice": None,
        "last_payment_error": doc.get("last_payment_error"),
        "latest_charge": doc.get("latest_charge"),
        "livemode": False,
        "metadata": doc.get("metadata", {}),
        "next_action": _next_action(p),
        "on_behalf_of": None,
        "payment_method": doc.get("payment_method"),
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": doc.get("receipt_email"),
        "review": None,
        "setup_future_usage": doc.get("setup_future_usage"),
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": p.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _next_action(p: Payment) -> Wire | None:
    if p.status != "requires_action":
        return None
    return {
        "type": "redirect_to_url",
        "redirect_to_url": {"url": p.doc["action_url"], "return_url": p.doc.get("return_url")},
    }


def charge(p: Payment) -> Wire:
    """The latest charge of a PaymentIntent."""
    doc = p.doc
    failed = p.status == "requires_payment_method"
    return {
        "id": doc["latest_charge"],
        "object": "charge",
        "amount": p.amount,
        "amount_captured": p.captured,
        "amount_refunded": p.refunded,
        "balance_transaction": None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "captured": p.captured > 0,
        "created": doc.get("charged_at", p.created),
        "currency": p.currency,
        "customer": doc.get("customer"),
        "description": doc.get("description"),
        "disputed": False,
        "failure_code": (doc.get("last_payment_error") or {}).get("code"),
        "failure_message": (doc.get("last_payment_error") or {}).get("message"),
        "invoice": None,
        "livemode": False,
        "metadata": doc.get("metadata", {}),
        "paid": not failed,
        "payment_intent": p.id,
        "payment_method": doc.get("payment_method"),
        "receipt_email": doc.get("receipt_email"),
        "refunded": 0 < p.captured <= p.refunded,
        "status": "failed" if failed else "pending" if p.status == "processing" else "succeeded",
    }


def refund(r: Refund, p: Payment) -> Wire:
    """A Refund."""
    body: Wire = {
        "id": r.id,
        "object": "refund",
        "amount": r.amount,
        "balance_transaction": None,
        "charge": p.doc["latest_charge"],
        "created": r.created,
        "currency": p.currency,
        "metadata": r.doc.get("metadata", {}),
        "payment_intent": p.id,
        "reason": r.doc.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": r.status,
        "transfer_reversal": None,
    }
    if r.status == "failed":
        body["failure_reason"] = "expired_or_canceled_card"
    return body


def customer(customer_id: str, created: int, doc: Wire) -> Wire:
    """A Customer, reduced to what a payment needs."""
    return {
        "id": customer_id,
        "object": "customer",
        "created": created,
        "email": doc.get("email"),
        "name": doc.get("name"),
        "description": doc.get("description"),
        "metadata": doc.get("metadata", {}),
        "livemode": False,
    }


def payment_error(p: Payment, decline: str) -> Wire:
    """The body of `last_payment_error` and of a 402, without the PaymentIntent itself."""
    plain = decline in {"generic_decline", "insufficient_funds"}
    shaped: Wire = {
        "type": "card_error",
        "code": "card_declined" if plain else decline,
        "message": DECLINES[decline],
        "charge": p.doc.get("latest_charge", ""),
    }
    if not decline.startswith("payment_intent_"):
        shaped["decline_code"] = decline
    return shaped


def card_declined(p: Payment) -> Answer:
    """The 402 of a declined attempt; carries the PaymentIntent as it now stands."""
    return Answer(402, {"error": {**p.doc["last_payment_error"], "payment_intent": payment_intent(p)}})


def unexpected_state(p: Payment, verb: str, allowed: str) -> Refusal:
    """The 400 of an operation the PaymentIntent's status does not allow."""
    message = (
        f"This PaymentIntent could not be {verb} because it has a status of {p.status}."
        f" Only a PaymentIntent with one of the following statuses may be {verb}: {allowed}."
    )
    code = "payment_intent_unexpected_state"
    answer = error(400, "invalid_request_error", message, code=code, payment_intent=payment_intent(p))
    return Refusal(answer, executed=True)


def event(tx: Tx, account: Account, p: Payment, kind: str, subject: Wire, at: int) -> None:
    """Announce one event about `p`."""
    event_id = new_id("evt")
    body = {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": at,
        "data": {"object": subject},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    announce(tx, account, p, event_id, kind, body)
