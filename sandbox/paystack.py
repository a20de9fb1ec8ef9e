"""Paystack's API under `/paystack`: initialize, verify, list, charge_authorization, refunds.

Endpoints read the JSON, say what the call is about and leave the rest to `exchange.perform`; the life of a transaction
is in `paystack_states.py`.
"""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox import faults, paystack_states
from sandbox import paystack_objects as wire
from sandbox.answers import Answer
from sandbox.book import Tx
from sandbox.faults import Fault, Target
from sandbox.paystack_requests import Body, Effect, between, call, endpoint, page_meta, page_size, whole
from sandbox.records import (
    Account,
    Payment,
    find_by_reference,
    find_instrument,
    list_payments,
    list_refunds,
    new_id,
    payment_of,
    save_payment,
)

_REFERENCE = re.compile(r"[-.=A-Za-z0-9]{1,100}", re.ASCII)


async def _call(
    request: Request, operation: str, reference: str | None, effect: Effect, amount: Any = None
) -> Response:
    def locate(tx: Tx, account: Account) -> Target:
        p = find_by_reference(tx, account.secret_key, reference) if reference else None
        stated = amount if isinstance(amount, int) else (p.amount if p else None)
        return Target(reference, stated, str(wire.number(p)) if p else None)

    return await call(request, operation, effect, locate)


def _new_reference(body: Body, tx: Tx, account: Account) -> str:
    """The merchant's reference, or one of ours. Raises Refusal for one that was used before."""
    found = body.text("reference")
    if found is None:
        return new_id("T")[2:]
    if not _REFERENCE.fullmatch(found):
        raise wire.refusal(400, "Invalid transaction reference", "invalid_reference", "Only -, ., = and alphanumerics")
    if find_by_reference(tx, account.secret_key, found):
        next_step = "Try and create the Transaction or Charge with a new reference"
        raise wire.refusal(400, "Duplicate Transaction Reference", "duplicate_reference", next_step)
    return found


def _page_url(request: Request, p: Payment) -> str:
    return f"{request.base_url}paystack/checkout/{p.access}"


async def initialize(request: Request, body: Body) -> Response:
    """POST /transaction/initialize."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        p = paystack_states.begin(
            account, _new_reference(body, tx, account), body.charge_amount(), body.currency(), body.email()
        )  # fmt: skip
        p.amount = faults.wrong(p.amount, fault)
        p.doc |= {"metadata": body.values.get("metadata"), "callback_url": body.text("callback_url")}
        if fault.kind == "decline":  # met by the payer on the page
            p.doc["next_outcome"] = "decline"
        save_payment(tx, p)
        data = {"authorization_url": _page_url(request, p), "access_code": p.access, "reference": p.reference}
        return wire.ok("Authorization URL created", data)

    return await _call(request, "paystack.initialize", body.text("reference"), effect, body.values.get("amount"))


async def verify(request: Request, body: Body) -> Response:
    """GET /transaction/verify/{reference}."""
    reference = request.path_params["reference"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        p = find_by_reference(tx, account.secret_key, reference)
        if p is None:
            next_step = "Ensure that you're passing the reference of a transaction that exists on this integration"
            raise wire.refusal(404, "Transaction reference not found", "transaction_not_found", next_step)
        return wire.ok("Verification successful", {**wire.transaction(p), "amount": faults.wrong(p.amount, fault)})

    return await _call(request, "paystack.verify", reference, effect)


async def list_transactions(request: Request, body: Body) -> Response:
    """GET /transaction: newest first; `from`, `to`, `status`, and `perPage` with `page`, or `use_cursor` with `next`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = between(body)
        if body.text("status"):
            raw = {"abandoned": "('open', 'closed')"}.get(body.values["status"])
            sql, values = (
                (f"{sql} and status in {raw}", values)
                if raw
                else (f"{sql} and status = ?", [*values, body.values["status"]])
            )
        if body.values.get("use_cursor") == "true":
            return _cursor_page(tx, account, body, sql, values)
        size, page = page_size(body), whole(body, "page", 1, 100_000)
        rows = list_payments(tx, account.secret_key, sql, *values, limit=size, offset=size * (page - 1))
        totals = tx.row(
            f"select count(*) as n, coalesce(sum(captured), 0) as volume from payments where account = ? and {sql}",  # noqa: S608
            account.secret_key,
            *values,
        )
        assert totals is not None
        meta = {**page_meta(totals["n"], size, page), "total_volume": totals["volume"]}
        return wire.ok("Transactions retrieved", [wire.listed(p) for p in rows], meta=meta)

    return await _call(request, "paystack.list", None, effect)


def _cursor_page(tx: Tx, account: Account, body: Body, sql: str, values: list[Any]) -> Answer:
    size, after = page_size(body), body.text("next")
    if after:
        found = list_payments(tx, account.secret_key, "id = ?", after, limit=1)
        if not found:
            raise wire.refusal(400, "Invalid cursor", "invalid_params")
        sql, values = f"{sql} and seq < ?", [*values, found[0].seq]
    rows = list_payments(tx, account.secret_key, sql, *values, limit=size + 1)
    meta = {"next": rows[size - 1].id if len(rows) > size else None, "previous": None, "perPage": size}
    return wire.ok("Transactions retrieved", [wire.listed(p) for p in rows[:size]], meta=meta)


