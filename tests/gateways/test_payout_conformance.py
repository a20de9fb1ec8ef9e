"""The payout rail over real HTTP against the sandbox: what is sent once, what comes back, and what a lost answer means."""

import asyncio
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
    INSUFFICIENT_BALANCE,
    PayoutAnswer,
    PayoutFact,
    PayoutOrder,
    PayoutRail,
    RailNotSent,
    RailRejected,
    RailUnknown,
    SignatureRefused,
    WebhookEvent,
)
from activities.gateways.registry import RailAccount, build_payout_rail, build_rail
from cli.chaos.points import operation_of
from tests.gateways.provider import serve
from tests.gateways.samples import beneficiary, payout_order

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
GOOD, FAILS, RETURNED, SLOW, PASSWORD, NOBODY = (
    f"{start}567890" for start in ("1234", "9001", "9002", "9003", "9004", "9009")
)
_numbers = count(1)


@dataclass
class World:
    """One merchant's Paystack account at the sandbox, with NGN 10,000.00 in it."""

    url: str
    account: RailAccount
    client: httpx.AsyncClient
    rail: PayoutRail
    inbox: list[tuple[bytes, dict[str, str]]]

    async def control(self, path: str, **body: Any) -> Any:
        key = self.account.secret_key.get_secret_value()
        answer = await self.client.post(f"{self.url}/_sandbox/{path}", json={"secret_key": key, **body})
        answer.raise_for_status()
        return answer.json()

    async def book(self) -> Any:
        key = self.account.secret_key.get_secret_value()
        return (await self.client.get(f"{self.url}/_sandbox/book", params={"secret_key": key})).json()

    async def fault(self, operation: str, kind: str, **more: Any) -> None:
        await self.control("faults", operation=f"paystack.{operation}", kind=kind, **more)

    async def order(self, number: str = GOOD, **changes: Any) -> PayoutOrder:
        recipient = await self.rail.create_recipient(beneficiary(account_number=number))
        reference = f"payout-conformance-{next(_numbers)}"
        return payout_order(reference=reference, key=f"k-{reference}", recipient=recipient, **changes)

    async def settled(self, order: PayoutOrder, fact: PayoutFact) -> PayoutAnswer:
        """The answer once the transfer has come to that."""
        for _ in range(200):
            answer = await self.rail.look_up_transfer(reference=order.reference)
            if answer.fact is fact:
                return answer
            await asyncio.sleep(0.025)
        raise AssertionError(f"still {answer.fact}")

    async def event(self, kind: str) -> WebhookEvent:
        door = build_rail(self.account, self.client)
        for _ in range(200):
            for raw, headers in self.inbox:
                event = door.verify_webhook(raw, headers, datetime.now(UTC))
                if event.kind == kind:
                    return event
            await asyncio.sleep(0.025)
        raise AssertionError(f"no {kind} arrived")


@pytest_asyncio.fixture(loop_scope="session")
async def world(sandbox_url: str) -> AsyncIterator[World]:
    inbox: list[tuple[bytes, dict[str, str]]] = []

    async def receive(asked: Request) -> Response:
        inbox.append((await asked.body(), dict(asked.headers)))
        return Response("ok")

    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(serve(Starlette(routes=[Route("/hook", receive, methods=["POST"])])))
        client = await stack.enter_async_context(httpx.AsyncClient())
        opened = {"base_url": f"{sandbox_url}/paystack", "secret_key": f"sk_test_payouts_{next(_numbers)}"}
        account = RailAccount.model_validate({"provider": "paystack", **opened})
        rail = build_payout_rail(account, client, timeout_seconds=5)
        world = World(sandbox_url, account, client, rail, inbox)
        await world.control("accounts", provider="paystack", webhook_url=f"{hook}/hook")
        await world.control("topup", currency="NGN", amount=1_000_000)
        yield world


