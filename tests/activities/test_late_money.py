"""Money of a payment that has ended: how long it is looked for, and what becomes of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from activities.gateways.protocols import PaymentFact
from contracts.base import Scope
from contracts.payment import PaymentProgress
from domain.payment import LATE_LOOKS, PaymentStatus, PaymentStep
from infra.database import Database
from models.audit import audit_books
from models.case import Case, open_cases
from models.payment import get_attempt, refunds_of
from models.reconciliation import unmatched_payments, wrong_counters
from tests.fixtures.pledges import NOW, Pledge, add_pledge
from tests.fixtures.postgres import role_url
from tests.fixtures.rails import Planned, told

F, P, S = PaymentFact, PaymentStatus, PaymentStep


@pytest.fixture
async def audited(owner_url: str, scope: Scope) -> AsyncIterator[None]:
    """At the end the auditor finds nothing wrong with this tenant's books, payments and counters."""
    yield
    auditor = Database(role_url(owner_url, "chama_audit"), name="audit", max_size=1)
    await auditor.open()
    try:
        async with auditor.transaction() as tx:
            found = [str(each) for each in await audit_books(tx)]
            found += [*await unmatched_payments(tx), *await wrong_counters(tx)]
    finally:
        await auditor.close()
    assert [each for each in found if str(scope.tenant_id) in each] == []


pytestmark = pytest.mark.usefixtures("audited")


async def cases(database: Database, scope: Scope) -> list[Case]:
    async with database.transaction(scope) as tx:
        return await open_cases(tx, 10)


async def attempt_status(database: Database, scope: Scope, pledge: Pledge) -> str:
    async with database.transaction(scope) as tx:
        attempt = await get_attempt(tx, pledge.attempt.reference)
    assert attempt is not None
    return str(attempt.status)


async def test_slow_money_that_cannot_be_stopped_is_looked_for_a_bounded_time(
    database: Database, scope: Scope, owner_url: str
) -> None:
    pledge = await add_pledge(database, scope, owner_url, cancel_reason="canceled_by_investor")
    rail = Planned({"look_up": [told(F.PENDING)], "void": [told(F.PENDING)]})
    steps, payment = rail.steps(database), pledge.payment.id
    progress: PaymentProgress = await steps.void(scope, payment, NOW)
    looks = 0
    while progress.step is S.WAIT:
        assert progress.status is P.CANCELED and progress.late and progress.next_action_at is not None
        progress, looks = await steps.check(scope, payment, progress.next_action_at), looks + 1
    assert looks == LATE_LOOKS and progress.step is S.DONE and not progress.late
    assert await attempt_status(database, scope, pledge) == "expired", "the auditor takes it for in flight no more"

    rail.says["look_up"] = [told(F.CAPTURED)]
    await steps.check(scope, payment, NOW + timedelta(days=40))
    assert [each.kind for each in await cases(database, scope)] == ["late_success"]
    async with database.transaction(scope) as tx:
        assert [each.reason for each in await refunds_of(tx, payment)] == ["late_success"]
