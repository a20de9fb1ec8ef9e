"""What is stuck in the rows is found, each in its own way, and what waits on purpose is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from contracts.base import Scope
from domain.stuck import StuckKind
from infra.database import Database, Tx
from models.stuck import ROW_KINDS, StuckRow, clocks, stuck_rows
from tests.fixtures.api import set_scope

HOUR = timedelta(hours=1)
Row = dict[str, Any]


class Planter:
    """Inserts rows of one tenant as the owner; every row hangs on one payer, payment and attempt."""

    def __init__(self, owner_url: str, scope: Scope) -> None:
        self._url, self._scope, self.now = owner_url, scope, datetime.now(UTC)
        self.payer = f"usr_{uuid4().hex}"
        self.put(
            "users", id=self.payer, email=f"{self.payer}@people.test", name="Ada", role="investor", password_hash="!"
        )

    def put(self, table: str, **values: Any) -> None:
        columns = {"tenant_id": self._scope.tenant_id, "mode": str(self._scope.mode), **values}
        with psycopg.connect(self._url) as connection:
            set_scope(connection, self._scope)
            statement = sql.SQL("insert into {} ({}) values ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            )
            connection.execute(statement, list(columns.values()))

    def payment(self, attempt: str = "pending", **more: Any) -> str:
        """A payment with one attempt, whose reference is `ref-<payment>`; its id."""
        payment_id = f"pay_{uuid4().hex}"
        common = {"provider": "stripe", "amount_minor": 500, "currency": "NGN"}
        values = {"purpose": "deposit", "subject_id": payment_id, "payer_id": self.payer, "capture": "immediate"}
        status = {"status": "processing", "created_at": self.now}
        self.put("payments", id=payment_id, **common | values | status | more)
        self.put(
            "payment_attempts",
            reference=f"ref-{payment_id}", payment_id=payment_id, ordinal=1, status=attempt, started_at=self.now, **common,
        )  # fmt: skip
        return payment_id

    def refund(self, payment_id: str, status: str, reason: str = "late_success", **more: Any) -> str:
        refund_id = f"ref_{uuid4().hex}"
        self.put(
            "refunds",
            id=refund_id, payment_id=payment_id, attempt_reference=f"ref-{payment_id}", provider="stripe",
            amount_minor=500, currency="NGN", reason=reason, source_account="x", status=status, created_at=self.now, **more,
        )  # fmt: skip
        return refund_id

    def payout(self, status: str, **more: Any) -> str:
        """A payout with the beneficiary it goes to; its id."""
        payout_id, beneficiary_id = f"pyo_{uuid4().hex}", f"ben_{uuid4().hex}"
        common = {
            "owner_id": self.payer,
            "provider": "paystack",
            "currency": "NGN",
            "created_at": self.now,
            "recipient": "R",
        }
        account = {"kind": "bank", "bank_code": "058", "name": "Ada", "sealed_number": "x", "number_end": "1"}
        self.put("beneficiaries", id=beneficiary_id, status="verified", **common | account)
        values = {"reference": payout_id, "beneficiary_id": beneficiary_id, "reason": "withdrawal", "subject_id": "x"}
        values |= {"source_account": "x", "amount_minor": 500, "requested_by": self.payer}
        self.put("payouts", id=payout_id, status=status, **common | values | more)
        return payout_id

    def effect(self, key: str, status: str, age: timedelta, operation: str = "start") -> None:
        then = self.now - age
        self.put(
            "effects",
            key=key, provider="stripe", operation=operation, request_hash=b"x", status=status,
            claimed_at=then, sent_at=then,
        )  # fmt: skip

    def message(self, order_key: str, age: timedelta) -> None:
        self.put(
            "outbox",
            order_key=order_key, kind="signal", workflow_id=order_key, signal_name="s", request_id="r", attempts=7,
            last_error="RPCError NOT_FOUND", created_at=self.now - age, next_attempt_at=self.now + HOUR,
        )  # fmt: skip

    def webhook(self, status: str, age: timedelta) -> None:
        self.put(
            "webhook_inbox",
            account_id="acc", provider="stripe", event_id=uuid4().hex, kind="charge", reference=f"{status}-{age}", raw=b"",
            status=status, received_at=self.now - age, next_attempt_at=self.now + HOUR,
        )  # fmt: skip


@pytest.fixture
def plant(owner_url: str, scope: Scope) -> Planter:
    return Planter(owner_url, scope)


async def all_rows(tx: Tx, limit: int) -> list[StuckRow]:
    return [row for kind in ROW_KINDS for row in await stuck_rows(tx, kind, limit=limit)]


async def found(database: Database, scope: Scope, limit: int = 50) -> dict[tuple[StuckKind, str], str | None]:
    """(kind, subject) → code."""
    async with database.transaction(scope) as tx:
        return {(row.kind, row.subject): row.code for row in await all_rows(tx, limit)}


def in_the_middle(plant: Planter) -> None:
    """Everything at work, and waiting, as it should."""
    soon, just_now = plant.now + HOUR, timedelta(seconds=20)
    plant.payment(next_action_at=soon)
    plant.payment(next_action_at=plant.now - just_now)
    plant.payment(status="succeeded", next_action_at=plant.now - HOUR)
    plant.payment(status="canceled", next_action_at=plant.now - HOUR)  # its slow money is looked for now and then
    plant.refund(plant.payment(), "pending", reason="campaign_failed", next_action_at=plant.now - HOUR)
    plant.effect(f"attempt/ref-{plant.payment('unknown')}/start", "unknown", 30 * just_now)
    plant.effect(f"attempt/ref-{plant.payment('started')}/start", "claimed", just_now)
    plant.effect(f"attempt/ref-{plant.payment('captured')}/capture", "unknown", HOUR * 50)  # a look-up told
    plant.effect(f"attempt/ref-{plant.payment('requires_action')}/start", "claimed", HOUR)  # a webhook told
    plant.payout("awaiting_approval")
    plant.payout("pending", next_action_at=soon)
    plant.payout("succeeded", next_action_at=plant.now - HOUR)
    plant.effect(f"payout/{plant.payout('sending')}/send", "claimed", just_now)
    plant.effect(f"payout/{plant.payout('succeeded')}/send", "unknown", HOUR * 50)  # a look-up told
    plant.message("young", just_now)
    plant.webhook("received", just_now)
    plant.webhook("orphaned", HOUR)
    plant.webhook("processed", HOUR)


async def test_what_waits_on_purpose_is_not_stuck(plant: Planter, database: Database, scope: Scope) -> None:
    in_the_middle(plant)
    assert await found(database, scope) == {}


K = StuckKind
TROUBLE: dict[str, Callable[[Planter], tuple[StuckKind, str, str | None]]] = {
    "an overdue payment": lambda p: (K.OVERDUE, p.payment(next_action_at=p.now - HOUR), "processing"),
    "an overdue refund": lambda p: (K.OVERDUE, p.refund(p.payment(), "unknown", next_action_at=p.now - HOUR), "unknown"),
    "a blocked payment": lambda p: (K.BLOCKED, p.payment(blocked_reason="unknown_outcome"), "unknown_outcome"),
    "a blocked refund": lambda p: (
        K.BLOCKED, p.refund(p.payment(), "failed", blocked_reason="refund_failed"), "refund_failed",
    ),
    "an overdue payout": lambda p: (K.OVERDUE, p.payout("pending", next_action_at=p.now - HOUR), "pending"),
    "a blocked payout": lambda p: (K.BLOCKED, p.payout("approved", blocked_reason="provider_balance"), "provider_balance"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLE)
async def test_trouble_is_found(name: str, plant: Planter, database: Database, scope: Scope) -> None:
    kind, subject, code = TROUBLE[name](plant)
    assert await found(database, scope) == {(kind, subject): code}


@pytest.mark.parametrize(
    ("attempt", "status", "age", "operation"),
    [
        ("started", "claimed", timedelta(minutes=6), "start"),
        ("authorized", "claimed", timedelta(minutes=6), "capture"),
        ("unknown", "unknown", timedelta(minutes=61), "capture"),
    ],
)
async def test_a_call_nobody_resolves(
    attempt: str, status: str, age: timedelta, operation: str, plant: Planter, database: Database, scope: Scope
) -> None:
    payment_id = plant.payment(attempt)
    plant.effect(f"attempt/ref-{payment_id}/{operation}", status, age, operation)
    assert await found(database, scope) == {(K.CALL_UNSETTLED, payment_id): status}


async def test_a_refund_nobody_resolves(plant: Planter, database: Database, scope: Scope) -> None:
    refund_id = plant.refund(plant.payment(), "requested")
    plant.effect(f"refund/{refund_id}", "claimed", HOUR, "refund")
    assert await found(database, scope) == {(K.CALL_UNSETTLED, refund_id): "claimed"}


@pytest.mark.parametrize(("status", "effect"), [("sending", "claimed"), ("unknown", "unknown")])
async def test_a_payout_nobody_resolves(
    status: str, effect: str, plant: Planter, database: Database, scope: Scope
) -> None:
    payout_id = plant.payout(status)
    plant.effect(f"payout/{payout_id}/send", effect, 2 * HOUR, "payout")
    assert await found(database, scope) == {(K.CALL_UNSETTLED, payout_id): effect}


async def test_messages_and_webhooks(plant: Planter, database: Database, scope: Scope) -> None:
    """Of a queue only the first message is told: it is what the others wait for."""
    for _ in range(3):
        plant.message("late", HOUR)
    plant.webhook("received", HOUR)
    async with database.transaction(scope) as tx:
        rows = await all_rows(tx, 50)
    assert [(row.kind, row.workflow_id, row.code, row.total) for row in rows] == [
        (K.MESSAGE_UNDELIVERED, "late", "RPCError NOT_FOUND", 1),
        (K.WEBHOOK_UNPROCESSED, None, None, 1),
    ]


async def test_a_list_cut_short_says_how_many_there_are(plant: Planter, database: Database, scope: Scope) -> None:
    ids = [plant.payment(next_action_at=plant.now - n * HOUR) for n in range(1, 6)]
    async with database.transaction(scope) as tx:
        rows = await all_rows(tx, 2)
    assert [(row.subject, row.total) for row in rows] == [(ids[4], 5), (ids[3], 5)], "the longest stuck first"


@pytest.mark.parametrize(
    ("status", "ahead", "stuck"),
    [
        ("ready", timedelta(days=30), True),
        ("advancing", timedelta(days=30), False),
        ("ready", -timedelta(days=1), False),
    ],
)
async def test_on_a_test_clock_business_time_counts(
    status: str, ahead: timedelta, stuck: bool, plant: Planter, database: Database, scope: Scope
) -> None:
    """Due in a day: past for a clock a month ahead. Due an hour ago: to come for a clock that stands at yesterday."""
    at = plant.now + ahead
    plant.put("test_clocks", now_at=at, target_at=at, status=status)
    plant.payment(next_action_at=plant.now + timedelta(days=1) if ahead > timedelta(0) else plant.now - HOUR)
    assert len(await found(database, scope)) == stuck
    async with database.transaction(scope) as tx:
        assert await clocks(tx) == {(str(scope.tenant_id), "test"): at if status == "ready" else None}


async def test_the_app_sees_its_own_tenant_and_the_auditor_all(
    plant: Planter, database: Database, owner_url: str, scope: Scope
) -> None:
    from tests.fixtures.postgres import add_tenant, role_url

    mine = plant.payment(blocked_reason="unknown_outcome")
    other = Planter(owner_url, Scope(tenant_id=add_tenant(owner_url), mode=scope.mode))
    theirs = other.payment(blocked_reason="unknown_outcome")
    assert set(await found(database, scope)) == {(K.BLOCKED, mine)}
    auditor = Database(role_url(owner_url, "chama_audit"), name="test", max_size=1)
    await auditor.open()
    try:
        async with auditor.transaction() as tx:
            seen = {row.subject for row in await all_rows(tx, 1_000)}
    finally:
        await auditor.close()
    assert {mine, theirs} <= seen
