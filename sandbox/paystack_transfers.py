"""Paystack's API for money out, under `/paystack`: banks, account names, recipients, transfers, the balance.

The life of a transfer is in `paystack_transfer_states.py`, the test accounts are in `paystack_banks.py`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox import faults, paystack_banks
from sandbox import paystack_objects as wire
from sandbox import paystack_transfer_objects as objects
from sandbox.answers import Answer, Refusal
from sandbox.book import Tx
from sandbox.faults import Fault, Target
from sandbox.paystack_requests import Body, between, call, endpoint, page_meta, page_size, whole
from sandbox.paystack_transfer_states import require_balance, start
from sandbox.records import Account, new_id
from sandbox.transfers import (
    Recipient,
    Transfer,
    balances,
    find_recipient,
    find_transfer,
    list_transfers,
    recipient_of,
    save_recipient,
)

_REFERENCE = re.compile(r"[a-z0-9_-]{16,50}", re.ASCII)
_KINDS = ("nuban", "ghipss", "mobile_money", "basa")


async def list_banks(request: Request, body: Body) -> Response:
    """GET /bank: by `currency` or `country`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        currency, country = body.text("currency"), body.text("country")
        shown = [
            objects.bank(bank)
            for bank in paystack_banks.BANKS
            if currency in (None, bank.currency) and country in (None, bank.country.lower())
        ]
        return wire.ok("Banks retrieved", shown)

    return await call(request, "paystack.banks", effect)


async def resolve(request: Request, body: Body) -> Response:
    """GET /bank/resolve: who holds an account. Fault "decline": nobody."""
    number, code = body.text("account_number") or "", body.text("bank_code") or ""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        bank = paystack_banks.find_bank(code)
        if bank is None:
            raise wire.refusal(400, f"Unknown bank code: {code[:20]}", "invalid_bank_code")
        name = paystack_banks.holder(bank, number)
        if name is None or fault.kind == "decline":
            message = "Could not resolve account name. Check parameters or try again."
            raise wire.refusal(422, message, "invalid_params")
        return wire.ok(
            "Account number resolved", {"account_number": number, "account_name": name, "bank_id": bank.number}
        )

    return await call(request, "paystack.resolve", effect)


