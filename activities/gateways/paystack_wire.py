"""Paystack's wire format as pure functions: amounts, transactions, refunds, refusals, pages, signatures.

Paystack's samples disagree with themselves on types (an amount may be `10000` or `"10000"`, an id `123` or `"123"`), so
digits in text are read as integers; anything else is unreadable.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote

from activities.gateways import fields, units
from activities.gateways.fields import Json, Unreadable
from activities.gateways.http import Reply
from activities.gateways.protocols import (
    PaymentFact,
    PayoutFact,
    RailAnswer,
    RailError,
    RailNotSent,
    RailRejected,
    RefundAnswer,
    RefundFact,
    SignatureRefused,
    WebhookEvent,
)

T = TypeVar("T")

# --- amounts ------------------------------------------------------------------------------------------------------

PAYSTACK_CURRENCIES = frozenset({"NGN", "GHS", "ZAR", "KES", "USD", "XOF"})
_SUBUNIT_EXPONENT = 2
"""Always hundredths, also for XOF, which has no subunit in use."""


def paystack_amount(amount_minor: int, currency: str) -> int:
    """Our minor units as Paystack's. Raises RailRejected (see `units.to_provider`)."""
    if currency not in PAYSTACK_CURRENCIES:
        raise RailRejected("currency_unsupported")
    return units.to_provider(amount_minor, currency, provider_exponent=_SUBUNIT_EXPONENT)


def our_amount(amount: int, currency: str) -> int | None:
    """Paystack's subunits as our minor units, or None where ours cannot express it."""
    return units.from_provider(amount, currency, provider_exponent=_SUBUNIT_EXPONENT)


# --- transactions -------------------------------------------------------------------------------------------------

_FACTS = {
    "success": PaymentFact.CAPTURED,
    "reversed": PaymentFact.CAPTURED,
    "failed": PaymentFact.DECLINED,
    # Paystack says "abandoned" of every transaction whose payer has not finished, from the first second on, and still
    # lets him pay. So it never proves an end: how long to wait is the payment process's own rule.
    "abandoned": PaymentFact.REQUIRES_ACTION,
    "ongoing": PaymentFact.PENDING,
    "pending": PaymentFact.PENDING,
    "processing": PaymentFact.PENDING,
    "queued": PaymentFact.PENDING,
}


def read_transaction(data: Json) -> RailAnswer:
    """A transaction, as verify, charge_authorization and the list show it. `reversed` was taken and given back in whole."""
    status = fields.text(data, "status")
    if status not in _FACTS:
        raise Unreadable("status is none that Paystack documents")
    fact = _FACTS[status]
    currency = fields.text(data, "currency").upper()
    amount_minor = our_amount(fields.integer_or_digits(data, "amount"), currency)
    taken = amount_minor if fact is PaymentFact.CAPTURED and amount_minor is not None else 0
    authorization = fields.optional_mapping(data, "authorization")
    reusable = authorization.get("reusable") is True
    code = fields.slug(fields.optional_text(data, "gateway_response"), default="declined")
    if amount_minor is None:
        code = "amount_not_expressible"
    return RailAnswer(
        fact=fact,
        provider_id=fields.identifier(data, "id"),
        reference=fields.text(data, "reference"),
        amount_minor=amount_minor,
        captured_minor=taken,
        refunded_minor=taken if status == "reversed" else 0,
        currency=currency,
        instrument=fields.optional_text(authorization, "authorization_code") if reusable else None,
        customer=fields.optional_text(fields.optional_mapping(data, "customer"), "customer_code"),
        code=code if fact is PaymentFact.DECLINED or amount_minor is None else None,
        created_at=created(data),
    )


def created(data: Json) -> datetime | None:
    """When a transaction or transfer was made, under whichever of its names."""
    names = ("created_at", "createdAt", "transaction_date")
    return next((instant for name in names if (instant := fields.iso_time(data, name))), None)


# --- refunds ------------------------------------------------------------------------------------------------------

