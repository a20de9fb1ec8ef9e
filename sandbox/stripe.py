"""Stripe's API under `/stripe/v1`: PaymentIntents, refunds, customers, charges.

Endpoints read the form, say what the call is about and leave the rest to `exchange.perform`; the life of a payment is
in `stripe_states.py`. `metadata[reference]` is the merchant reference by which faults and the book name a payment.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import faults, stripe_states
from sandbox import stripe_objects as wire
from sandbox.answers import Answer, Refusal
from sandbox.book import Tx
from sandbox.exchange import Call, perform
from sandbox.faults import Fault, Target
from sandbox.records import (
    Account,
    Payment,
    Refund,
    find_account,
    find_by_access,
    find_payment,
    find_refund,
    list_payments,
    list_refunds,
    new_id,
    payment_of,
    save_payment,
)
from sandbox.stripe_forms import Form, created_range, read_form, search_clauses, secret_key
from sandbox.stripe_states import Confirmation

Effect = Callable[[Tx, Account, Fault], Answer]
Locate = Callable[[Tx, Account], Target]
CREATE_PARAMS = (
    "amount", "currency", "automatic_payment_methods", "capture_method", "confirm", "confirmation_method", "customer",
    "description", "expand", "metadata", "off_session", "payment_method", "payment_method_types", "receipt_email",
    "return_url", "setup_future_usage", "statement_descriptor", "statement_descriptor_suffix",
)  # fmt: skip
CONFIRM_PARAMS = (
    "client_secret", "capture_method", "expand", "off_session", "payment_method", "payment_method_types", "receipt_email",
    "return_url", "setup_future_usage", "use_stripe_sdk", "key",
)  # fmt: skip
CANCEL_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
REFUND_REASONS = ("duplicate", "fraudulent", "requested_by_customer")


async def _call(request: Request, operation: str, form: Form, effect: Effect, locate: Locate | None = None) -> Response:
    key, access = secret_key(request), form.text("client_secret")

    def identify(tx: Tx) -> Account | None:
        if not key and access:  # a payer's device knows only the client secret
            payment = find_by_access(tx, access)
            return find_account(tx, payment.account, "stripe") if payment else None
        return find_account(tx, key, "stripe")

    call = Call(wire.VENDOR, operation, identify, effect, locate or (lambda tx, account: Target()), form.idempotency)
    response = await perform(request, call)
    response.headers["Request-Id"] = new_id("req")
    response.headers["Stripe-Version"] = request.headers.get("stripe-version", wire.API_VERSION)
    return response


def _endpoint(handler: Callable[[Request, Form], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Read the form; a request that cannot be read is refused before the book is asked."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request, await read_form(request))
        except Refusal as refusal:
            return JSONResponse(refusal.answer.body, refusal.answer.status)

    return endpoint


def _intent(tx: Tx, account: Account, intent: str, form: Form) -> Payment:
    payment = find_payment(tx, account.secret_key, intent)
    if payment is None or form.values.get("client_secret", payment.access) != payment.access:
        raise wire.missing("payment_intent", intent)
    return payment


def _about(intent: str) -> Locate:
    """The target of a call on one PaymentIntent."""

    def locate(tx: Tx, account: Account) -> Target:
        p = find_payment(tx, account.secret_key, intent)
        return Target(p.reference, p.amount, p.id) if p else Target(payment_id=intent)

    return locate


async def create(request: Request, form: Form) -> Response:
    """POST /v1/payment_intents."""
    reference = form.values.get("metadata[reference]")
    base_url = str(request.base_url)
    amount = form.values.get("amount", "")
    target = Target(reference, int(amount) if amount.isascii() and amount.isdigit() else None)
    return await _call(
        request, "stripe.create", form, lambda tx, account, fault: _create(tx, account, fault, form, base_url),
        lambda tx, account: target,
    )  # fmt: skip


def _create(tx: Tx, account: Account, fault: Fault, form: Form, base_url: str) -> Answer:
    form.only(*CREATE_PARAMS)
    form.required("amount")
    amount, currency = form.integer("amount") or 0, form.required("currency")
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        raise wire.invalid(f"Invalid currency: {currency}.", param="currency")
    confirmed = form.boolean("confirm")
    for name in ("return_url", "off_session"):
        if form.text(name) and not confirmed:
            raise wire.invalid(f"You can only pass {name} when confirm is true.", param=name)
    customer = form.text("customer")
    if customer and tx.row("select 1 from customers where id=? and account=?", customer, account.secret_key) is None:
        raise wire.missing("customer", customer, "customer")
    intent, metadata = new_id("pi"), form.metadata()
    method = form.text("payment_method")
    status = "requires_confirmation" if method else "requires_payment_method"
    p = Payment(
        intent, account.secret_key, metadata.get("reference"), amount, currency.lower(), status, account.now(),
        new_id(f"{intent}_secret"),
    )  # fmt: skip
    p.doc = {
        "capture_method": form.choice("capture_method", ("automatic", "automatic_async", "manual")) or "automatic",
        "customer": customer,
        "description": form.text("description"),
        "metadata": metadata,
        "payment_method": method,
        "receipt_email": form.text("receipt_email"),
        "setup_future_usage": form.choice("setup_future_usage", ("off_session", "on_session")),
        "automatic_payment_methods": {"enabled": True} if form.boolean("automatic_payment_methods[enabled]") else None,
    }
    if confirmed:
        save_payment(tx, p)
        return stripe_states.confirm(tx, account, p, _confirmation(form, p, base_url), fault)
    p.amount = faults.wrong(p.amount, fault)
    if fault.kind in {"decline", "requires_action"}:  # nothing to decline yet: the coming attempt meets it
        p.doc["next_outcome"] = fault.kind
    save_payment(tx, p)
    return Answer(200, wire.payment_intent(p))


def _confirmation(form: Form, p: Payment, base_url: str) -> Confirmation:
    method = form.text("payment_method") or p.doc.get("payment_method")
    if not method:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise wire.invalid(message, code="payment_intent_unexpected_state", payment_intent=wire.payment_intent(p))
    off_session = form.choice("off_session", ("true", "false", "one_off", "recurring")) not in {None, "false"}
    return Confirmation(method, base_url, form.text("return_url"), off_session)


async def confirm(request: Request, form: Form) -> Response:
    """POST /v1/payment_intents/{id}/confirm, with the secret key or with the client secret alone."""
    intent, base_url = request.path_params["intent"], str(request.base_url)

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        form.only(*CONFIRM_PARAMS)
        p = _intent(tx, account, intent, form)
        usage = form.choice("setup_future_usage", ("off_session", "on_session"))
        if usage:
            p.doc["setup_future_usage"] = usage
        return stripe_states.confirm(tx, account, p, _confirmation(form, p, base_url), fault)

    return await _call(request, "stripe.confirm", form, effect, _about(intent))


async def capture(request: Request, form: Form) -> Response:
    """POST /v1/payment_intents/{id}/capture."""
    intent = request.path_params["intent"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        form.only("amount_to_capture", "expand", "metadata", "statement_descriptor", "statement_descriptor_suffix")
        return stripe_states.capture(
            tx, account, _intent(tx, account, intent, form), form.integer("amount_to_capture"), fault
        )

    return await _call(request, "stripe.capture", form, effect, _about(intent))


async def cancel(request: Request, form: Form) -> Response:
    """POST /v1/payment_intents/{id}/cancel."""
    intent = request.path_params["intent"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        form.only("cancellation_reason", "expand")
        reason = form.choice("cancellation_reason", CANCEL_REASONS)
        return stripe_states.cancel(tx, account, _intent(tx, account, intent, form), reason, account.now())

    return await _call(request, "stripe.cancel", form, effect, _about(intent))


async def get(request: Request, form: Form) -> Response:
    """GET /v1/payment_intents/{id}."""
    intent = request.path_params["intent"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        p = _intent(tx, account, intent, form)
        body = wire.payment_intent(p)
        return Answer(200, {**body, "amount": faults.wrong(p.amount, fault)})

    return await _call(request, "stripe.get", form, effect, _about(intent))


async def list_intents(request: Request, form: Form) -> Response:
    """GET /v1/payment_intents: newest first, `created[gte]…`, `customer`, `limit`, `starting_after`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = created_range(form)
        bound: list[int | str] = [*values]
        limit, after = form.integer("limit", 1, 100) or 10, form.text("starting_after")
        if form.text("customer"):
            sql, bound = f"{sql} and json_extract(doc, '$.customer') = ?", [*bound, form.required("customer")]
        if after:
            sql, bound = f"{sql} and seq < ?", [*bound, _intent(tx, account, after, form).seq]
        found = list_payments(tx, account.secret_key, sql, *bound, limit=limit + 1)
        return _page("/v1/payment_intents", [wire.payment_intent(p) for p in found], limit)

    return await _call(request, "stripe.list", form, effect)


