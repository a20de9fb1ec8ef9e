"""Stripe: payment intents with manual capture, by httpx. The wire format itself is read in `stripe_wire`.

How an unknown outcome is resolved: repeat the identical request with the same key (`replay`), for as long as Stripe
remembers keys (`replay_lifetime`); after that, only `look_up` is safe, for a repeat would be a second payment.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import quote

import httpx

from activities.gateways import fields, stripe_wire
from activities.gateways.fields import Json, Unreadable
from activities.gateways.http import RailHttp, Reply
from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentPage,
    RailAnswer,
    RailCapabilities,
    RailNotSent,
    RailRejected,
    RailUnknown,
    RefundAnswer,
    RefundFact,
    RefundOrder,
    RefundPage,
    Resolution,
    WebhookEvent,
)
from activities.gateways.stripe_wire import read_intent, read_refund, stripe_amount

API_VERSION = "2023-08-16"
_PAGE = "100"
_REFUND_PAGES_MAX = 10
_INTENTS = "/v1/payment_intents"
_REFUNDS = "/v1/refunds"
_STILL_OPEN = (PaymentFact.AUTHORIZED, PaymentFact.REQUIRES_ACTION, PaymentFact.ABSENT)

T = TypeVar("T")


class StripeRail:
    """One Stripe account (see `PaymentRail`)."""

    name = "stripe"
    capabilities = RailCapabilities(
        authorize=True,
        saved_instrument=True,
        resolution=Resolution.REPLAY,
        authorization_lifetime=timedelta(days=7),
        not_found_grace=timedelta(seconds=60),
        replay_lifetime=timedelta(hours=23),
    )

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str,
        secret_key: str,
        webhook_secret: str,
        *,
        timeout_seconds: float = 10.0,
    ) -> None:
        """`client` is shared by all accounts; `base_url` is what stands before `/v1`."""
        self._webhook_secret = webhook_secret
        self._http = RailHttp(
            client,
            rail=self.name,
            base_url=base_url,
            secret_key=secret_key,
            headers={"Stripe-Version": API_VERSION},
            timeout_seconds=timeout_seconds,
        )

    async def start(self, order: PaymentOrder) -> RailAnswer:
        """Create, and with an instrument confirm, a payment intent. A declined card is an answer, not an error."""
        amount = stripe_amount(order.amount_minor, order.currency)
        customer = order.customer
        if order.save_instrument and customer is None:
            customer = await self._create_customer(order)
        form = _intent_form(order, amount, customer)
        return await self._post(_INTENTS, form, order.key, lambda reply: _read_start(reply, order))

    async def _create_customer(self, order: PaymentOrder) -> str:
        """The owner of the instrument to be saved. Repeated with the same key it is the same customer.

        A customer moves no money, so a lost answer here means nothing was charged: it is asked for as often as needed.
        """
        form = {"email": order.payer_email, "metadata[reference]": order.reference}
        try:
            return await self._post("/v1/customers", form, f"{order.key}-customer", _reader(_read_customer))
        except RailUnknown as error:
            raise RailNotSent(error.code, retry_after=error.retry_after) from None

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        """By id, exact; by reference, through a search index that lags by up to a minute (`not_found_grace`)."""
        if provider_id is not None:
            return await self._get_intent(provider_id)
        params = {"query": f"metadata['reference']:'{_searchable(reference)}'", "limit": "2"}
        return await self._http.get(f"{_INTENTS}/search", _reader(_read_search(reference)), params=params)

    async def capture(self, *, provider_id: str, amount_minor: int, currency: str, key: str) -> RailAnswer:
        """Take the authorized amount. If Stripe refuses, the intent's own state says what is true."""
        form = {"amount_to_capture": str(stripe_amount(amount_minor, currency))}
        return await self._change(provider_id, "capture", form, key)

    async def void(self, *, provider_id: str | None, key: str, reference: str | None = None) -> RailAnswer:
        """Cancel the intent. Without its id it is looked for by our reference; ABSENT if Stripe knows none."""
        if provider_id is None:
            if reference is None:
                raise ValueError("void needs the provider's id or our reference")
            found = await self.look_up(reference=reference, provider_id=None)
            if found.provider_id is None or found.fact in (PaymentFact.VOIDED, PaymentFact.EXPIRED):
                return found
            provider_id = found.provider_id
        return await self._change(provider_id, "cancel", {}, key)

    async def _change(self, provider_id: str, verb: str, form: Mapping[str, str], key: str) -> RailAnswer:
        """Capture or cancel; a refusal because it has already happened (or can no longer happen) becomes the truth."""
        try:
            return await self._post(f"{_INTENTS}/{_segment(provider_id)}/{verb}", form, key, _reader(read_intent))
        except RailRejected as refused:
            if refused.code in ("unauthorized", "not_configured"):
                raise
            truth = await self._get_intent(provider_id)
            if truth.fact in _STILL_OPEN:
                raise
            return truth

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Give money back. Where nothing is left to refund, our own earlier refund may be why: then it is the answer."""
        form = {
            "payment_intent": order.provider_id,
            "amount": str(stripe_amount(order.amount_minor, order.currency)),
            "metadata[reference]": order.reference,
        }
        try:
            return await self._post(_REFUNDS, form, order.key, _reader(read_refund))
        except RailRejected as refused:
            if refused.code != "charge_already_refunded":
                raise
            truth = await self.look_up_refund(order, refund_provider_id=None)
            if truth.fact is RefundFact.ABSENT:
                raise
            return truth

    async def look_up_refund(self, order: RefundOrder, *, refund_provider_id: str | None) -> RefundAnswer:
        """By id, or among the refunds of the payment by our reference."""
        if refund_provider_id is not None:
            path = f"{_REFUNDS}/{_segment(refund_provider_id)}"
            return await self._http.get(path, _reader(read_refund, missing=RefundAnswer(fact=RefundFact.ABSENT)))
        params = {"payment_intent": order.provider_id, "limit": _PAGE}
        for _ in range(_REFUND_PAGES_MAX):
            refunds, more = await self._http.get(_REFUNDS, _reader(_read_list(read_refund)), params=params)
            for refund in refunds:
                if refund.reference == order.reference:
                    return refund
            if not more:
                return RefundAnswer(fact=RefundFact.ABSENT)
            params["starting_after"] = more
        raise RailUnknown("too_many_refunds")

    async def list_payments(self, *, since: datetime, cursor: str | None) -> PaymentPage:
        """Every payment intent of the account, newest first, ours or not. The cursor is the last id of the page."""
        params = _page_params(since, cursor) | {"expand[]": "data.latest_charge"}
        payments, more = await self._http.get(_INTENTS, _reader(_read_list(read_intent)), params=params)
        return PaymentPage(payments=payments, next_cursor=more)

    async def list_refunds(self, *, since: datetime, cursor: str | None) -> RefundPage:
        """Every refund of the account, newest first."""
        params = _page_params(since, cursor)
        refunds, more = await self._http.get(_REFUNDS, _reader(_read_list(read_refund)), params=params)
        return RefundPage(refunds=refunds, next_cursor=more)

    def verify_webhook(self, raw: bytes, headers: dict[str, str], now: datetime) -> WebhookEvent:
        """Check `Stripe-Signature` and read the event (see `stripe_wire.verify_signature`)."""
        stripe_wire.verify_signature(raw, headers.get("stripe-signature"), self._webhook_secret, now)
        return stripe_wire.read_event(raw)

    async def _get_intent(self, provider_id: str) -> RailAnswer:
        read = _reader(_read_this(provider_id), missing=RailAnswer(fact=PaymentFact.ABSENT))
        return await self._http.get(f"{_INTENTS}/{_segment(provider_id)}", read, params={"expand[]": "latest_charge"})

    async def _post(self, path: str, form: Mapping[str, str], key: str, read: Callable[[Reply], T]) -> T:
        return await self._http.post(path, read, form=form, headers={"Idempotency-Key": key})


def _intent_form(order: PaymentOrder, amount: int, customer: str | None) -> dict[str, str]:
    """The create request. It depends on the order alone, so that a repeat is byte for byte the same."""
    form = {
        "amount": str(amount),
        "currency": order.currency.lower(),
        "capture_method": "automatic" if order.capture_now else "manual",
        "metadata[reference]": order.reference,
        "automatic_payment_methods[enabled]": "true",
    }
    if order.description:
        form["description"] = order.description
    if customer is not None:
        form["customer"] = customer
    if order.instrument is not None:
        form |= {"payment_method": order.instrument, "confirm": "true"}
        if order.off_session:
            form["off_session"] = "true"
        if order.return_url is not None and not order.off_session:
            form["return_url"] = order.return_url
        else:
            # Nobody to send back, so methods that need a redirect are out; Stripe would demand a return_url.
            form["automatic_payment_methods[allow_redirects]"] = "never"
    if order.save_instrument and not order.off_session:
        # Stripe refuses this together with off_session: such an instrument is saved already.
        form["setup_future_usage"] = "off_session"
    return form


def _read_start(reply: Reply, order: PaymentOrder) -> RailAnswer:
    if reply.ok:
        answer = read_intent(reply.body)
        if answer.reference != order.reference:
            raise Unreadable("another payment's answer")
        return answer
    error = fields.mapping(reply.body, "error")
    if reply.status == 402 and error.get("type") == "card_error":
        declined = {"fact": PaymentFact.DECLINED, "code": stripe_wire.decline_code(error), "next_action": None}
        intent = fields.optional_mapping(error, "payment_intent")
        answer = read_intent(intent) if intent else RailAnswer(fact=PaymentFact.DECLINED, reference=order.reference)
        return answer.model_copy(update=declined)
    raise stripe_wire.refusal(reply)


def _reader(read: Callable[[Json], T], *, missing: T | None = None) -> Callable[[Reply], T]:
    """`read` on success; `missing` for an object Stripe does not have, where that is an answer; else the refusal."""

    def from_reply(reply: Reply) -> T:
        if reply.ok:
            return read(reply.body)
        if missing is not None and stripe_wire.is_missing(reply):
            return missing
        raise stripe_wire.refusal(reply)

    return from_reply


def _read_customer(body: Json) -> str:
    return fields.text(body, "id")


def _read_this(provider_id: str) -> Callable[[Json], RailAnswer]:
    def read(body: Json) -> RailAnswer:
        answer = read_intent(body)
        if answer.provider_id != provider_id:
            raise Unreadable("another payment's answer")
        return answer

    return read


def _read_search(reference: str) -> Callable[[Json], RailAnswer]:
    def read(body: Json) -> RailAnswer:
        found = [answer for answer in map(read_intent, fields.items(body, "data")) if answer.reference == reference]
        if len(found) > 1:
            # Two payments under one reference: only a person can say which is meant.
            raise RailUnknown("ambiguous_reference")
        return found[0] if found else RailAnswer(fact=PaymentFact.ABSENT)

    return read


def _read_list(read: Callable[[Json], T]) -> Callable[[Json], tuple[list[T], str | None]]:
    """A page of objects and the cursor of the next, or None at the end."""

    def read_page(body: Json) -> tuple[list[T], str | None]:
        data = fields.items(body, "data")
        more = body.get("has_more")
        if not isinstance(more, bool):
            raise Unreadable("has_more is not a boolean")
        return [read(item) for item in data], fields.text(data[-1], "id") if more and data else None

    return read_page


def _page_params(since: datetime, cursor: str | None) -> dict[str, str]:
    params = {"created[gte]": str(int(since.timestamp())), "limit": _PAGE}
    if cursor is not None:
        params["starting_after"] = cursor
    return params


def _segment(provider_id: str) -> str:
    """An id as one path segment, whatever it contains."""
    return quote(provider_id, safe="")


def _searchable(reference: str) -> str:
    """Our references need no quoting in a search query; anything else is not ours to look for."""
    if not reference.replace("-", "").isalnum() or not reference.isascii():
        raise RailNotSent("bad_reference")
    return reference