_REFUND_FACTS = {
    "pending": RefundFact.PENDING,
    "processing": RefundFact.PENDING,
    # Paystack waits for the payer's bank details: not decided, and shown to an operator by its code.
    "needs-attention": RefundFact.PENDING,
    "processed": RefundFact.SUCCEEDED,
    "failed": RefundFact.FAILED,
}
_OUR_REFERENCE = re.compile(r"[a-z0-9-]{8,50}")


def read_refund(data: Json) -> RefundAnswer:
    """A refund. Our reference travels in `merchant_note`, the only field of ours that Paystack gives back."""
    status = fields.text(data, "status")
    if status not in _REFUND_FACTS:
        raise Unreadable("status is none that Paystack documents")
    note = fields.optional_text(data, "merchant_note") or ""
    currency = fields.text(data, "currency").upper()
    transaction = data.get("transaction")
    payment_id = fields.identifier(transaction if isinstance(transaction, dict) else {"id": transaction}, "id")
    return RefundAnswer(
        fact=_REFUND_FACTS[status],
        provider_id=fields.identifier(data, "id"),
        reference=note if _OUR_REFERENCE.fullmatch(note) else None,
        payment_provider_id=payment_id,
        amount_minor=our_amount(fields.integer_or_digits(data, "amount"), currency),
        currency=currency,
        code=status if status in ("failed", "needs-attention") else None,
    )


# --- envelope and refusals ----------------------------------------------------------------------------------------

_NOT_FOUND = re.compile(r"(transaction( reference)?|refund|transfer|entity) not found", re.IGNORECASE)
"""Older answers, and those about transfers, carry no code, only the sentence."""
_MISSING = ("transaction_not_found", "refund_not_found", "transfer_not_found")


def data_of(reply: Reply) -> Json:
    """The `data` of a success. Raises the refusal of a 4xx, and Unreadable where a 2xx does not say `status: true`."""
    _require_success(reply)
    return fields.mapping(reply.body, "data")


def list_of(reply: Reply) -> tuple[list[Json], int | None]:
    """The items of a list answer and how many pages there are, if it says."""
    _require_success(reply)
    meta = fields.optional_mapping(reply.body, "meta")
    pages = fields.integer_or_digits(meta, "pageCount") if meta.get("pageCount") is not None else None
    return fields.items(reply.body, "data"), pages


def _require_success(reply: Reply) -> None:
    if not reply.ok:
        raise refusal(reply)
    if reply.body.get("status") is not True:
        raise Unreadable("success without status true")


def refusal(reply: Reply) -> RailError:
    """A 4xx as an error. The sentence itself is left out, it may quote personal data; its code or its kind is kept."""
    if reply.body.get("status") is not False:
        raise Unreadable("a refusal that Paystack did not write")
    if reply.status == 401:
        return RailRejected("unauthorized")
    if reply.status in (409, 425):
        return RailNotSent("busy")
    return RailRejected(fields.code(reply.body.get("code"), reply.body.get("type"), default=f"http_{reply.status}"))


def is_missing(reply: Reply) -> bool:
    """Paystack's own "no such transaction", as 400 or 404. A 404 for an address that does not exist is no such statement:
    taken for one, a wrong base URL would make every payment look as if it had never been.
    """
    if reply.ok or reply.body.get("status") is not False:
        return False
    message = reply.body.get("message")
    by_sentence = isinstance(message, str) and _NOT_FOUND.match(message)
    return reply.body.get("code") in _MISSING or bool(by_sentence)


def is_duplicate(reply: Reply) -> bool:
    """The reference was used before: our earlier request did reach Paystack."""
    message = reply.body.get("message")
    by_sentence = isinstance(message, str) and message.lower().startswith("duplicate transaction reference")
    return reply.status == 400 and (reply.body.get("code") == "duplicate_reference" or by_sentence)


# --- addresses and pages ------------------------------------------------------------------------------------------

PAGE: Final = "100"
"""Items asked for at once."""


