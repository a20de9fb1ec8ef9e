"""The sandbox's own API under `/_sandbox`: accounts, faults, clock, money that settles, and reading the book.

JSON in and out; an error is `{"error": "a sentence"}` with 400 or 404. Nothing here exists at the real providers.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import clock, faults, mail, planted
from sandbox.book import Tx
from sandbox.exchange import desk_of, read_body
from sandbox.pages import money, page
from sandbox.records import (
    Account,
    Payment,
    find_account,
    find_by_reference,
    find_payment,
    list_payments,
    list_refunds,
    payment_of,
    save_instrument,
)
from sandbox.records import find_instrument as _find_instrument
from sandbox.transfers import Transfer, balances, find_transfer, list_transfers, recipient_of, top_up

Body = dict[str, Any]
Work = Callable[[Tx, Body], Any]


class NotFound(ValueError):
    """Something named in the request does not exist."""


def _endpoint(work: Work) -> Callable[[Request], Awaitable[Response]]:
    """One transaction with the request's JSON (or query) as input; ValueError becomes a 400, NotFound a 404."""

    async def endpoint(request: Request) -> Response:
        desk = desk_of(request)
        try:
            body: Body = dict(request.query_params)
            if request.method == "POST":
                given = json.loads(await read_body(request))
                if not isinstance(given, dict):
                    raise ValueError("send a JSON object")
                body |= given
            body |= request.path_params
            result = await desk.book.run(lambda tx: work(tx, body))
        except NotFound as error:
            return JSONResponse({"error": str(error)}, 404)
        except (ValueError, RecursionError) as error:
            return JSONResponse({"error": str(error)}, 400)
        desk.courier.wake()
        return JSONResponse(result)

    return endpoint


def _text(body: Body, name: str, default: str | None = None) -> str:
    found = body.get(name, default)
    if not isinstance(found, str) or (default is None and not found):
        raise ValueError(f"{name} is required, as text")
    return found


def _account(tx: Tx, body: Body) -> Account:
    account = find_account(tx, _text(body, "secret_key"))
    if account is None:
        raise NotFound("no account has this secret_key")
    return account


def put_account(tx: Tx, body: Body) -> Body:
    """Register an account, or change its merchant name and webhook. A known key keeps its payments and clock."""
    provider, key = _text(body, "provider"), _text(body, "secret_key")
    if provider not in clock.PROVIDERS:
        raise ValueError(f"provider is one of {', '.join(clock.PROVIDERS)}")
    known = find_account(tx, key)
    if known is not None and known.provider != provider:
        raise ValueError(f"this secret_key belongs to a {known.provider} account")
    secret = _text(body, "webhook_secret", "")
    url = _text(body, "webhook_url", "")
    if url and provider == "stripe" and not secret:
        raise ValueError("a stripe account with a webhook_url needs a webhook_secret")
    tx.run(
        "insert into accounts (secret_key, provider, merchant, webhook_url, webhook_secret, created)"
        " values (?,?,?,?,?, unixepoch()) on conflict (secret_key) do update set"
        " merchant=excluded.merchant, webhook_url=excluded.webhook_url, webhook_secret=excluded.webhook_secret",
        key, provider, _text(body, "merchant", known.merchant if known else "Test merchant"), url, secret,
    )  # fmt: skip
    return {"provider": provider, "webhook_url": url}


def add_fault(tx: Tx, body: Body) -> Body:
    """Plan a fault."""
    return {"id": faults.plan(tx, _account(tx, body).secret_key, body)}


def get_faults(tx: Tx, body: Body) -> Body:
    """Planned faults with how often each fired, and the seed."""
    account = _account(tx, body)
    return {"faults": faults.describe(tx, account.secret_key), "seed": account.seed}


def clear_faults(tx: Tx, body: Body) -> Body:
    """Remove planned faults and the seed."""
    account = _account(tx, body)
    tx.run("delete from faults where account = ?", account.secret_key)
    tx.run("delete from calls where account = ?", account.secret_key)
    tx.run("update accounts set seed = null where secret_key = ?", account.secret_key)
    return {"cleared": True}


def seed_faults(tx: Tx, body: Body) -> Body:
    """Draw random faults from now on: `seed`, `rates` by kind; optional `operations`, `seconds`, `params`."""
    account = _account(tx, body)
    rates = body.get("rates")
    known = faults.API_KINDS | faults.WEBHOOK_KINDS
    if not isinstance(rates, dict) or not rates or set(rates) - known:
        raise ValueError(f"rates maps kinds to shares of calls; kinds: {', '.join(sorted(known))}")
    if any(
        not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1 for rate in rates.values()
    ):
        raise ValueError("a rate is between 0 and 1")
    if isinstance(body.get("seed"), bool) or not isinstance(body.get("seed"), int | str):
        raise ValueError("seed is a number or text")
    seed = {name: body[name] for name in ("seed", "rates", "operations", "seconds", "params") if name in body}
    tx.run("delete from calls where account = ?", account.secret_key)
    tx.run("update accounts set seed = ? where secret_key = ?", json.dumps(seed), account.secret_key)
    return {"seed": seed}


