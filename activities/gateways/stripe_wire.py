"""Stripe's wire format, API version 2023-08-16, as pure functions: amounts, payment intents, refunds, refusals, signatures.

Stripe counts money in its own minor units, which differ from ISO 4217 for a few currencies (the table below). An amount
that Stripe's unit cannot express is refused, never rounded.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from activities.gateways import fields, units
from activities.gateways.fields import Json, Unreadable
from activities.gateways.http import Reply
from activities.gateways.protocols import (
    PaymentFact,
    RailAnswer,
    RailError,
    RailNotSent,
    RailRejected,
    RailUnknown,
    RefundAnswer,
    RefundFact,
    SignatureRefused,
    WebhookEvent,
)
from contracts.payment import NextAction

# --- amounts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StripeUnit:
    """How Stripe counts one currency: decimal places, and the step an amount must be a multiple of."""

    exponent: int = 2
    step: int = 1


STRIPE_UNITS: dict[str, StripeUnit] = {
    **dict.fromkeys(
        ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"],
        StripeUnit(exponent=0),
    ),
    **dict.fromkeys(["BHD", "JOD", "KWD", "OMR", "TND"], StripeUnit(exponent=3, step=10)),
    # No subunit in use, yet sent with two decimals, which must be 00.
    **dict.fromkeys(["ISK", "UGX"], StripeUnit(exponent=2, step=100)),
}
"""Every currency that is not plain "two decimals, any amount"."""


def stripe_amount(amount_minor: int, currency: str) -> int:
    """Our minor units as Stripe's. Raises RailRejected (see `units.to_provider`)."""
    unit = STRIPE_UNITS.get(currency, StripeUnit())
    return units.to_provider(amount_minor, currency, provider_exponent=unit.exponent, step=unit.step)


def our_amount(amount: int, currency: str) -> int | None:
    """Stripe's minor units as ours, or None where ours cannot express it."""
    unit = STRIPE_UNITS.get(currency, StripeUnit())
    return units.from_provider(amount, currency, provider_exponent=unit.exponent)


# --- payment intents ----------------------------------------------------------------------------------------------


def read_intent(body: Json) -> RailAnswer:
    """A payment intent as a fact. Raises Unreadable on a status this API version does not have."""
    if body.get("object") != "payment_intent":
        raise Unreadable("not a payment intent")
    currency = fields.text(body, "currency").upper()
    amounts = (
        our_amount(fields.integer(body, "amount"), currency),
        our_amount(fields.integer(body, "amount_received"), currency),
        our_amount(_refunded(body), currency),
    )
    expressible = None not in amounts
    fact, code = _fact(body)
    return RailAnswer(
        fact=fact,
        provider_id=fields.text(body, "id"),
        reference=fields.optional_text(fields.optional_mapping(body, "metadata"), "reference"),
        amount_minor=amounts[0] if expressible else None,
        captured_minor=(amounts[1] or 0) if expressible else 0,
        refunded_minor=(amounts[2] or 0) if expressible else 0,
        currency=currency,
        next_action=_next_action(body) if fact is PaymentFact.REQUIRES_ACTION else None,
        instrument=fields.optional_text(body, "payment_method"),
        customer=fields.optional_text(body, "customer"),
        code=code if expressible else "amount_not_expressible",
        created_at=fields.unix_time(body, "created"),
    )


def _refunded(body: Json) -> int:
    """Known only where the charge was asked to be included; the list of refunds is the truth about refunds."""
    charge = fields.optional_mapping(body, "latest_charge")
    return fields.integer(charge, "amount_refunded") if charge else 0


def _fact(body: Json) -> tuple[PaymentFact, str | None]:
    match fields.text(body, "status"):
        case "succeeded":
            return PaymentFact.CAPTURED, None
        case "requires_capture":
            return PaymentFact.AUTHORIZED, None
        case "processing":
            return PaymentFact.PENDING, None
        case "requires_action" | "requires_confirmation":
            return PaymentFact.REQUIRES_ACTION, None
        case "requires_payment_method":
            error = fields.optional_mapping(body, "last_payment_error")
            return (PaymentFact.DECLINED, decline_code(error)) if error else (PaymentFact.REQUIRES_ACTION, None)
        case "canceled":
            # "automatic" is Stripe's own act: the authorization lapsed, nobody asked for it.
            lapsed = body.get("cancellation_reason") == "automatic"
            return (PaymentFact.EXPIRED if lapsed else PaymentFact.VOIDED), None
        case _:
            raise Unreadable("status is none of this API version")


def _next_action(body: Json) -> NextAction | None:
    action = fields.optional_mapping(body, "next_action")
    if action.get("type") == "redirect_to_url":
        address = fields.url(fields.mapping(action, "redirect_to_url"), "url")
        return NextAction(kind="redirect", redirect_url=address)
    token = fields.optional_text(body, "client_secret")
    return NextAction(kind="client_token", client_token=token) if token else None


def decline_code(error: Json) -> str:
    """The issuer's reason where Stripe passes it on, else Stripe's own code."""
    return fields.code(error.get("decline_code"), error.get("code"), error.get("type"), default="declined")


# --- refunds ------------------------------------------------------------------------------------------------------

