"""Paystack: hosted checkout, saved cards, refunds, by httpx. The wire format itself is read in `paystack_wire`.

Paystack has no idempotency keys. A payment's `reference` is unique, so an unknown outcome is looked up by it, and a
repeated start finds its first effect. A refund has nothing of the kind: before each one, the refunds of the payment are
read, and ours is known by the reference in its merchant note. Calls for one refund must therefore not overlap (the
caller's claim on the key sees to it), nor follow an unknown outcome within `not_found_grace`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import httpx

from activities.gateways import fields, paystack_wire
from activities.gateways.fields import Json, Unreadable
from activities.gateways.http import RailHttp, Reply
from activities.gateways.paystack_wire import (
    PAGE,
    data_of,
    page_number,
    page_params,
    paystack_amount,
    read_page,
    read_refund,
    read_transaction,
    segment,
)
from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentPage,
    RailAnswer,
    RailCapabilities,
    RailRejected,
    RailUnknown,
    RefundAnswer,
    RefundFact,
    RefundOrder,
    RefundPage,
    Resolution,
    WebhookEvent,
)
from contracts.payment import NextAction

_REFUND_PAGES_MAX = 10
_ABSENT = RailAnswer(fact=PaymentFact.ABSENT)


class PaystackRail:
    """One Paystack account (see `PaymentRail`). It charges at once: holding now and capturing later is not offered."""

    name = "paystack"
    capabilities = RailCapabilities(
        authorize=False,
        saved_instrument=True,
        resolution=Resolution.LOOKUP,
        not_found_grace=timedelta(seconds=60),
        unique_reference=True,
    )

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, secret_key: str, *, timeout_seconds: float = 10.0
    ) -> None:
        """The secret key also signs webhooks: Paystack has no separate secret for them."""
        self._secret_key = secret_key
        self._http = RailHttp(
            client, rail=self.name, base_url=base_url, secret_key=secret_key, timeout_seconds=timeout_seconds
        )

    async def start(self, order: PaymentOrder) -> RailAnswer:
        """Open a hosted page, or charge a saved card.

        Where the reference is taken, our earlier call arrived after all: the answer is what became of it. If its payer
        has not finished, the page's address cannot be had again, and `next_action` is None.
        """
        if not order.capture_now:
            raise RailRejected("authorize_unsupported")
        body: Json = {
            "email": order.payer_email,
            "amount": paystack_amount(order.amount_minor, order.currency),
            "currency": order.currency,
            "reference": order.reference,
        }
        if order.instrument is not None:
            path = "/transaction/charge_authorization"
            body["authorization_code"] = order.instrument
        else:
            path = "/transaction/initialize"
            if order.return_url is not None:
                body["callback_url"] = order.return_url
        answer = await self._http.post(path, _read_start(order.reference), json=body)
        if answer is not None:
            return answer
        truth = await self.look_up(reference=order.reference, provider_id=None)
        if truth.fact is PaymentFact.ABSENT:
            raise RailUnknown("duplicate_but_absent")
        return truth

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        """By our reference, which Paystack keeps unique; its own id adds nothing."""
        return await self._http.get(
            f"/transaction/verify/{segment(reference)}", _read_transaction("reference", reference)
        )

    async def capture(self, *, provider_id: str, amount_minor: int, currency: str, key: str) -> RailAnswer:
        """Not offered: a Paystack charge is captured at once."""
        raise RailRejected("capture_unsupported")

    async def void(self, *, provider_id: str | None, key: str, reference: str | None = None) -> RailAnswer:
        """Nothing can be released and no page can be closed: the answer is what a look-up says of money.

        VOIDED: nothing was taken (a payer who still has the page open may yet pay; that is a late success). CAPTURED:
        refund it. PENDING: ask again.
        """
        if reference is not None:
            truth = await self.look_up(reference=reference, provider_id=provider_id)
        elif provider_id is not None:
            read = _read_transaction("id", provider_id)
            truth = await self._http.get(f"/transaction/{segment(provider_id)}", read)
            if truth.fact is PaymentFact.ABSENT:
                # The id came from Paystack itself, so this proves nothing, least of all that no money was taken.
                raise RailUnknown("known_but_absent")
        else:
            raise ValueError("void needs the provider's id or our reference")
        if truth.fact in (PaymentFact.CAPTURED, PaymentFact.PENDING):
            return truth
        return truth.model_copy(update={"fact": PaymentFact.VOIDED, "code": None})

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Give money back, unless the list of refunds shows that we did already."""
        amount = paystack_amount(order.amount_minor, order.currency)
        earlier = await self.look_up_refund(order, refund_provider_id=None)
        if earlier.fact is not RefundFact.ABSENT:
            return earlier
        body: Json = {
            "transaction": order.payment_reference,
            "amount": amount,
            "currency": order.currency,
            "merchant_note": order.reference,
        }
        return await self._http.post("/refund", lambda reply: read_refund(data_of(reply)), json=body)

    async def look_up_refund(self, order: RefundOrder, *, refund_provider_id: str | None) -> RefundAnswer:
        """By id, or among the refunds of the payment by our reference in the note."""
        if refund_provider_id is not None:
            return await self._http.get(f"/refund/{segment(refund_provider_id)}", _read_refund)
        for page in range(1, _REFUND_PAGES_MAX + 1):
            params = {"transaction": order.provider_id, "perPage": PAGE, "page": str(page)}
            refunds, more = await self._http.get("/refund", read_page(read_refund, page), params=params)
            for refund in refunds:
                if refund.reference == order.reference:
                    return refund
            if more is None:
                return RefundAnswer(fact=RefundFact.ABSENT)
        raise RailUnknown("too_many_refunds")

    async def list_payments(self, *, since: datetime, cursor: str | None) -> PaymentPage:
        """Every transaction of the account, newest first, ours or not. The cursor is the number of the next page.

        New transactions push older ones down a page: an item may be seen twice, none is missed.
        """
        # The published specification says per_page, the reference pages say perPage; the other one is ignored.
        params = page_params(since, cursor) | {"per_page": PAGE}
        payments, more = await self._http.get(
            "/transaction", read_page(read_transaction, page_number(cursor)), params=params
        )
        return PaymentPage(payments=payments, next_cursor=more)

    async def list_refunds(self, *, since: datetime, cursor: str | None) -> RefundPage:
        """Every refund of the account, newest first."""
        params = page_params(since, cursor)
        refunds, more = await self._http.get("/refund", read_page(read_refund, page_number(cursor)), params=params)
        return RefundPage(refunds=refunds, next_cursor=more)

    def verify_webhook(self, raw: bytes, headers: dict[str, str], now: datetime) -> WebhookEvent:
        """Check `x-paystack-signature` and read the event. `now` is not used: Paystack signs no time."""
        paystack_wire.verify_signature(raw, headers.get("x-paystack-signature"), self._secret_key)
        return paystack_wire.read_event(raw)