def move_clock(tx: Tx, body: Body) -> Body:
    """Set the account's business time (ISO 8601 with offset)."""
    at = datetime.fromisoformat(_text(body, "now"))
    if at.tzinfo is None:
        raise ValueError("now needs an offset")
    return {"now": clock.set_clock(tx, _account(tx, body), int(at.timestamp())).clock}


def _named_payment(tx: Tx, account: Account, body: Body) -> Payment:
    found: Payment | None = None
    if body.get("payment_id"):
        found = find_payment(tx, account.secret_key, _text(body, "payment_id"))
    elif body.get("reference"):
        found = find_by_reference(tx, account.secret_key, _text(body, "reference"))
    if found is None:
        raise NotFound("no such payment: give payment_id or reference")
    return found


def settle(tx: Tx, body: Body) -> Body:
    """Decide slow money, a pending refund (`refund_id`), or a transfer (`transfer`: its code or reference)."""
    account, outcome = _account(tx, body), body.get("outcome")
    if body.get("transfer"):
        return _settle_transfer(tx, account, _text(body, "transfer"), _text(body, "outcome"))
    if outcome not in {"succeeded", "failed"}:
        raise ValueError("outcome is succeeded or failed")
    provider = clock.PROVIDERS[account.provider]
    if body.get("refund_id"):
        wanted = str(body["refund_id"])
        refunds = [
            r for r in list_refunds(tx, account.secret_key, limit=10_000) if wanted in {r.id, _refund_id(account, r)}
        ]
        if not refunds:
            raise NotFound("no such refund")
        provider.finish_refund(tx, account, refunds[0], outcome == "succeeded")
        return {"refund_id": wanted, "status": refunds[0].status}
    payment = _named_payment(tx, account, body)
    provider.settle(tx, account, payment, outcome == "succeeded")
    return {"payment_id": payment.id, "status": payment.status}


def _settle_transfer(tx: Tx, account: Account, named: str, outcome: str) -> Body:
    transfer = find_transfer(tx, account.secret_key, named)
    life = clock.PROVIDERS[account.provider].transfers
    if transfer is None or life is None:
        raise NotFound("no such transfer")
    life.finish(tx, account, transfer, outcome)
    return {"transfer": transfer.id, "status": transfer.status}


def add_money(tx: Tx, body: Body) -> Body:
    """Top the account up: the merchant's own money, for transfers."""
    account, amount = _account(tx, body), body.get("amount")
    if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
        raise ValueError("amount is a positive integer")
    currency = _text(body, "currency").upper()
    top_up(tx, account.secret_key, currency, amount, account.now())
    return {"currency": currency, "balance": balances(tx, account.secret_key)[currency]}


def plant_orphan(tx: Tx, body: Body) -> Body:
    """Book a captured payment nobody asked for; sends no event."""
    account, amount = _account(tx, body), body.get("amount")
    if body.get("provider", account.provider) != account.provider:
        raise ValueError(f"this is a {account.provider} account")
    if not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
        raise ValueError("amount is a positive integer")
    reference = body.get("reference")
    payment = clock.PROVIDERS[account.provider].plant(tx, account, amount, _text(body, "currency"), reference)
    return _payment_row(account, payment)


def plant_payments(tx: Tx, body: Body) -> Body:
    """Book many card payments at once, `captured` or held; sends no event."""
    account, given = _account(tx, body), body.get("payments")
    if not isinstance(given, list):
        raise ValueError("payments is a list")
    made = planted.plant_many(tx, account, _text(body, "currency"), given, captured=body.get("captured") is True)
    return {"planted": made}


def change_instrument(tx: Tx, body: Body) -> Body:
    """Make a saved payment method decline from now on, or work again."""
    account, wanted = _account(tx, body), body.get("decline")
    if not isinstance(wanted, bool):
        raise ValueError("decline is true or false")
    instrument = _find_instrument(tx, account.secret_key, body["instrument"])
    if instrument is None:
        raise NotFound("no such instrument")
    instrument.decline = wanted
    save_instrument(tx, instrument)
    return {"id": instrument.id, "decline": wanted}


def _refund_id(account: Account, refund: Any) -> str:
    """The refund's id as the merchant knows it."""
    return str(15_000_000 + refund.seq) if account.provider == "paystack" else str(refund.id)


def _payment_row(account: Account, p: Payment) -> Body:
    wire_id = str(4_100_000_000 + p.seq) if account.provider == "paystack" else p.id
    shown = {
        name: getattr(p, name)
        for name in ("reference", "amount", "currency", "status", "captured", "refunded", "created")
    }
    return {"id": wire_id, "payment_id": p.id, **shown}