_REFUND_FACTS = {
    "pending": RefundFact.PENDING,
    "requires_action": RefundFact.PENDING,
    "succeeded": RefundFact.SUCCEEDED,
    "failed": RefundFact.FAILED,
    "canceled": RefundFact.FAILED,
}


def read_refund(body: Json) -> RefundAnswer:
    """A refund as a fact."""
    status = fields.text(body, "status")
    if body.get("object") != "refund" or status not in _REFUND_FACTS:
        raise Unreadable("not a refund of this API version")
    currency = fields.text(body, "currency").upper()
    fact = _REFUND_FACTS[status]
    failure = fields.code(body.get("failure_reason"), default=status) if fact is RefundFact.FAILED else None
    return RefundAnswer(
        fact=fact,
        provider_id=fields.text(body, "id"),
        reference=fields.optional_text(fields.optional_mapping(body, "metadata"), "reference"),
        payment_provider_id=fields.optional_text(body, "payment_intent"),
        amount_minor=our_amount(fields.integer(body, "amount"), currency),
        currency=currency,
        code=failure,
    )


# --- refusals -----------------------------------------------------------------------------------------------------


def refusal(reply: Reply) -> RailError:
    """A 4xx as an error. Stripe's sentence is left out: it may quote a key or personal data."""
    error = fields.mapping(reply.body, "error")
    kind = fields.code(error.get("type"), default="invalid_request_error")
    if reply.status == 401:
        return RailRejected("unauthorized")
    code = fields.code(error.get("code"), default=kind)
    if code == "idempotency_key_in_use" or (reply.status == 409 and kind == "idempotency_error"):
        # An earlier request with this key is still running: whether it takes effect is not known yet.
        return RailUnknown("idempotency_key_in_use")
    if kind == "idempotency_error":
        # The key was used before with another body: that earlier request may well have taken effect.
        return RailUnknown("idempotency_error")
    if reply.status == 409 or reply.headers.get("Stripe-Should-Retry") == "true":
        return RailNotSent(code)
    return RailRejected(code)


def is_missing(reply: Reply) -> bool:
    """Stripe's own "no such object"; a 404 of some other server in between is no such statement."""
    error = fields.optional_mapping(reply.body, "error")
    return reply.status == 404 and error.get("code") == "resource_missing"


# --- webhooks -----------------------------------------------------------------------------------------------------

_TOLERANCE = timedelta(seconds=300)
_TIMESTAMP = re.compile(r"[0-9]{1,11}")
_SCHEME = re.compile(r"[a-z][a-z0-9]{0,7}")
_SIGNATURES_MAX = 16


def verify_signature(raw: bytes, header: str | None, secret: str, now: datetime) -> None:
    """Check `Stripe-Signature` over `"<t>." + raw`. Raises SignatureRefused.

    Any v1 may match (two are sent while a secret is rolled); other schemes are ignored, so nothing can be downgraded.
    """
    if not secret:
        raise SignatureRefused("unconfigured")
    if header is None:
        raise SignatureRefused("missing")
    timestamp, signatures = _parse_signature(header)
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest().encode()
    matches = [hmac.compare_digest(expected, signature) for signature in signatures]
    if not any(matches):
        raise SignatureRefused("mismatch")
    # The vendor's own library lets a timestamp from the future pass; a replay could be prepared with one.
    if abs(now - datetime.fromtimestamp(int(timestamp), UTC)) > _TOLERANCE:
        raise SignatureRefused("stale")


def _parse_signature(header: str) -> tuple[str, list[bytes]]:
    timestamps: list[str] = []
    signatures: list[bytes] = []
    for part in header.split(","):
        scheme, equals, value = part.partition("=")
        if not equals or not _SCHEME.fullmatch(scheme) or not value.isascii():
            raise SignatureRefused("malformed")
        if scheme == "t":
            timestamps.append(value)
        elif scheme == "v1":
            signatures.append(value.encode())
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]) or not 1 <= len(signatures) <= _SIGNATURES_MAX:
        raise SignatureRefused("malformed")
    return timestamps[0], signatures


ANNOUNCED: Final = {
    "payment_intent.amount_capturable_updated": PaymentFact.AUTHORIZED,
    "payment_intent.succeeded": PaymentFact.CAPTURED,
    "payment_intent.canceled": PaymentFact.VOIDED,
}
"""Events that say one thing about a payment and nothing else, by the event types of Stripe's API reference."""
ANNOUNCED_REFUNDS: Final = frozenset({"charge.refunded", "refund.created"})
"""Events that say no more than that some of a payment's money has been given back, or is to be."""


def read_event(raw: bytes) -> WebhookEvent:
    """A verified event's id, kind and the payment it is about. Raises SignatureRefused `malformed`."""
    try:
        body = fields.parse_object(raw)
        subject = fields.mapping(fields.mapping(body, "data"), "object")
        is_intent = subject.get("object") == "payment_intent"
        return WebhookEvent(
            event_id=fields.text(body, "id"),
            kind=fields.text(body, "type"),
            reference=fields.optional_text(fields.optional_mapping(subject, "metadata"), "reference"),
            provider_id=fields.optional_text(subject, "id" if is_intent else "payment_intent"),
        )
    except Unreadable:
        raise SignatureRefused("malformed") from None