def _read_start(reference: str) -> Callable[[Reply], RailAnswer | None]:
    """The answer to initialize or charge_authorization; None where the reference was used before."""

    def read(reply: Reply) -> RailAnswer | None:
        if paystack_wire.is_duplicate(reply):
            return None
        data = data_of(reply)
        if fields.text(data, "reference") != reference:
            raise Unreadable("another payment's answer")
        if data.get("authorization_url") is None:
            return read_transaction(data)
        # A hosted page; also how a saved card is paused when the issuer wants the payer's consent.
        page = NextAction(kind="redirect", redirect_url=fields.url(data, "authorization_url"))
        return RailAnswer(fact=PaymentFact.REQUIRES_ACTION, reference=reference, next_action=page)

    return read


def _read_transaction(key: str, expected: str) -> Callable[[Reply], RailAnswer]:
    """A transaction that must be the one asked for; ABSENT where Paystack knows none."""

    def read(reply: Reply) -> RailAnswer:
        if paystack_wire.is_missing(reply):
            return _ABSENT
        data = data_of(reply)
        if fields.identifier(data, key) != expected:
            raise Unreadable("another payment's answer")
        return read_transaction(data)

    return read


def _read_refund(reply: Reply) -> RefundAnswer:
    if paystack_wire.is_missing(reply):
        return RefundAnswer(fact=RefundFact.ABSENT)
    return read_refund(data_of(reply))