async def create_recipient(request: Request, body: Body) -> Response:
    """POST /transferrecipient: the same account is the same recipient, under the name it had first."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        kind, name, number = body.text("type"), body.text("name"), body.text("account_number")
        if kind not in _KINDS or name is None or number is None:
            raise wire.refusal(400, "type, name and account_number are required", "missing_params")
        bank = paystack_banks.find_bank(body.text("bank_code") or "", body.currency())
        if bank is None or bank.kind != kind:
            raise wire.refusal(400, "Bank is invalid", "invalid_bank_code", "Use the List Banks endpoint")
        if paystack_banks.holder(bank, number) is None or fault.kind == "decline":
            raise wire.refusal(400, "Account details are invalid", "invalid_bank_account")
        made = Recipient(
            new_id("RCP"), account.secret_key, kind, name, number, bank.code, bank.currency, account.now()
        )  # fmt: skip
        kept = save_recipient(tx, made)
        return Answer(201, wire.ok("Transfer recipient created successfully", objects.recipient(kept)).body)

    return await call(request, "paystack.recipient", effect)


async def initiate(request: Request, body: Body) -> Response:
    """POST /transfer.

    In which order Paystack looks for reasons to refuse is not published. Here the balance comes before the reference, which
    is harder for a client: what was sent already may be refused as too much when it is sent again.
    """
    reference = body.text("reference")

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        amount = body.charge_amount()
        to = find_recipient(tx, account.secret_key, body.text("recipient") or "")
        if body.text("source") != "balance":
            raise wire.refusal(400, "Source is required", "missing_params", "Transfers are sent from your balance")
        if to is None or to.currency != body.currency():
            next_step = "Pass the code of a recipient that takes this currency"
            raise wire.refusal(400, "Recipient specified is invalid", "invalid_transfer_recipient", next_step)
        if reference is not None and not _REFERENCE.fullmatch(reference):
            next_step = "Use 16 to 50 lower-case letters, digits, - and _"
            raise wire.refusal(400, "Invalid transfer reference", "invalid_reference", next_step)
        require_balance(tx, account, to.currency, amount)
        if reference is not None and find_transfer(tx, account.secret_key, reference) is not None:
            next_step = "Use a new reference for a new transfer"
            raise wire.refusal(400, "Duplicate Transfer Reference", "duplicate_reference", next_step)
        begun = start(tx, account, to, (reference or new_id("ref"), amount, body.text("reason")), fault)
        queued = "Transfer requires OTP to continue" if begun.status == "otp" else "Transfer has been queued"
        return wire.ok(queued, objects.created(begun))

    return await call(request, "paystack.transfer", effect, _about(reference, body.values.get("amount")))


def _about(named: str | None, amount: Any = None) -> Callable[[Tx, Account], Target]:
    """What a call is about, for faults: the transfer of that reference or code, and its amount."""

    def locate(tx: Tx, account: Account) -> Target:
        found = find_transfer(tx, account.secret_key, named) if named else None
        stated = amount if isinstance(amount, int) else (found.amount if found else None)
        return Target(found.reference if found else named, stated, found.id if found else None)

    return locate


def _shown(tx: Tx, t: Transfer | None, fault: Fault) -> Transfer:
    """The transfer, with the amount the fault makes of it; as the samples have it, "not found" carries no code."""
    if t is None:
        raise Refusal(Answer(404, {"status": False, "message": "Transfer not found"}))
    return replace(t, amount=faults.wrong(t.amount, fault))


async def verify(request: Request, body: Body) -> Response:
    """GET /transfer/verify/{reference}."""
    reference = request.path_params["reference"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        found = list_transfers(tx, account.secret_key, "reference = ?", reference, limit=1)
        t = _shown(tx, found[0] if found else None, fault)
        return wire.ok("Transfer retrieved", objects.transfer(t, recipient_of(tx, t)))

    return await call(request, "paystack.verify_transfer", effect, _about(reference))


async def fetch(request: Request, body: Body) -> Response:
    """GET /transfer/{id_or_code}."""
    named = request.path_params["named"]

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        digits = named.isascii() and named.isdigit() and len(named) < 16
        by = ("seq = ?", int(named) - objects.FIRST_TRANSFER) if digits else ("id = ?", named)
        found = list_transfers(tx, account.secret_key, *by, limit=1)
        t = _shown(tx, found[0] if found else None, fault)
        return wire.ok("Transfer retrieved", objects.fetched(t, recipient_of(tx, t)))

    return await call(request, "paystack.get_transfer", effect, _about(named))


async def list_pages(request: Request, body: Body) -> Response:
    """GET /transfer: newest first; `from`, `to`, `status`, `recipient`, `perPage`, `page`."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        sql, values = between(body)
        if body.text("status"):
            sql, values = f"{sql} and status = ?", [*values, body.values["status"]]
        if body.text("recipient"):
            to = find_recipient(tx, account.secret_key, body.values["recipient"])
            sql, values = f"{sql} and recipient = ?", [*values, to.seq if to else 0]
        size, page = page_size(body), whole(body, "page", 1, 100_000)
        found = list_transfers(tx, account.secret_key, sql, *values, limit=size, offset=size * (page - 1))
        total = tx.row(f"select count(*) as n from transfers where account = ? and {sql}", account.secret_key, *values)  # noqa: S608
        assert total is not None
        meta = {**page_meta(total["n"], size, page), "perPage": size}
        return wire.ok("Transfers retrieved", [objects.transfer(t, recipient_of(tx, t)) for t in found], meta=meta)

    return await call(request, "paystack.list_transfers", effect)


async def balance(request: Request, body: Body) -> Response:
    """GET /balance: what can be sent, by currency; nothing is less than nothing."""

    def effect(tx: Tx, account: Account, fault: Fault) -> Answer:
        held = balances(tx, account.secret_key) or {"NGN": 0}
        shown = [{"currency": currency, "balance": max(0, amount)} for currency, amount in held.items()]
        return wire.ok("Balances retrieved", shown)

    return await call(request, "paystack.balance", effect)


routes = [
    Route("/paystack/bank", endpoint(list_banks), methods=["GET"]),
    Route("/paystack/bank/resolve", endpoint(resolve), methods=["GET"]),
    Route("/paystack/transferrecipient", endpoint(create_recipient), methods=["POST"]),
    Route("/paystack/transfer", endpoint(initiate), methods=["POST"]),
    Route("/paystack/transfer", endpoint(list_pages), methods=["GET"]),
    Route("/paystack/transfer/verify/{reference}", endpoint(verify), methods=["GET"]),
    Route("/paystack/transfer/{named}", endpoint(fetch), methods=["GET"]),
    Route("/paystack/balance", endpoint(balance), methods=["GET"]),
]