async def search(request: Request, form: Form) -> Response:
    """GET /v1/payment_intents/search?query=metadata['reference']:'…'."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = search_clauses(form.required("query"))
        limit = form.integer("limit", 1, 100) or 10
        found = list_payments(tx, account.secret_key, sql, *values, limit=limit + 1)
        page = _page("/v1/payment_intents/search", [wire.payment_intent(p) for p in found], limit).body
        return Answer(200, {**page, "object": "search_result", "next_page": None})

    return await _call(request, "stripe.search", form, effect)


def _page(url: str, found: list[wire.Wire], limit: int) -> Answer:
    return Answer(200, {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": url})


async def create_refund(request: Request, form: Form) -> Response:
    """POST /v1/refunds."""
    intent, charge = form.text("payment_intent"), form.text("charge")

    def find(tx: Tx, account: Account) -> Payment | None:
        if intent:
            return find_payment(tx, account.secret_key, intent)
        found = list_payments(tx, account.secret_key, "json_extract(doc, '$.latest_charge') = ?", charge, limit=1)
        return found[0] if charge and found else None

    def locate(tx: Tx, account: Account) -> Target:
        p = find(tx, account)
        reference = form.values.get("metadata[reference]") or (p.reference if p else None)
        return Target(reference, form.integer("amount") or (p.captured if p else None), p.id if p else intent)

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        form.only("amount", "charge", "expand", "metadata", "payment_intent", "reason", "refund_application_fee")
        if not intent and not charge:
            raise wire.invalid("One of the following params should be provided: payment_intent or charge.")
        p = find(tx, account)
        if p is None:
            raise wire.missing("payment_intent", intent or charge or "", "payment_intent")
        doc = {"metadata": form.metadata(), "reason": form.choice("reason", REFUND_REASONS)}
        return stripe_states.refund(tx, account, p, (form.integer("amount"), doc), fault)

    return await _call(request, "stripe.refund", form, effect, locate)


async def get_refund(request: Request, form: Form) -> Response:
    """GET /v1/refunds/{id}."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        r = find_refund(tx, account.secret_key, request.path_params["refund"])
        if r is None:
            raise wire.missing("refund", request.path_params["refund"], "id")
        return Answer(200, {**wire.refund(r, payment_of(tx, r)), "amount": faults.wrong(r.amount, fault)})

    return await _call(request, "stripe.get_refund", form, effect)


