"""What the auditor excuses, for a call about it is under way, and what it does not."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.base import Scope
from infra.database import Database
from models.payout_reconciliation import sent_side
from models.provider import ProviderAccount
from models.reconciliation import rows_side
from tests.fixtures.postgres import as_owner
from tests.models.test_stuck_rows import Planter

HOUR = timedelta(hours=1)
BEGUN = datetime.now(UTC) + HOUR
"""When the provider's list was begun: nothing here is younger, where it is not said."""


def scope_of(scope: Scope) -> tuple[str, str]:
    return str(scope.tenant_id), str(scope.mode)


def account(scope: Scope, provider: str = "stripe") -> ProviderAccount:
    return ProviderAccount(tenant_id=scope.tenant_id, mode=str(scope.mode), provider=provider)


@pytest.mark.parametrize(
    ("attempt", "payment", "operation", "effect", "excused"),
    [
        ("started", "processing", "start", "claimed", True),
        ("unknown", "processing", "start", "unknown", True),
        ("unknown", "requires_capture", "capture", "unknown", True),
        ("pending", "processing", "start", "done", True),
        ("requires_action", "requires_action", "start", "done", True),
        ("authorized", "requires_capture", "capture", "claimed", True),
        ("authorized", "canceled", "late_void", "claimed", True),
        # Nobody answered the call, and a look-up or a webhook told what came of it.
        ("captured", "succeeded", "start", "unknown", False),
        ("captured", "succeeded", "capture", "claimed", False),
        ("voided", "canceled", "void", "unknown", False),
        ("authorized", "requires_capture", "start", "unknown", False),
        ("authorized", "requires_capture", "capture", "unsent", False),
        # Its rail could not stop it when the payment ended: what it brings is news.
        ("pending", "canceled", "void", "done", False),
        ("requires_action", "expired", "start", "done", False),
    ],
)
async def test_only_a_call_under_way_excuses(
    database: Database, scope: Scope, owner_url: str, attempt: str, payment: str, operation: str, effect: str, excused: bool
) -> None:  # fmt: skip
    plant = Planter(owner_url, scope)
    reference = f"ref-{plant.payment(attempt, status=payment)}"
    plant.effect(f"attempt/{reference}/{operation}", effect, HOUR, operation)
    async with database.transaction(scope) as tx:
        side = (await rows_side(tx, account(scope), BEGUN))[reference]
    assert side.in_flight is excused


@pytest.mark.parametrize("effect", ["unknown", "done"])
async def test_an_effect_excuses_until_its_attempt_is_written_down(
    database: Database, scope: Scope, owner_url: str, effect: str
) -> None:
    """A range of calls records what came of all of them before it goes on with each payment."""
    plant = Planter(owner_url, scope)
    reference = f"ref-{plant.payment('authorized', status='requires_capture')}"
    plant.effect(f"attempt/{reference}/capture", effect, HOUR, "capture")
    for settled, excused in (("+", True), ("-", False)):
        with as_owner(owner_url) as owner:
            owner.execute(
                "select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)", scope_of(scope)
            )
            owner.execute(
                f"update effects set settled_at = (select updated_at {settled} interval '1 second' "
                "from payment_attempts where reference = %s) where key = %s",
                (reference, f"attempt/{reference}/capture"),
            )
        async with database.transaction(scope) as tx:
            assert (await rows_side(tx, account(scope), BEGUN))[reference].in_flight is excused


@pytest.mark.parametrize(("status", "excused"), [("requested", True), ("unknown", True), ("failed", False)])
async def test_a_refund_under_way_excuses(
    database: Database, scope: Scope, owner_url: str, status: str, excused: bool
) -> None:
    plant = Planter(owner_url, scope)
    payment = plant.payment("captured", status="succeeded")
    plant.refund(payment, status)
    async with database.transaction(scope) as tx:
        assert (await rows_side(tx, account(scope), BEGUN))[f"ref-{payment}"].in_flight is excused


async def test_what_moved_since_the_list_was_begun_is_excused(database: Database, scope: Scope, owner_url: str) -> None:
    plant = Planter(owner_url, scope)
    payment, refunded = plant.payment("captured", status="succeeded"), plant.payment("captured", status="succeeded")
    plant.refund(refunded, "succeeded")
    with as_owner(owner_url) as owner:  # of the second, only the refund is new
        owner.execute("select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)", scope_of(scope))
        owner.execute(
            "update payment_attempts set updated_at = updated_at - interval '2 hours' where payment_id = %s",
            (refunded,),
        )
    payout = plant.payout("succeeded")
    for begun, excused in ((BEGUN, False), (plant.now - HOUR, True)):
        async with database.transaction(scope) as tx:
            rows = await rows_side(tx, account(scope), begun)
            sent = await sent_side(tx, account(scope, "paystack"), begun)
        assert [rows[f"ref-{each}"].in_flight for each in (payment, refunded)] == [excused, excused]
        assert sent[payout].in_flight is excused
