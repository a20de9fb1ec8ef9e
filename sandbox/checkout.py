"""The provider's hosted pages: Paystack checkout, Stripe 3-D Secure, and a Stripe card page.

    /paystack/checkout/{access_code}    pay by card or (slow) bank transfer, decline, cancel
    /stripe/3ds/{payment_intent}        authenticate a PaymentIntent that requires action
    /stripe/pay/{client_secret}         pay a PaymentIntent with pm_card_visa, as Stripe's own client library would;
                                        `?return_url=` says where to go afterwards

Plain forms, no script: buttons `#pay`, `#decline`, `#cancel`. Afterwards the payer returns to the merchant with the
provider's usual parameters, or sees the result here. Every path works without faults: they belong to the API.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox import clock, paystack_states, stripe_states
from sandbox.answers import Refusal
from sandbox.book import Tx
from sandbox.exchange import desk_of, read_body
from sandbox.pages import money, page, way_back
from sandbox.records import Account, Payment, find_account, find_by_access, find_payment

Act = Callable[[Tx, Account, Payment], None]
Found = tuple[Account, Payment] | None


def _by_access(tx: Tx, access: str) -> Found:
    payment = find_by_access(tx, access)
    return _with_account(tx, payment)


def _by_intent(tx: Tx, intent: str) -> Found:
    row = tx.row("select account from payments where id = ?", intent)
    return _with_account(tx, find_payment(tx, row["account"], intent)) if row else None


def _with_account(tx: Tx, payment: Payment | None) -> Found:
    account = find_account(tx, payment.account) if payment else None
    return (account, payment) if account and payment else None


async def _do(request: Request, find: Callable[[Tx], Found], act: Act) -> Found:
    """Find the payment, bring business time up to date, act, and return what came of it."""

    def work(tx: Tx) -> Found:
        found = find(tx)
        if found is None:
            return None
        clock.catch_up(tx, found[0])
        account, payment = find(tx) or found
        try:
            act(tx, account, payment)
        except Refusal:  # the payment moved on while the page was open: show how it stands
            return find(tx)
        return account, payment

    found = await desk_of(request).book.run(work)
    desk_of(request).courier.wake()
    return found


async def _form(request: Request) -> dict[str, str]:
    try:
        raw = (await read_body(request)).decode("utf-8", "replace")
    except ValueError:
        return {}
    return {name: values[-1] for name, values in parse_qs(raw).items()}


def _look(tx: Tx, account: Account, payment: Payment) -> None:
    """Only look."""


def _ask(account: Account, p: Payment, **more: Any) -> Response:
    shown = money(p.amount, p.currency, account.provider)
    return page("checkout.html", merchant=account.merchant, amount=shown, reference=p.reference or p.id, **more)


def _result(account: Account, p: Payment, outcome: str, back: str | None) -> Response:
    """The payer's last page here: on to the merchant, or the result in words."""
    if back:
        return RedirectResponse(back, 303)
    titles = {"paid": "Payment successful", "pending": "Payment on its way", "failed": "Payment declined"}
    title = titles.get(outcome, "Payment not completed")
    shown = money(p.amount, p.currency, account.provider)
    return page(
        "done.html",
        title=title,
        outcome=outcome,
        amount=shown,
        merchant=account.merchant,
        reference=p.reference or p.id,
    )


def _unknown() -> Response:
    return page(
        "done.html", status=404, title="Unknown payment", outcome="unknown", amount="", merchant="", reference=""
    )


async def paystack_page(request: Request) -> Response:
    """GET and POST /paystack/checkout/{access_code}."""
    choice = (await _form(request)).get("choice", "") if request.method == "POST" else ""

    def act(tx: Tx, account: Account, p: Payment) -> None:
        if choice == "pay":
            paystack_states.pay(tx, account, p)
        elif choice == "bank":
            paystack_states.pay(tx, account, p, "bank_transfer")
        elif choice == "decline" and p.status in paystack_states.PAYABLE:
            paystack_states.decline(tx, p)
        elif not choice:
            paystack_states.opened(tx, p)

    found = await _do(request, lambda tx: _by_access(tx, request.path_params["access"]), act)
    if found is None or found[0].provider != "paystack":
        return _unknown()
    account, p = found
    if p.status in paystack_states.PAYABLE and choice != "cancel":
        return _ask(account, p, provider="Paystack", heading="Pay", bank=True)
    outcome = {"success": "paid", "reversed": "paid", "pending": "pending", "failed": "failed"}.get(p.status, "unpaid")
    reference = p.reference or ""
    back = way_back(p.doc.get("callback_url"), trxref=reference, reference=reference) if choice else None
    return _result(account, p, outcome, back)


async def stripe_3ds(request: Request) -> Response:
    """GET and POST /stripe/3ds/{payment_intent}."""
    choice = (await _form(request)).get("choice", "") if request.method == "POST" else ""

    def act(tx: Tx, account: Account, p: Payment) -> None:
        if choice in {"pay", "decline"}:
            stripe_states.authenticate(tx, account, p, choice == "pay")

    found = await _do(request, lambda tx: _by_intent(tx, request.path_params["intent"]), act)
    if found is None:
        return _unknown()
    account, p = found
    if p.status == "requires_action" and choice != "cancel":
        return _ask(account, p, provider="Stripe", heading="Confirm with your bank", pay_label="Approve")
    return _result(account, p, _stripe_outcome(p), _stripe_back(p, p.doc.get("return_url")) if choice else None)


async def stripe_card(request: Request) -> Response:
    """GET and POST /stripe/pay/{client_secret}."""
    form = await _form(request) if request.method == "POST" else {}
    choice = form.get("choice", "")
    return_url = form.get("return_url") or request.query_params.get("return_url")
    methods = {"pay": "pm_card_visa", "decline": "pm_card_chargeDeclined"}

    def act(tx: Tx, account: Account, p: Payment) -> None:
        if choice in methods:
            how = stripe_states.Confirmation(methods[choice], str(request.base_url), return_url)
            stripe_states.confirm(tx, account, p, how)

    found = await _do(request, lambda tx: _by_access(tx, request.path_params["access"]), act)
    if found is None or found[0].provider != "stripe":
        return _unknown()
    account, p = found
    if p.status == "requires_action":
        return RedirectResponse(p.doc["action_url"], 303)
    payable = p.status in {"requires_payment_method", "requires_confirmation"}
    if payable and choice != "cancel":
        notice = "Your card was declined. Try again." if choice == "decline" else ""
        return _ask(account, p, provider="Stripe", heading="Pay by card", return_url=return_url, notice=notice)
    back = _stripe_back(p, return_url or p.doc.get("return_url")) if choice else None
    return _result(account, p, _stripe_outcome(p), back)


def _stripe_outcome(p: Payment) -> str:
    if p.status in {"succeeded", "requires_capture"}:
        return "paid"
    if p.status == "processing":
        return "pending"
    return "failed" if p.doc.get("last_payment_error") else "unpaid"


def _stripe_back(p: Payment, return_url: str | None) -> str | None:
    words = {"paid": "succeeded", "pending": "pending"}
    status = words.get(_stripe_outcome(p), "failed")
    return way_back(return_url, payment_intent=p.id, payment_intent_client_secret=p.access, redirect_status=status)


routes = [
    Route("/paystack/checkout/{access}", paystack_page, methods=["GET", "POST"]),
    Route("/stripe/3ds/{intent}", stripe_3ds, methods=["GET", "POST"]),
    Route("/stripe/pay/{access}", stripe_card, methods=["GET", "POST"]),
]