async def list_refund_pages(request: Request, form: Form) -> Response:
    """GET /v1/refunds: newest first, `payment_intent`, `created[gte]…`, `limit`, `starting_after`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = created_range(form)
        limit, after, intent = (
            form.integer("limit", 1, 100) or 10,
            form.text("starting_after"),
            form.text("payment_intent"),
        )
        if intent:
            sql, values = f"{sql} and payment = ?", [*values, _intent(tx, account, intent, form).seq]
        if after:
            last = find_refund(tx, account.secret_key, after)
            if last is None:
                raise wire.missing("refund", after, "starting_after")
            sql, values = f"{sql} and seq < ?", [*values, last.seq]
        found: list[Refund] = list_refunds(tx, account.secret_key, sql, *values, limit=limit + 1)
        return _page("/v1/refunds", [wire.refund(r, payment_of(tx, r)) for r in found], limit)

    return await _call(request, "stripe.list_refunds", form, effect)


async def create_customer(request: Request, form: Form) -> Response:
    """POST /v1/customers."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        form.only("email", "name", "description", "metadata", "phone", "expand")
        doc = {"email": form.text("email"), "name": form.text("name"), "description": form.text("description")}
        return Answer(200, stripe_states.new_customer(tx, account, {**doc, "metadata": form.metadata()}, account.now()))

    return await _call(request, "stripe.customer", form, effect)


async def get_charge(request: Request, form: Form) -> Response:
    """GET /v1/charges/{id}: the latest charge of a PaymentIntent."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        charge = request.path_params["charge"]
        found = list_payments(tx, account.secret_key, "json_extract(doc, '$.latest_charge') = ?", charge, limit=1)
        if not found:
            raise wire.missing("charge", charge, "id")
        return Answer(200, wire.charge(found[0]))

    return await _call(request, "stripe.get_charge", form, effect)


_V1 = "/stripe/v1"
routes = [
    Route(f"{_V1}/payment_intents", _endpoint(create), methods=["POST"]),
    Route(f"{_V1}/payment_intents", _endpoint(list_intents), methods=["GET"]),
    Route(f"{_V1}/payment_intents/search", _endpoint(search), methods=["GET"]),
    Route(f"{_V1}/payment_intents/{{intent}}", _endpoint(get), methods=["GET"]),
    Route(f"{_V1}/payment_intents/{{intent}}/confirm", _endpoint(confirm), methods=["POST"]),
    Route(f"{_V1}/payment_intents/{{intent}}/capture", _endpoint(capture), methods=["POST"]),
    Route(f"{_V1}/payment_intents/{{intent}}/cancel", _endpoint(cancel), methods=["POST"]),
    Route(f"{_V1}/refunds", _endpoint(create_refund), methods=["POST"]),
    Route(f"{_V1}/refunds", _endpoint(list_refund_pages), methods=["GET"]),
    Route(f"{_V1}/refunds/{{refund}}", _endpoint(get_refund), methods=["GET"]),
    Route(f"{_V1}/customers", _endpoint(create_customer), methods=["POST"]),
    Route(f"{_V1}/charges/{{charge}}", _endpoint(get_charge), methods=["GET"]),
]
