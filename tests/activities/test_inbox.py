"""The inbox of webhooks: what an event leads to, and that none of them stops the others."""

from typing import Any

import psycopg
import pytest

from activities.gateways.protocols import PaymentFact, PaymentRail, RailAnswer, RailNotSent
from activities.gateways.stripe import StripeRail
from activities.inbox import InboxActivities
from contracts.base import Scope
from contracts.inbox import InboxInput
from domain.payment import AttemptStatus, PaymentStatus
from infra.database import Database, Tx
from models.payment import change_attempt
from models.webhook import InboxEvent, receive
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import NGN, TICKET, Pledge, add_pledge
from tests.fixtures.postgres import as_owner


class Desk:
    """A provider by what it says of each of its payments; a name that is an error is raised, when asked or before."""

    name, capabilities = "stripe", StripeRail.capabilities

    def __init__(self) -> None:
        self.says: dict[str, RailAnswer | Exception] = {}
        self.closed: Exception | None = None
        self.asked: list[str] = []

    async def of(self, tx: Tx, provider: str) -> PaymentRail:
        if self.closed is not None:
            raise self.closed
        rail: Any = self
        return rail

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        assert provider_id is not None
        self.asked.append(provider_id)
        found = self.says[provider_id]
        if isinstance(found, Exception):
            raise found
        return found


def says(fact: PaymentFact, provider_id: str, **more: Any) -> RailAnswer:
    return RailAnswer(fact=fact, provider_id=provider_id, amount_minor=TICKET, currency=NGN, **more)


async def over(database: Database, scope: Scope, owner_url: str, provider_id: str) -> Pledge:
    """A pledge whose payment has been refused, and for whose attempt the provider has this id."""
    pledge = await add_pledge(database, scope, owner_url, status=PaymentStatus.FAILED)
    async with database.transaction(scope) as tx:
        await change_attempt(tx, pledge.attempt.reference, status=AttemptStatus.DECLINED, provider_id=provider_id)
    return pledge


async def report(database: Database, scope: Scope, kind: str, reference: str | None, provider_id: str) -> int:
    """An event is in the inbox; its row."""
    event = InboxEvent(
        tenant_id=scope.tenant_id, mode=str(scope.mode), account_id="acct", provider="stripe",
        event_id=f"evt_{kind}_{provider_id}", kind=kind, reference=reference, provider_id=provider_id, raw=b"{}",
    )  # fmt: skip
    async with database.transaction(scope) as tx:
        row = await receive(tx, event)
    assert row is not None
    return row


def event(owner_url: str, scope: Scope, row: int) -> tuple[str, str | None]:
    """How an event stands, and with which code."""
    with as_owner(owner_url) as connection:
        set_scope(connection, scope)
        found = connection.execute("select status, error_code from webhook_inbox where id = %s", (row,)).fetchone()
    assert found is not None
    return found[0], found[1]


async def drain(database: Database, desk: Desk, scope: Scope) -> None:
    rails: Any = desk
    await InboxActivities(database, rails).drain_inbox(InboxInput(scope=scope))


async def test_an_event_that_breaks_stops_no_other(database: Database, scope: Scope, owner_url: str) -> None:
    desk = Desk()
    desk.says = {"pi_1": KeyError("a defect"), "pi_2": says(PaymentFact.DECLINED, "pi_2")}
    rows = []
    for name in desk.says:
        pledge = await over(database, scope, owner_url, name)
        rows.append(await report(database, scope, "payment_intent.payment_failed", pledge.attempt.reference, name))
    await drain(database, desk, scope)
    assert [event(owner_url, scope, row) for row in rows] == [("received", "KeyError"), ("processed", None)]


async def test_a_provider_that_is_switched_off_stops_no_other(database: Database, scope: Scope, owner_url: str) -> None:
    desk = Desk()
    desk.closed = RailNotSent("provider_unavailable")
    pledge = await over(database, scope, owner_url, "pi_1")
    first = await report(database, scope, "payment_intent.succeeded", pledge.attempt.reference, "pi_1")
    second = await report(database, scope, "charge.success", None, "of nobody")
    await drain(database, desk, scope)
    assert event(owner_url, scope, first) == ("received", "provider_unavailable")
    assert event(owner_url, scope, second) == ("orphaned", "orphan"), "it was looked at"


async def test_a_database_that_is_gone_is_not_the_events_fault(
    database: Database, scope: Scope, owner_url: str
) -> None:
    desk = Desk()
    desk.says = {"pi_1": psycopg.OperationalError("gone")}
    pledge = await over(database, scope, owner_url, "pi_1")
    row = await report(database, scope, "payment_intent.succeeded", pledge.attempt.reference, "pi_1")
    with pytest.raises(psycopg.OperationalError):
        await drain(database, desk, scope)
    assert event(owner_url, scope, row) == ("received", None)
