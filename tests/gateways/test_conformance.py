"""One suite, both rails, the sandbox on the other side: what every payment rail must do, whatever its wire format.

Also where the two ways of resolving an unknown outcome are shown to charge once: the effect happens, the answer is lost.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentRail,
    RailAnswer,
    RailRejected,
    RailUnknown,
    RefundFact,
    Resolution,
    SignatureRefused,
    WebhookEvent,
)
from activities.gateways.registry import RAILS, RailAccount, build_rail
from tests.gateways.provider import serve
from tests.gateways.samples import order, refund_order

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
_numbers = count(1)


@dataclass
class World:
    """One merchant's account at the sandbox, and the events it was sent."""

    provider: str
    url: str
    key: str
    client: httpx.AsyncClient
    rail: PaymentRail
    inbox: list[tuple[bytes, dict[str, str]]]

    def new_order(self, **changes: Any) -> PaymentOrder:
        reference = f"conformance-{next(_numbers)}"
        return order(reference=reference, key=f"k-{reference}", **changes)

    async def control(self, path: str, **body: Any) -> Any:
        answer = await self.client.post(f"{self.url}/_sandbox/{path}", json={"secret_key": self.key, **body})
        answer.raise_for_status()
        return answer.json()

    async def book(self) -> Any:
        return (await self.client.get(f"{self.url}/_sandbox/book", params={"secret_key": self.key})).json()

    async def fault(self, operation: str, kind: str, **more: Any) -> None:
        names = {"create": {"stripe": "stripe.create", "paystack": "paystack.initialize"}[self.provider]}
        await self.control("faults", operation=names.get(operation, f"{self.provider}.{operation}"), kind=kind, **more)

    async def paid(self, asked: PaymentOrder) -> RailAnswer:
        """Start a payment and, where a page is involved, pay on it as the payer would."""
        if self.provider == "stripe":
            return await self.rail.start(asked.model_copy(update={"instrument": "pm_card_visa"}))
        answer = await self.rail.start(asked)
        assert answer.next_action is not None
        page = await self.client.post(str(answer.next_action.redirect_url), data={"choice": "pay"})
        assert page.status_code < 400
        return await self.rail.look_up(reference=asked.reference, provider_id=None)

    async def next_event(self, kind: str) -> WebhookEvent:
        for _ in range(200):
            for raw, headers in self.inbox:
                event = self.rail.verify_webhook(raw, headers, datetime.now(UTC))
                if event.kind == kind:
                    return event
            await asyncio.sleep(0.025)
        raise AssertionError(f"no {kind} arrived")


@pytest_asyncio.fixture(params=sorted(RAILS), loop_scope="session")
async def world(request: pytest.FixtureRequest, sandbox_url: str) -> AsyncIterator[World]:
    provider, inbox = str(request.param), []

    async def receive(asked: Request) -> Response:
        inbox.append((await asked.body(), dict(asked.headers)))
        return Response("ok")

    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(serve(Starlette(routes=[Route("/hook", receive, methods=["POST"])])))
        client = await stack.enter_async_context(httpx.AsyncClient())
        key = f"sk_test_conformance_{next(_numbers)}"
        account = RailAccount.model_validate(
            {
                "provider": provider,
                "base_url": f"{sandbox_url}/{provider}",
                "secret_key": key,
                "webhook_secret": "whsec_1",
            }
        )
        world = World(provider, sandbox_url, key, client, build_rail(account, client, timeout_seconds=10), inbox)
        await world.control("accounts", provider=provider, webhook_url=f"{hook}/hook", webhook_secret="whsec_1")
        yield world


async def test_a_payment_from_start_to_refund(world: World) -> None:
    asked = world.new_order()
    paid = await world.paid(asked)
    assert (paid.fact, paid.amount_minor, paid.captured_minor) == (PaymentFact.CAPTURED, 500_000, 500_000)
    assert (paid.currency, paid.reference) == ("NGN", asked.reference)
    assert paid.provider_id is not None
    assert await world.rail.look_up(reference=asked.reference, provider_id=paid.provider_id) == paid

    ordered = refund_order(
        reference=f"re-{asked.reference}", key=f"re-k-{asked.reference}", payment_reference=asked.reference,
        provider_id=paid.provider_id,
    )  # fmt: skip
    absent = await world.rail.look_up_refund(ordered, refund_provider_id=None)
    assert absent.fact is RefundFact.ABSENT
    refund = await world.rail.refund(ordered)
    assert refund.fact in (RefundFact.PENDING, RefundFact.SUCCEEDED)
    assert (refund.amount_minor, refund.currency, refund.reference) == (200_000, "NGN", ordered.reference)
    again = await world.rail.refund(ordered)
    assert again.provider_id == refund.provider_id
    found = await world.rail.look_up_refund(ordered, refund_provider_id=None)
    assert found.provider_id == refund.provider_id
    by_id = await world.rail.look_up_refund(ordered, refund_provider_id=refund.provider_id)
    assert by_id.payment_provider_id == paid.provider_id
    assert len((await world.book())["refunds"]) == 1


async def test_a_lost_answer_charges_once(world: World) -> None:
    asked = world.new_order(**({"instrument": "pm_card_visa"} if world.provider == "stripe" else {}))
    await world.fault("create", "500_after")
    with pytest.raises(RailUnknown):
        await world.rail.start(asked)
    if world.rail.capabilities.resolution is Resolution.REPLAY:
        truth = await world.rail.start(asked)
    else:
        truth = await world.rail.look_up(reference=asked.reference, provider_id=None)
    assert truth.fact in (PaymentFact.CAPTURED, PaymentFact.REQUIRES_ACTION)
    again = await world.rail.start(asked)
    assert again.fact is truth.fact
    assert [p["reference"] for p in (await world.book())["payments"]] == [asked.reference]


