"""The inbox of webhooks: what an event leads to, and that none of them stops the others."""

from typing import Any

import psycopg
import pytest

from activities.attempts import add_attempt
from activities.gateways.protocols import PaymentFact, PaymentRail, RailAnswer, RailNotSent
from activities.gateways.stripe import StripeRail
from activities.inbox import InboxActivities
from contracts.base import Scope
from contracts.inbox import InboxInput
from domain.payment import AttemptStatus, PaymentStatus
from infra.database import Database, Tx
from models.payment import change_attempt, get_attempt, get_payment
from models.webhook import InboxEvent, receive
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import NGN, NOW, TICKET, Pledge, add_pledge
from tests.fixtures.postgres import as_owner


class Desk:
    """A provider by what it says of each of its payments; a name that is an error is raised, when asked or before."""

    name, capabilities = "stripe", StripeRail.capabilities

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
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


async def over(
    database: Database, scope: Scope, owner_url: str, provider_id: str, status: PaymentStatus = PaymentStatus.FAILED
) -> Pledge:
    """A pledge whose payment has been refused, or is in `status`, and for whose attempt the provider has this id."""
    pledge = await add_pledge(database, scope, owner_url, status=status)
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


async def cases(database: Database, scope: Scope) -> list[tuple[str, str, str, str | None]]:
    async with database.transaction(scope) as tx:
        rows = await (await tx.execute("select kind, subject_id, status, resolution from cases")).fetchall()
    return [(row["kind"], row["subject_id"], row["status"], row["resolution"]) for row in rows]


@pytest.mark.parametrize("status", [PaymentStatus.FAILED, PaymentStatus.PROCESSING])
async def test_a_second_payment_under_one_reference_is_a_case(
    database: Database, scope: Scope, owner_url: str, status: PaymentStatus
) -> None:
    """Whatever ours is doing. The case closes when the provider has given the money back."""
    desk = Desk()
    pledge = await over(database, scope, owner_url, "pi_1", status)
    reference = pledge.attempt.reference
    desk.says = {"pi_2": says(PaymentFact.CAPTURED, "pi_2", reference=reference, captured_minor=TICKET)}
    rows = [await report(database, scope, "payment_intent.succeeded", reference, "pi_2")]
    rows += [await report(database, scope, "charge.succeeded", reference, "pi_2")]
    await drain(database, desk, scope)
    assert [event(owner_url, scope, row)[0] for row in rows] == ["processed", "processed"]
    assert await cases(database, scope) == [("amount_mismatch", "pi_2", "open", None)]

    desk.says["pi_2"] = desk.says["pi_2"].model_copy(update={"refunded_minor": TICKET})
    await report(database, scope, "charge.refunded", reference, "pi_2")
    await drain(database, desk, scope)
    assert await cases(database, scope) == [("amount_mismatch", "pi_2", "resolved", "refunded")]
    async with database.transaction(scope) as tx:
        attempt = await get_attempt(tx, reference)
    assert attempt is not None and (attempt.provider_id, attempt.captured_minor) == ("pi_1", 0)


async def test_an_old_name_of_the_same_payment_is_no_second_one(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """A rail that looks up by our reference answers with the payment that we know."""
    desk = Desk()
    pledge = await over(database, scope, owner_url, "pi_1")
    desk.says = {"pi_2": says(PaymentFact.DECLINED, "pi_1", reference=pledge.attempt.reference)}
    row = await report(database, scope, "charge.failed", pledge.attempt.reference, "pi_2")
    await drain(database, desk, scope)
    assert (event(owner_url, scope, row), await cases(database, scope)) == (("processed", None), [])


@pytest.mark.parametrize(
    ("fact", "becomes", "last"),
    [
        (PaymentFact.CAPTURED, PaymentStatus.SUCCEEDED, AttemptStatus.CAPTURED),
        (PaymentFact.EXPIRED, PaymentStatus.REQUIRES_ACTION, AttemptStatus.VOIDED),
    ],
)
async def test_what_an_attempt_brings_that_another_replaced(
    database: Database, scope: Scope, owner_url: str, fact: PaymentFact, becomes: PaymentStatus, last: AttemptStatus
) -> None:
    """Its page was lost to us and another was made, and the payer had the first one open: his money is his payment's."""
    desk = Desk()
    pledge = await over(database, scope, owner_url, "pi_1", PaymentStatus.REQUIRES_ACTION)
    reference = pledge.attempt.reference
    async with database.transaction(scope) as tx:
        await change_attempt(tx, reference, status=AttemptStatus.VOIDED)
        payment = await get_payment(tx, pledge.payment.id, lock=True)
        assert payment is not None
        await add_attempt(tx, scope, payment, NOW)
    taken = TICKET if fact is PaymentFact.CAPTURED else 0
    desk.says = {"pi_1": says(fact, "pi_1", reference=reference, captured_minor=taken)}
    row = await report(database, scope, "payment_intent.succeeded", reference, "pi_1")
    await drain(database, desk, scope)
    assert event(owner_url, scope, row) == ("processed", None)
    async with database.transaction(scope) as tx:
        payment, attempt = await get_payment(tx, pledge.payment.id), await get_attempt(tx, reference)
        woken = await (await tx.execute("select signal_name from outbox where workflow_id like 'payment/%'")).fetchall()
    assert payment is not None and attempt is not None
    assert (payment.status, payment.captured_minor, attempt.status) == (becomes, taken, last)
    assert [each["signal_name"] for each in woken] == ["provider_reported"]