def read_book(tx: Tx, body: Body) -> Body:
    """All payments, refunds and transfers of the account, oldest first, and what it holds by currency."""
    account = _account(tx, body)
    refunds = []
    for r in reversed(list_refunds(tx, account.secret_key, limit=1_000_000)):
        p = payment_of(tx, r)
        note = r.doc.get("metadata", {}).get("reference") or r.doc.get("merchant_note")
        row = {"id": _refund_id(account, r), "reference": note, "payment_id": p.id, "payment_reference": p.reference}
        refunds.append({**row, "amount": r.amount, "currency": p.currency, "status": r.status})
    payments = [_payment_row(account, p) for p in reversed(list_payments(tx, account.secret_key, limit=1_000_000))]
    transfers = [_transfer_row(tx, t) for t in reversed(list_transfers(tx, account.secret_key, limit=1_000_000))]
    held = balances(tx, account.secret_key)
    return {"now": account.now(), "payments": payments, "refunds": refunds, "transfers": transfers, "balances": held}


def _transfer_row(tx: Tx, t: Transfer) -> Body:
    names = ("id", "reference", "amount", "currency", "status", "taken", "created")
    return {**{name: getattr(t, name) for name in names}, "recipient": recipient_of(tx, t).id}


def read_mail(tx: Tx, body: Body) -> Any:
    """Mails, oldest first; `to` narrows."""
    return mail.inbox(tx, body.get("to"))


def read_webhooks(tx: Tx, body: Body) -> Body:
    """Deliveries of the account, oldest first, each with its attempts."""
    sql = "select * from deliveries where account = ? order by id"
    rows = [dict(row) for row in tx.rows(sql, _account(tx, body).secret_key)]
    for row in rows:
        row |= {"forged": bool(row["forged"]), "log": json.loads(row["log"]), "body": json.loads(row["body"])}
        del row["account"]
    return {"deliveries": rows}


async def index(request: Request) -> Response:
    """GET /: what is in the book, for a person."""

    def work(tx: Tx) -> Body:
        accounts = [
            find_account(tx, row["secret_key"]) for row in tx.rows("select secret_key from accounts order by created")
        ]
        shown = [_index_account(tx, account) for account in accounts[-50:] if account is not None]
        mails = tx.row("select count(*) as n from mails")
        return {"accounts": shown, "mails": mails["n"] if mails else 0}

    return page("index.html", **await desk_of(request).book.run(work), smtp_port=request.app.state.smtp_port)


def _index_account(tx: Tx, account: Account) -> Body:
    rows = []
    for p in list_payments(tx, account.secret_key, limit=20):
        link = f"paystack/checkout/{p.access}" if account.provider == "paystack" else f"stripe/pay/{p.access}"
        link = f"stripe/3ds/{p.id}" if p.status == "requires_action" else link
        sums = {"money": p.amount, "captured_money": p.captured, "refunded_money": p.refunded}
        shown = {name: money(amount, p.currency, account.provider) for name, amount in sums.items()}
        rows.append({**_payment_row(account, p), "link": f"/{link}", **shown})
    sent = [
        {**_transfer_row(tx, t), "money": money(t.amount, t.currency, account.provider)}
        for t in list_transfers(tx, account.secret_key, limit=20)
    ]
    held = [money(amount, currency, account.provider) for currency, amount in balances(tx, account.secret_key).items()]
    hint = account.secret_key[:8] + "…" + account.secret_key[-4:]
    at = datetime.fromtimestamp(account.now(), UTC).isoformat(" ")
    return {"account": account, "key": hint, "clock": at, "payments": rows, "transfers": sent, "balances": held}


async def health(request: Request) -> Response:
    """GET /healthz: the book can be read."""
    await desk_of(request).book.run(lambda tx: tx.row("select 1"))
    return JSONResponse({"status": "ok", "smtp_port": request.app.state.smtp_port})


routes = [
    Route("/", index, methods=["GET"]),
    Route("/healthz", health, methods=["GET"]),
    Route("/_sandbox/accounts", _endpoint(put_account), methods=["POST"]),
    Route("/_sandbox/faults", _endpoint(add_fault), methods=["POST"]),
    Route("/_sandbox/faults", _endpoint(get_faults), methods=["GET"]),
    Route("/_sandbox/faults", _endpoint(clear_faults), methods=["DELETE"]),
    Route("/_sandbox/faults/seed", _endpoint(seed_faults), methods=["POST"]),
    Route("/_sandbox/clock", _endpoint(move_clock), methods=["POST"]),
    Route("/_sandbox/settle", _endpoint(settle), methods=["POST"]),
    Route("/_sandbox/topup", _endpoint(add_money), methods=["POST"]),
    Route("/_sandbox/payments/orphan", _endpoint(plant_orphan), methods=["POST"]),
    Route("/_sandbox/payments/many", _endpoint(plant_payments), methods=["POST"]),
    Route("/_sandbox/instruments/{instrument}", _endpoint(change_instrument), methods=["POST"]),
    Route("/_sandbox/book", _endpoint(read_book), methods=["GET"]),
    Route("/_sandbox/mail", _endpoint(read_mail), methods=["GET"]),
    Route("/_sandbox/webhooks", _endpoint(read_webhooks), methods=["GET"]),
]