async def test_a_lost_refund_answer_refunds_once(world: World) -> None:
    asked = world.new_order()
    paid = await world.paid(asked)
    ordered = refund_order(reference=f"re-{asked.reference}", key=f"re-k-{asked.reference}",
                           payment_reference=asked.reference, provider_id=str(paid.provider_id))  # fmt: skip
    await world.fault("refund", "500_after")
    with pytest.raises(RailUnknown):
        await world.rail.refund(ordered)
    assert (await world.rail.look_up_refund(ordered, refund_provider_id=None)).fact is not RefundFact.ABSENT
    await world.rail.refund(ordered)
    assert [r["amount"] for r in (await world.book())["refunds"]] == [200_000]


async def test_what_nobody_started_is_absent(world: World) -> None:
    answer = await world.rail.look_up(reference="never-started", provider_id=None)
    assert answer == RailAnswer(fact=PaymentFact.ABSENT)


async def test_an_unpaid_payment_is_closed(world: World) -> None:
    asked = world.new_order()
    started = await world.rail.start(asked)
    assert started.fact is PaymentFact.REQUIRES_ACTION
    assert started.next_action is not None
    answer = await world.rail.void(
        provider_id=started.provider_id, key=f"void-{asked.reference}", reference=asked.reference
    )
    assert answer.fact is PaymentFact.VOIDED


async def test_a_paid_payment_cannot_be_closed(world: World) -> None:
    asked = world.new_order()
    paid = await world.paid(asked)
    answer = await world.rail.void(
        provider_id=paid.provider_id, key=f"void-{asked.reference}", reference=asked.reference
    )
    assert (answer.fact, answer.captured_minor) == (PaymentFact.CAPTURED, 500_000)


async def test_authorize_then_capture_twice_or_not_at_all(world: World) -> None:
    asked = world.new_order(capture_now=False, instrument="pm_card_visa")
    if not world.rail.capabilities.authorize:
        with pytest.raises(RailRejected, match="authorize_unsupported"):
            await world.rail.start(asked)
        return
    held = await world.rail.start(asked)
    assert (held.fact, held.captured_minor) == (PaymentFact.AUTHORIZED, 0)
    for key in ("capture-1", "capture-2"):
        taken = await world.rail.capture(
            provider_id=str(held.provider_id), amount_minor=500_000, currency="NGN", key=f"{key}-{asked.reference}"
        )
        assert (taken.fact, taken.captured_minor) == (PaymentFact.CAPTURED, 500_000)


async def test_an_authorization_lapses(world: World) -> None:
    if not world.rail.capabilities.authorize:
        pytest.skip("this rail holds nothing")
    asked = world.new_order(capture_now=False, instrument="pm_card_visa")
    held = await world.rail.start(asked)
    later = datetime.now(UTC) + world.rail.capabilities.authorization_lifetime + timedelta(minutes=5)
    await world.control("clock", now=later.isoformat())
    answer = await world.rail.capture(
        provider_id=str(held.provider_id), amount_minor=500_000, currency="NGN", key="late"
    )
    assert (answer.fact, answer.captured_minor) == (PaymentFact.EXPIRED, 0)


async def test_a_saved_instrument_is_charged_without_the_payer(world: World) -> None:
    first = world.new_order(save_instrument=True)
    paid = await world.paid(first)
    assert paid.instrument is not None
    again = world.new_order(instrument=paid.instrument, customer=paid.customer, off_session=True)
    answer = await world.rail.start(again)
    assert (answer.fact, answer.captured_minor, answer.reference) == (PaymentFact.CAPTURED, 500_000, again.reference)
    await world.control(f"instruments/{paid.instrument}", decline=True)
    declined = await world.rail.start(
        world.new_order(instrument=paid.instrument, customer=paid.customer, off_session=True)
    )
    assert declined.fact is PaymentFact.DECLINED
    assert re.fullmatch(r"[a-z_]+", str(declined.code))


async def test_lists_show_ours_and_strangers(world: World) -> None:
    asked = world.new_order()
    paid = await world.paid(asked)
    await world.control(
        "payments/orphan", provider=world.provider, amount=123_400, currency="NGN", reference="stranger"
    )
    seen: list[RailAnswer] = []
    cursor: str | None = None
    for _ in range(10):
        page = await world.rail.list_payments(since=SINCE, cursor=cursor)
        seen += page.payments
        cursor = page.next_cursor
        if cursor is None:
            break
    assert cursor is None
    assert {(p.reference, p.amount_minor) for p in seen} == {(asked.reference, 500_000), ("stranger", 123_400)}
    assert {p.provider_id for p in seen} >= {paid.provider_id}
    assert (await world.rail.list_refunds(since=SINCE, cursor=None)).refunds == []


async def test_the_event_is_signed_and_names_the_payment(world: World) -> None:
    asked = world.new_order()
    paid = await world.paid(asked)
    event = await world.next_event({"stripe": "payment_intent.succeeded", "paystack": "charge.success"}[world.provider])
    assert (event.reference, event.provider_id) == (asked.reference, paid.provider_id)
    raw, headers = world.inbox[0]
    with pytest.raises(SignatureRefused, match="mismatch"):
        world.rail.verify_webhook(raw + b" ", headers, datetime.now(UTC))