def read_page(read: Callable[[Json], T], page: int) -> Callable[[Reply], tuple[list[T], str | None]]:
    """A page of objects and the number of the next. Where the page count is missing, an empty page is the end."""

    def read_items(reply: Reply) -> tuple[list[T], str | None]:
        data, pages = list_of(reply)
        more = page < pages if pages is not None else bool(data)
        return [read(item) for item in data], str(page + 1) if more else None

    return read_items


def page_params(since: datetime, cursor: str | None) -> dict[str, str]:
    """The query for a page of what was made at or after `since`."""
    instant = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"from": instant, "perPage": PAGE, "page": str(page_number(cursor))}


def page_number(cursor: str | None) -> int:
    """The page that a cursor of ours means."""
    return int(cursor) if cursor is not None else 1


def segment(value: str) -> str:
    """An id as one path segment, whatever it contains."""
    return quote(value, safe="")


# --- webhooks -----------------------------------------------------------------------------------------------------

_SIGNATURE = re.compile(r"[0-9a-f]{128}")


def verify_signature(raw: bytes, header: str | None, secret_key: str) -> None:
    """Check `x-paystack-signature`: HMAC-SHA512 of the raw body with the API key. No time is signed: dedupe and re-fetch."""
    if not secret_key:
        raise SignatureRefused("unconfigured")
    if header is None:
        raise SignatureRefused("missing")
    if not _SIGNATURE.fullmatch(header):
        raise SignatureRefused("malformed")
    expected = hmac.new(secret_key.encode(), raw, hashlib.sha512).hexdigest()
    if not hmac.compare_digest(expected, header):
        raise SignatureRefused("mismatch")


def read_event(raw: bytes) -> WebhookEvent:
    """A verified event. Raises SignatureRefused `malformed`.

    Paystack numbers no events, so the id is built from event, object and status. Refund events name no object of
    their own (two partial refunds look alike), hence the body's digest there.
    """
    try:
        body = fields.parse_object(raw)
        kind = fields.text(body, "event")
        data = fields.mapping(body, "data")
        subject = fields.identifier(data, "id") or fields.optional_text(data, "reference")
        subject = subject or hashlib.sha256(raw).hexdigest()[:32]
        reference, provider_id = _payment_of(kind, data)
        return WebhookEvent(
            event_id=f"{kind}:{subject}:{fields.optional_text(data, 'status') or ''}",
            kind=kind,
            reference=reference,
            provider_id=provider_id,
        )
    except Unreadable:
        raise SignatureRefused("malformed") from None


ANNOUNCED: Final = {"charge.success": PaymentFact.CAPTURED}
"""Events that say one thing about a payment and nothing else. Events of transfers are about no payment."""
ANNOUNCED_REFUNDS: Final = frozenset({"refund.pending", "refund.processing", "refund.processed"})
"""Events that say no more than that some of a payment's money is being given back."""
ANNOUNCED_TRANSFERS: Final = {
    "transfer.success": PayoutFact.SUCCEEDED,
    "transfer.failed": PayoutFact.FAILED,
    "transfer.reversed": PayoutFact.RETURNED,
}


def _payment_of(kind: str, data: Json) -> tuple[str | None, str | None]:
    """Our reference and the transaction's id. A refund event carries the reference of the payment it refunds.

    A transfer is named by its code: its number is counted apart from those of transactions, and may equal one of them.
    """
    if kind.startswith("transfer."):
        return fields.optional_text(data, "reference"), fields.optional_text(data, "transfer_code")
    transaction = fields.optional_mapping(data, "transaction")
    if transaction:
        return fields.optional_text(transaction, "reference"), fields.identifier(transaction, "id")
    if kind.startswith("refund."):
        return fields.optional_text(data, "transaction_reference"), None
    if kind == "charge.success":
        return fields.text(data, "reference"), fields.identifier(data, "id")
    return fields.optional_text(data, "reference"), fields.identifier(data, "transaction_id")
