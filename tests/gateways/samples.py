"""Wire objects as the providers write them, with the fields a test cares about on top."""

from typing import Any

from activities.gateways.protocols import Beneficiary, PaymentOrder, PayoutOrder, RefundOrder

REFERENCE = "8c1f0e5b0b5d0c9a492c9f6b7c8a11aa"


def order(**changes: Any) -> PaymentOrder:
    values = {
        "reference": REFERENCE,
        "key": "key-" + REFERENCE,
        "amount_minor": 500_000,
        "currency": "NGN",
        "capture_now": True,
        "payer_email": "ada@example.test",
    }
    return PaymentOrder(**(values | changes))


def refund_order(**changes: Any) -> RefundOrder:
    values = {
        "reference": "refund-" + REFERENCE,
        "key": "key-refund-" + REFERENCE,
        "payment_reference": REFERENCE,
        "provider_id": "302961",
        "amount_minor": 200_000,
        "currency": "NGN",
    }
    return RefundOrder(**(values | changes))


def payout_order(**changes: Any) -> PayoutOrder:
    values = {
        "reference": REFERENCE,
        "key": "key-" + REFERENCE,
        "amount_minor": 500_000,
        "currency": "NGN",
        "recipient": "RCP_1",
    }
    return PayoutOrder(**(values | changes))


def beneficiary(**changes: Any) -> Beneficiary:
    values = {"name": "Ada Okafor", "account_number": "0123456789", "bank_code": "058", "currency": "NGN"}
    return Beneficiary(**(values | changes))


def intent(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": status,
        "amount": 500_000,
        "amount_received": 500_000 if status == "succeeded" else 0,
        "currency": "ngn",
        "created": 1_700_000_000,
        "client_secret": "pi_1_secret_x",
        "metadata": {"reference": REFERENCE},
        "cancellation_reason": None,
        "last_payment_error": None,
        "latest_charge": None,
        "next_action": None,
        "payment_method": None,
        "customer": None,
    } | changes


def stripe_refund(status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "status": status,
        "amount": 200_000,
        "currency": "ngn",
        "payment_intent": "pi_1",
        "metadata": {"reference": "refund-" + REFERENCE},
    } | changes


def stripe_error(type_: str = "invalid_request_error", **fields: Any) -> dict[str, Any]:
    return {"error": {"type": type_, "message": "No such thing: ada@example.test"} | fields}


def stripe_list(*items: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "url": "/", "has_more": has_more, "data": list(items)}


def envelope(data: Any, **more: Any) -> dict[str, Any]:
    return {"status": True, "message": "ok", "data": data} | more


def transaction(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": 302961,
        "status": status,
        "reference": REFERENCE,
        "amount": 500_000,
        "currency": "NGN",
        "gateway_response": "Approved",
        "created_at": "2016-09-30T21:09:56.000Z",
        "authorization": {},
        "customer": {"customer_code": "CUS_1", "email": "ada@example.test"},
        "metadata": "",
    } | changes


def paystack_refund(status: str = "pending", **changes: Any) -> dict[str, Any]:
    return {
        "id": 77,
        "transaction": 302961,
        "status": status,
        "amount": 200_000,
        "currency": "NGN",
        "merchant_note": "refund-" + REFERENCE,
        "createdAt": "2016-09-30T21:09:56.000Z",
    } | changes


def transfer(status: str = "pending", **changes: Any) -> dict[str, Any]:
    return {
        "id": 451930323,
        "transfer_code": "TRF_1",
        "reference": REFERENCE,
        "status": status,
        "amount": 500_000,
        "currency": "NGN",
        "fee_charged": 2_500,
        "gateway_response": None,
        "recipient": {"recipient_code": "RCP_1", "details": {"account_number": "0123456789", "bank_code": "058"}},
        "createdAt": "2024-02-01T08:32:21.000Z",
    } | changes


def paystack_error(message: str, **fields: Any) -> dict[str, Any]:
    return {"status": False, "message": message, "meta": {"nextStep": "…"}} | fields