async def charge_authorization(request: Request, body: Body) -> Response:
    """POST /transaction/charge_authorization."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        code = body.text("authorization_code")
        saved = find_instrument(tx, account.secret_key, code) if code else None
        if saved is None:
            raise wire.refusal(400, "Invalid authorization code", "invalid_params")
        email = body.email()
        if saved.customer != email:
            message = (
                "Email does not match Authorization code. Authorization may be inactive or belong to a different email."
            )
            raise wire.refusal(400, message, "invalid_params")
        reference = _new_reference(body, tx, account)
        p = paystack_states.begin(account, reference, body.charge_amount(), body.currency(), email)
        p.amount = faults.wrong(p.amount, fault)
        p.doc["metadata"] = body.values.get("metadata")
        save_payment(tx, p)
        if fault.kind == "requires_action":
            data = {
                "authorization_url": _page_url(request, p),
                "reference": reference,
                "access_code": p.access,
                "paused": True,
            }
            return wire.ok("Please, redirect your customer to the authorization url provided", data)
        paystack_states.charge(tx, account, p, saved, fault.kind == "decline")
        return wire.ok("Charge attempted", wire.charged(p))

    return await _call(request, "paystack.charge", body.text("reference"), effect, body.values.get("amount"))


def _transaction(tx: Tx, account: Account, named: Any) -> Payment | None:
    """A transaction by reference or by number, either of which Paystack takes."""
    named = str(named)
    found = find_by_reference(tx, account.secret_key, named)
    if found is None and named.isascii() and named.isdigit() and len(named) < 16:
        rows = list_payments(tx, account.secret_key, "seq = ?", int(named) - wire.FIRST_ID, limit=1)
        found = rows[0] if rows else None
    return found


async def create_refund(request: Request, body: Body) -> Response:
    """POST /refund."""
    named = body.values.get("transaction")

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        p = _transaction(tx, account, named) if isinstance(named, str | int) else None
        if p is None:
            raise wire.refusal(404, "Transaction not found", "transaction_not_found")
        currency = body.text("currency")
        if currency and currency != p.currency:
            raise wire.refusal(400, "Refund currency must be the currency of the transaction", "invalid_params")
        default = f"Refund for transaction {p.reference}"
        notes = {name: body.text(name) or default for name in ("customer_note", "merchant_note")}
        r = paystack_states.refund(tx, account, p, (body.amount(), notes), fault)
        return wire.ok("Refund has been queued for processing", wire.created_refund(r, p))

    return await _call(request, "paystack.refund", str(named), effect, body.values.get("amount"))


async def list_refund_pages(request: Request, body: Body) -> Response:
    """GET /refund: newest first; `transaction`, `from`, `to`, `perPage`, `page`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = between(body)
        named = body.text("transaction") or body.text("reference")
        if named:
            p = _transaction(tx, account, named)
            sql, values = f"{sql} and payment = ?", [*values, p.seq if p else 0]
        size, page = page_size(body), whole(body, "page", 1, 100_000)
        found = list_refunds(tx, account.secret_key, sql, *values, limit=size, offset=size * (page - 1))
        total = tx.row(f"select count(*) as n from refunds where account = ? and {sql}", account.secret_key, *values)  # noqa: S608
        assert total is not None
        meta = {**page_meta(total["n"], size, page), "failedRefundCount": 0}
        return wire.ok("Refunds retrieved", [wire.refund(r, payment_of(tx, r)) for r in found], meta=meta)

    return await _call(request, "paystack.list_refunds", body.text("transaction"), effect)


async def get_refund(request: Request, body: Body) -> Response:
    """GET /refund/{id}."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        found = list_refunds(tx, account.secret_key, "seq = ?", request.path_params["refund"] - 15_000_000, limit=1)
        if not found:
            raise wire.refusal(404, "Refund not found", "refund_not_found")
        shown = wire.refund(found[0], payment_of(tx, found[0]))
        return wire.ok("Refund retrieved", {**shown, "amount": faults.wrong(found[0].amount, fault)})

    return await _call(request, "paystack.get_refund", None, effect)


routes = [
    Route("/paystack/transaction/initialize", endpoint(initialize), methods=["POST"]),
    Route("/paystack/transaction/verify/{reference}", endpoint(verify), methods=["GET"]),
    Route("/paystack/transaction/charge_authorization", endpoint(charge_authorization), methods=["POST"]),
    Route("/paystack/transaction", endpoint(list_transactions), methods=["GET"]),
    Route("/paystack/refund", endpoint(create_refund), methods=["POST"]),
    Route("/paystack/refund", endpoint(list_refund_pages), methods=["GET"]),
    Route("/paystack/refund/{refund:int}", endpoint(get_refund), methods=["GET"]),
]
