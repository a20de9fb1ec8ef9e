"""Paystack transfers: money from the account's balance to a bank account or a mobile wallet, by httpx.

A transfer's `reference` is unique, so an unknown outcome is looked up by it, and a repeated start pays nothing again. A
refusal is not believed at once either: a repeat may be refused for a reason that has come up since (the balance is low
*because* the first one went out), so before one is final the reference is looked up.

Paystack's statuses `pending`, `processing`, `otp` and `received` decide nothing. `otp` and `received` wait for the
account's owner: for a code that was sent to him, or for the approval endpoint named in his dashboard. Both end by
themselves as `abandoned` and `blocked`.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import httpx

from activities.gateways import fields, paystack_wire
from activities.gateways.fields import Json, Unreadable
from activities.gateways.http import RailHttp, Reply
from activities.gateways.paystack_wire import (
    PAGE,
    created,
    data_of,
    list_of,
    our_amount,
    page_number,
    page_params,
    paystack_amount,
    read_page,
    segment,
)
from activities.gateways.protocols import (
    INSUFFICIENT_BALANCE,
    Beneficiary,
    BeneficiaryKind,
    PayoutAnswer,
    PayoutCapabilities,
    PayoutFact,
    PayoutOrder,
    PayoutPage,
    RailError,
    RailRejected,
    RailUnknown,
    Resolution,
)

_ABSENT: Final = PayoutAnswer(fact=PayoutFact.ABSENT)
_RECIPIENT_TYPES: Final = {
    ("NGN", BeneficiaryKind.BANK): "nuban",
    ("GHS", BeneficiaryKind.BANK): "ghipss",
    ("ZAR", BeneficiaryKind.BANK): "basa",
    ("GHS", BeneficiaryKind.MOBILE_MONEY): "mobile_money",
    ("KES", BeneficiaryKind.MOBILE_MONEY): "mobile_money",
}
"""Those of the published specification: it has no type for a bank account in Kenya."""


class PaystackTransfers:
    """The transfers of one Paystack account (see `PayoutRail`). Its webhooks come through `PaystackRail`."""

    name = "paystack"
    capabilities = PayoutCapabilities(
        resolution=Resolution.LOOKUP,
        # Paystack publishes no table of minimums; these are the least it is known to take. Confirm before live money.
        minimum_minor={"NGN": 10_000, "GHS": 100, "KES": 100, "ZAR": 100},
        reference_pattern=r"[a-z0-9_-]{16,50}",
        resolves_accounts=frozenset({"NGN", "GHS"}),
        not_found_grace=timedelta(seconds=60),
        unique_reference=True,
    )

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, secret_key: str, *, timeout_seconds: float = 10.0
    ) -> None:
        self._http = RailHttp(
            client, rail=self.name, base_url=base_url, secret_key=secret_key, timeout_seconds=timeout_seconds
        )

    async def resolve_account(self, *, bank_code: str, account_number: str, currency: str) -> str:
        """By the bank itself. In South Africa and Kenya Paystack answers this only with the holder's papers, or not at all."""
        if currency not in self.capabilities.resolves_accounts:
            raise RailRejected("resolution_unsupported")
        params = {"account_number": account_number, "bank_code": bank_code}
        name, refused = await self._http.get("/bank/resolve", _read_holder(account_number), params=params)
        if refused is not None:
            raise RailRejected(refused)
        return name

    async def create_recipient(self, beneficiary: Beneficiary) -> str:
        """The recipient code; the same one again for the same account."""
        kind = _RECIPIENT_TYPES.get((beneficiary.currency, beneficiary.kind))
        if kind is None:
            raise RailRejected("destination_unsupported")
        body: Json = {
            "type": kind,
            "name": beneficiary.name,
            "account_number": beneficiary.account_number,
            "bank_code": beneficiary.bank_code,
            "currency": beneficiary.currency,
        }
        return await self._http.post("/transferrecipient", _read_recipient(beneficiary), json=body)

    async def start_transfer(self, order: PayoutOrder) -> PayoutAnswer:
        """Queue a transfer from the balance. Paystack has no idempotency key: `order.key` is not sent.

        RailRejected, before anything is sent: `currency_unsupported`, `amount_below_minimum`, `reference_invalid`; by
        Paystack: `insufficient_balance`, and its own codes.
        """
        body = self._body(order)
        try:
            answer = await self._http.post("/transfer", _read_start(order.reference), json=body)
        except RailRejected as refused:
            if refused.code == "unauthorized":  # a wrong key could not look anything up either
                raise
            return await self._unless_sent_before(order, refused)
        if answer is not None:
            return answer
        return await self._unless_sent_before(order, RailUnknown("duplicate_but_absent"))

    async def look_up_transfer(self, *, reference: str | None = None, provider_id: str | None = None) -> PayoutAnswer:
        """By our reference, which Paystack keeps unique, else by the transfer's code. ValueError without either."""
        if reference is not None:
            read = _read_transfer("reference", reference)
            truth = await self._http.get(f"/transfer/verify/{segment(reference)}", read)
        elif provider_id is not None:
            read = _read_transfer("transfer_code", provider_id)
            truth = await self._http.get(f"/transfer/{segment(provider_id)}", read)
        else:
            raise ValueError("a look-up needs our reference or the transfer's code")
        if truth.fact is PayoutFact.ABSENT and provider_id is not None:
            # The code came from Paystack itself, so this proves nothing, least of all that no money was sent.
            raise RailUnknown("known_but_absent")
        return truth

    async def list_transfers(self, *, since: datetime, cursor: str | None) -> PayoutPage:
        """Every transfer of the account, newest first, ours or not. The cursor is the number of the next page.

        New transfers push older ones down a page: an item may be seen twice, none is missed.
        """
        # As for transactions, the size of a page has two names. The specification also writes a default for `status`
        # into its schema; the reference pages list transfers of every status unless one is asked for.
        params = page_params(since, cursor) | {"per_page": PAGE}
        payouts, more = await self._http.get("/transfer", read_page(read_transfer, page_number(cursor)), params=params)
        return PayoutPage(payouts=payouts, next_cursor=more)

    async def balance(self, currency: str) -> int:
        """The balance that transfers are paid from."""
        return await self._http.get("/balance", _read_balance(currency))

    def _body(self, order: PayoutOrder) -> Json:
        least = self.capabilities.minimum_minor.get(order.currency)
        if least is None:
            raise RailRejected("currency_unsupported")
        if order.amount_minor < least:
            raise RailRejected("amount_below_minimum")
        if not re.fullmatch(self.capabilities.reference_pattern, order.reference):
            raise RailRejected("reference_invalid")
        body: Json = {
            "source": "balance",
            "amount": paystack_amount(order.amount_minor, order.currency),
            "currency": order.currency,
            "recipient": order.recipient,
            "reference": order.reference,
        }
        return body | ({"reason": order.reason} if order.reason else {})

    async def _unless_sent_before(self, order: PayoutOrder, refused: RailError) -> PayoutAnswer:
        """What became of an earlier transfer under the order's reference. Raises `refused` where there is none."""
        try:
            truth = await self.look_up_transfer(reference=order.reference)
        except RailError:
            raise RailUnknown(refused.code) from None
        if truth.fact is PayoutFact.ABSENT:
            raise refused
        return truth