async def test_a_payout_from_the_account_number_to_the_money(world: World) -> None:
    asked = {"bank_code": "058", "account_number": GOOD, "currency": "NGN"}
    assert await world.rail.resolve_account(**asked) == "ADA KAMAU"
    order = await world.order(reason="Profit, first quarter")
    begun = await world.rail.start_transfer(order)
    assert (begun.fact, begun.amount_minor, begun.reference) == (PayoutFact.PENDING, 500_000, order.reference)
    sent = await world.settled(order, PayoutFact.SUCCEEDED)
    assert (sent.provider_id, sent.recipient, sent.currency) == (begun.provider_id, order.recipient, "NGN")
    assert await world.rail.look_up_transfer(provider_id=sent.provider_id) == sent
    assert await world.rail.balance("NGN") == 500_000
    event = await world.event("transfer.success")
    assert (event.reference, event.provider_id) == (order.reference, sent.provider_id)
    raw, headers = world.inbox[0]
    with pytest.raises(SignatureRefused, match="mismatch"):
        build_rail(world.account, world.client).verify_webhook(raw + b" ", headers, datetime.now(UTC))


@pytest.mark.parametrize("kind", ["500_after", "reset_after", "hang_after", "malformed"])
async def test_a_lost_answer_pays_once(world: World, kind: str) -> None:
    order = await world.order()
    await world.fault("transfer", kind, seconds=5)
    with pytest.raises(RailUnknown):
        await world.rail.start_transfer(order)
    truth = await world.rail.look_up_transfer(reference=order.reference)
    assert truth.fact in (PayoutFact.PENDING, PayoutFact.SUCCEEDED)
    again = await world.rail.start_transfer(order)
    assert again.provider_id == truth.provider_id
    book = await world.book()
    assert [t["reference"] for t in book["transfers"]] == [order.reference]
    assert book["balances"] == {"NGN": 500_000}


async def test_a_repeat_that_the_balance_could_not_bear_finds_the_first(world: World) -> None:
    order = await world.order(amount_minor=1_000_000)
    first = await world.rail.start_transfer(order)
    assert await world.rail.balance("NGN") == 0
    again = await world.rail.start_transfer(order)
    assert again.provider_id == first.provider_id


@pytest.mark.parametrize(("kind", "error"), [("500_before", RailUnknown), ("429", RailNotSent)])
async def test_what_never_arrived_is_absent_and_sent_again(world: World, kind: str, error: type[Exception]) -> None:
    order = await world.order()
    await world.fault("transfer", kind)
    with pytest.raises(error):
        await world.rail.start_transfer(order)
    assert (await world.rail.look_up_transfer(reference=order.reference)).fact is PayoutFact.ABSENT
    assert (await world.rail.start_transfer(order)).fact is PayoutFact.PENDING
    assert len((await world.book())["transfers"]) == 1


async def test_ten_starts_at_once_are_one_transfer(world: World) -> None:
    order = await world.order()
    answers = await asyncio.gather(*(world.rail.start_transfer(order) for _ in range(10)))
    assert len({answer.provider_id for answer in answers}) == 1
    assert (await world.book())["balances"] == {"NGN": 500_000}


async def test_more_than_the_balance_is_refused_and_nothing_moves(world: World) -> None:
    order = await world.order(amount_minor=1_000_001)
    with pytest.raises(RailRejected) as refused:
        await world.rail.start_transfer(order)
    assert refused.value.code == INSUFFICIENT_BALANCE
    book = await world.book()
    assert (book["transfers"], book["balances"]) == ([], {"NGN": 1_000_000})


async def test_a_failed_transfer_leaves_the_money(world: World) -> None:
    order = await world.order(FAILS)
    await world.rail.start_transfer(order)
    answer = await world.settled(order, PayoutFact.FAILED)
    assert (answer.code, await world.rail.balance("NGN")) == ("transfer_could_not_be_processed", 1_000_000)
    assert (await world.event("transfer.failed")).reference == order.reference


async def test_a_transfer_is_returned_after_it_was_paid(world: World) -> None:
    order = await world.order(RETURNED)
    await world.rail.start_transfer(order)
    await world.settled(order, PayoutFact.SUCCEEDED)
    assert await world.rail.balance("NGN") == 500_000
    await world.control("clock", now=(datetime.now(UTC) + timedelta(days=1, minutes=1)).isoformat())
    answer = await world.settled(order, PayoutFact.RETURNED)
    assert (answer.code, await world.rail.balance("NGN")) == ("beneficiary_bank_not_available", 1_000_000)
    assert (await world.event("transfer.reversed")).provider_id == answer.provider_id


