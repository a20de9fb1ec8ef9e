"""A payment's process takes up every event it was woken for, also when the first thing it has to do is something else."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from activities.effects import Effects
from activities.gateways.protocols import PaymentFact, PaymentOrder, RailAnswer, Resolution
from activities.gateways.stripe import StripeRail
from activities.payment_steps import PaymentSteps
from contracts.base import Scope
from domain.payment import AttemptStatus, PaymentStatus
from infra.database import Database, fetch_one
from models.payment import change_attempt
from models.webhook import InboxEvent, newest_waiting, receive
from tests.fixtures.pledges import NGN, NOW, TICKET, Pledge, add_pledge


class _Answering:
    """A rail that knows the payment: the order of a lost answer and an early event is what cannot be provoked."""

    name, capabilities = "stripe", StripeRail.capabilities

    def __init__(self) -> None:
        self.started = self.looked_up = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def of(self, *_: Any) -> "_Answering":
        return self

    async def start(self, order: PaymentOrder) -> RailAnswer:
        self.started += 1
        return self._answer(PaymentFact.PENDING)

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        self.looked_up += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        return self._answer(PaymentFact.CAPTURED)

    def _answer(self, fact: PaymentFact) -> RailAnswer:
        captured = TICKET if fact is PaymentFact.CAPTURED else 0
        return RailAnswer(
            fact=fact, provider_id="pi_1", amount_minor=TICKET, captured_minor=captured, currency=NGN
        )  # fmt: skip


async def _event(
    database: Database, scope: Scope, pledge: Pledge, event_id: str = "evt_1", provider_id: str = "pi_1"
) -> None:
    event = InboxEvent(
        tenant_id=scope.tenant_id, mode=str(scope.mode), account_id="acct", provider="stripe", event_id=event_id,
        kind="payment_intent.succeeded", reference=pledge.attempt.reference, provider_id=provider_id, raw=b"{}",
    )  # fmt: skip
    async with database.transaction(scope) as tx:
        assert await receive(tx, event)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_repeated_start_is_looked_up_when_an_event_waits(
    database: Database, scope: Scope, owner_url: str, announced: bool
) -> None:
    assert _Answering.capabilities.resolution is Resolution.REPLAY
    pledge = await add_pledge(database, scope, owner_url, status=PaymentStatus.CREATED)
    async with database.transaction(scope) as tx:
        await change_attempt(tx, pledge.attempt.reference, status=AttemptStatus.UNKNOWN)
    if announced:
        await _event(database, scope, pledge)
    rail: Any = _Answering()
    progress = await PaymentSteps(database, rail, Effects(database)).check(scope, pledge.payment.id, NOW)
    assert (rail.started, rail.looked_up) == (1, int(announced))
    assert progress.status is (PaymentStatus.SUCCEEDED if announced else PaymentStatus.PROCESSING)
    async with database.transaction(scope) as tx:
        assert not await newest_waiting(tx, pledge.attempt.reference)


async def test_a_look_up_answers_what_waited_before_it_and_nothing_later(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """What comes while the provider is being asked may tell of something its answer does not hold yet."""
    pledge = await add_pledge(database, scope, owner_url)
    await _event(database, scope, pledge)
    rail: Any = _Answering()
    rail.meanwhile = lambda: _event(database, scope, pledge, "evt_2")
    await PaymentSteps(database, rail, Effects(database)).check(scope, pledge.payment.id, NOW)
    async with database.transaction(scope) as tx:
        row = await fetch_one(tx, "select event_id from webhook_inbox where status = 'received'", ())
        assert row is not None and row["event_id"] == "evt_2"
    rail.meanwhile = None
    await PaymentSteps(database, rail, Effects(database)).check(scope, pledge.payment.id, NOW)
    async with database.transaction(scope) as tx:
        assert not await newest_waiting(tx, pledge.attempt.reference)


async def test_a_look_up_answers_nothing_about_a_second_payment(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """Another payment of the provider under the same reference was not asked about; the inbox will do that."""
    pledge = await add_pledge(database, scope, owner_url)
    await _event(database, scope, pledge)
    await _event(database, scope, pledge, "evt_2", "pi_2")
    rail: Any = _Answering()
    await PaymentSteps(database, rail, Effects(database)).check(scope, pledge.payment.id, NOW)
    async with database.transaction(scope) as tx:
        row = await fetch_one(tx, "select array_agg(event_id) as ids from webhook_inbox where status = 'received'", ())
        woken = await (await tx.execute("select workflow_type, signal_name from outbox", ())).fetchall()
    assert row is not None and row["ids"] == ["evt_2"]
    assert [tuple(each.values()) for each in woken][-1] == ("InboxWorkflow", "event_received"), "who asks about it"