# --- the wire -----------------------------------------------------------------------------------------------------

_FACTS: Final = {
    "pending": PayoutFact.PENDING,
    "processing": PayoutFact.PENDING,
    "queued": PayoutFact.PENDING,
    "otp": PayoutFact.NEEDS_APPROVAL,
    "received": PayoutFact.NEEDS_APPROVAL,
    "success": PayoutFact.SUCCEEDED,
    "failed": PayoutFact.FAILED,
    "abandoned": PayoutFact.FAILED,
    "blocked": PayoutFact.FAILED,
    "rejected": PayoutFact.FAILED,
    "reversed": PayoutFact.RETURNED,
}
_DUPLICATE: Final = re.compile(r"duplicate|unique reference|reference already exists", re.IGNORECASE)
_SHORT: Final = re.compile(r"balance is not enough|insufficient (balance|funds)", re.IGNORECASE)
_UNRESOLVED: Final = (
    (re.compile(r"could not resolve account name", re.IGNORECASE), "account_not_found"),
    (re.compile(r"(unknown|invalid) bank code", re.IGNORECASE), "bank_unknown"),
)
"""Only sentences tell these apart: the answers about accounts carry no code that can be relied on."""


def read_transfer(data: Json) -> PayoutAnswer:
    """A transfer, as its start, verify, fetch and the list show it."""
    status = fields.text(data, "status")
    if status not in _FACTS:
        raise Unreadable("status is none that Paystack documents")
    fact = _FACTS[status]
    currency = fields.text(data, "currency").upper()
    amount_minor = our_amount(fields.integer_or_digits(data, "amount"), currency)
    fee = fields.integer_or_digits(data, "fee_charged") if data.get("fee_charged") is not None else None
    code = None
    if status in ("failed", "reversed"):
        code = fields.slug(fields.optional_text(data, "gateway_response"), default=status)
    elif fact in (PayoutFact.FAILED, PayoutFact.NEEDS_APPROVAL):
        code = status
    return PayoutAnswer(
        fact=fact,
        provider_id=fields.text(data, "transfer_code"),
        reference=fields.optional_text(data, "reference"),
        amount_minor=amount_minor,
        fee_minor=our_amount(fee, currency) if fee is not None else None,
        currency=currency,
        recipient=fields.optional_text(fields.optional_mapping(data, "recipient"), "recipient_code"),
        code="amount_not_expressible" if amount_minor is None else code,
        created_at=created(data),
    )