async def test_a_slow_transfer_is_pending_until_it_is_decided(world: World) -> None:
    order = await world.order(SLOW)
    await world.rail.start_transfer(order)
    await asyncio.sleep(0.8)
    assert (await world.rail.look_up_transfer(reference=order.reference)).fact is PayoutFact.PENDING
    for outcome, fact in (("succeeded", PayoutFact.SUCCEEDED), ("returned", PayoutFact.RETURNED)):
        await world.control("settle", transfer=order.reference, outcome=outcome)
        assert (await world.rail.look_up_transfer(reference=order.reference)).fact is fact


async def test_a_transfer_that_wants_a_password_waits_and_is_abandoned(world: World) -> None:
    order = await world.order(PASSWORD)
    begun = await world.rail.start_transfer(order)
    assert (begun.fact, begun.code) == (PayoutFact.NEEDS_APPROVAL, "otp")
    await world.control("clock", now=(datetime.now(UTC) + timedelta(minutes=31)).isoformat())
    answer = await world.settled(order, PayoutFact.FAILED)
    assert (answer.code, await world.rail.balance("NGN")) == ("abandoned", 1_000_000)


async def test_an_account_nobody_holds(world: World) -> None:
    with pytest.raises(RailRejected, match="account_not_found"):
        await world.rail.resolve_account(bank_code="058", account_number=NOBODY, currency="NGN")
    with pytest.raises(RailRejected, match="bank_unknown"):
        await world.rail.resolve_account(bank_code="999", account_number=GOOD, currency="NGN")
    with pytest.raises(RailRejected, match="invalid_bank_account"):
        await world.order(NOBODY)


async def test_a_recipient_is_made_once(world: World) -> None:
    await world.fault("recipient", "reset_after")
    with pytest.raises(RailUnknown):
        await world.rail.create_recipient(beneficiary(account_number=GOOD))
    codes = {await world.rail.create_recipient(beneficiary(account_number=GOOD, name=name)) for name in ("A", "B")}
    other = await world.rail.create_recipient(beneficiary(account_number=GOOD[::-1]))
    assert len(codes) == 1 and other not in codes


async def test_another_amount_than_ordered_is_told(world: World) -> None:
    order = await world.order()
    await world.fault("transfer", "wrong_amount", amount=400_000)
    assert (await world.rail.start_transfer(order)).amount_minor == 400_000
    assert (await world.rail.look_up_transfer(reference=order.reference)).amount_minor == 400_000
    await world.fault("verify_transfer", "wrong_amount", amount=1)
    assert (await world.rail.look_up_transfer(reference=order.reference)).amount_minor == 1


async def test_every_question_may_be_asked_again(world: World) -> None:
    """Also that the fault points of `cli.chaos` know each exchange by the name its fault has here."""
    asked: list[str | None] = []

    async def note(request: httpx.Request) -> None:
        asked.append(operation_of(request.method, request.url.path))

    world.client.event_hooks["request"].append(note)
    sent = await world.rail.start_transfer(await world.order())
    assert asked == ["paystack.recipient", "paystack.transfer"]
    questions = {
        "resolve": lambda: world.rail.resolve_account(bank_code="058", account_number=GOOD, currency="NGN"),
        "verify_transfer": lambda: world.rail.look_up_transfer(reference=sent.reference),
        "get_transfer": lambda: world.rail.look_up_transfer(provider_id=sent.provider_id),
        "list_transfers": lambda: world.rail.list_transfers(since=SINCE, cursor=None),
        "balance": lambda: world.rail.balance("NGN"),
    }
    for operation, ask in questions.items():
        await world.fault(operation, "500_before", times=1)
        asked.clear()
        with pytest.raises(RailNotSent, match="server_error"):
            await ask()
        assert await ask()
        assert asked == [f"paystack.{operation}"] * 2


async def test_the_list_shows_what_became_of_each(world: World) -> None:
    orders = [await world.order(GOOD, amount_minor=100_000), await world.order(FAILS, amount_minor=200_000)]
    for order in orders:
        await world.rail.start_transfer(order)
    await world.settled(orders[0], PayoutFact.SUCCEEDED)
    await world.settled(orders[1], PayoutFact.FAILED)
    page = await world.rail.list_transfers(since=SINCE, cursor=None)
    assert [(p.reference, p.fact, p.amount_minor) for p in page.payouts] == [
        (orders[1].reference, PayoutFact.FAILED, 200_000), (orders[0].reference, PayoutFact.SUCCEEDED, 100_000)
    ]  # fmt: skip
    assert page.next_cursor is None
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await world.rail.list_transfers(since=later, cursor=None)).payouts == []