def _read_start(reference: str) -> Callable[[Reply], PayoutAnswer | None]:
    """The answer to a start; None where the reference was used before."""

    def read(reply: Reply) -> PayoutAnswer | None:
        if _refused_as(reply, _DUPLICATE, "duplicate_reference", "duplicate_transfer_reference"):
            return None
        if _refused_as(reply, _SHORT, INSUFFICIENT_BALANCE):
            raise RailRejected(INSUFFICIENT_BALANCE)
        return _the_one(data_of(reply), "reference", reference)

    return read


def _read_transfer(key: str, expected: str) -> Callable[[Reply], PayoutAnswer]:
    """A transfer that must be the one asked for; ABSENT where Paystack knows none."""

    def read(reply: Reply) -> PayoutAnswer:
        if paystack_wire.is_missing(reply):
            return _ABSENT
        return _the_one(data_of(reply), key, expected)

    return read


def _the_one(data: Json, key: str, expected: str) -> PayoutAnswer:
    if fields.text(data, key) != expected:
        raise Unreadable("another transfer's answer")
    return read_transfer(data)


def _read_recipient(beneficiary: Beneficiary) -> Callable[[Reply], str]:
    """The code of a recipient whose account is the one that was given. (Telephone numbers are rewritten.)"""

    def read(reply: Reply) -> str:
        data = data_of(reply)
        details = fields.mapping(data, "details")
        asked = (beneficiary.account_number, beneficiary.bank_code)
        if beneficiary.kind is BeneficiaryKind.BANK and asked != (
            fields.text(details, "account_number"),
            fields.text(details, "bank_code"),
        ):
            raise Unreadable("another recipient's answer")
        return fields.text(data, "recipient_code")

    return read


def _read_holder(account_number: str) -> Callable[[Reply], tuple[str, str | None]]:
    """The holder's name, or why there is none. (What is raised here would mean that the question could not be asked.)"""

    def read(reply: Reply) -> tuple[str, str | None]:
        for sentence, code in _UNRESOLVED:
            if _refused_as(reply, sentence):
                return "", code
        data = data_of(reply)
        if fields.identifier(data, "account_number") != account_number:
            raise Unreadable("another account's answer")
        return fields.text(data, "account_name"), None

    return read


def _read_balance(currency: str) -> Callable[[Reply], int]:
    def read(reply: Reply) -> int:
        items, _ = list_of(reply)
        amounts = [fields.integer_or_digits(item, "balance") for item in items if item.get("currency") == currency]
        amount_minor = our_amount(sum(amounts), currency)
        if amount_minor is None:
            raise Unreadable("a balance that cannot be expressed")
        return amount_minor

    return read


def _refused_as(reply: Reply, sentence: re.Pattern[str], *codes: str) -> bool:
    """Whether Paystack itself refused with one of these codes, or in these words."""
    if reply.ok or reply.body.get("status") is not False:
        return False
    message = reply.body.get("message")
    return reply.body.get("code") in codes or (isinstance(message, str) and bool(sentence.search(message)))
