"""Money of a payment that has ended: how long it is looked for, and what becomes of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from activities.gateways.protocols import PaymentFact, RailAnswer, RailNotSent, RailUnknown
from contracts.base import Scope
from contracts.payment import PaymentProgress
from domain.payment import LATE_LOOKS, AttemptStatus, PaymentStatus, PaymentStep
from infra.database import Database
from models.campaign import get_campaign
from models.case import Case, open_cases
from models.investment import get_investment
from models.ledger import balance
from models.payment import change_attempt, change_payment, get_attempt, get_payment, refunds_of
from models.timeline import story
from tests.fixtures.books import wrong_in_books
from tests.fixtures.pledges import NOW, Pledge, add_pledge
from tests.fixtures.rails import Planned, told

F, P, S = PaymentFact, PaymentStatus, PaymentStep


@pytest.fixture
async def audited(owner_url: str, scope: Scope) -> AsyncIterator[None]:
    """At the end the auditor finds nothing wrong with this tenant's books, payments and counters."""
    yield
    assert await wrong_in_books(owner_url, scope) == []


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
    while progress.step is S.WAIT and looks <= LATE_LOOKS:
        assert progress.status is P.CANCELED and progress.late and progress.next_action_at is not None
        progress, looks = await steps.check(scope, payment, progress.next_action_at), looks + 1
    assert looks == LATE_LOOKS and progress.step is S.DONE and not progress.late
    assert await attempt_status(database, scope, pledge) == "expired", "the auditor takes it for in flight no more"

    rail.says["look_up"] = [told(F.CAPTURED)]
    await steps.check(scope, payment, NOW + timedelta(days=40))
    assert [each.kind for each in await cases(database, scope)] == ["late_success"]
    async with database.transaction(scope) as tx:
        assert [each.reason for each in await refunds_of(tx, payment)] == ["late_success"]


class WorkerDied(BaseException):
    """As a kill: nothing that comes after it is done."""


async def unsent_pledge(database: Database, scope: Scope, owner_url: str) -> Pledge:
    """One whose provider was never called."""
    pledge = await add_pledge(database, scope, owner_url, status=P.CREATED)
    async with database.transaction(scope) as tx:
        await change_attempt(tx, pledge.attempt.reference, status=AttemptStatus.STARTED)
    return pledge


async def cancel(database: Database, scope: Scope, pledge: Pledge) -> None:
    async with database.transaction(scope) as tx:
        await change_payment(tx, pledge.payment.id, cancel_reason="canceled_by_investor")


async def payment_status(database: Database, scope: Scope, pledge: Pledge) -> PaymentStatus:
    async with database.transaction(scope) as tx:
        payment = await get_payment(tx, pledge.payment.id)
    assert payment is not None
    return payment.status


@pytest.mark.parametrize("step", ["start", "check"])
async def test_money_taken_by_a_call_whose_worker_died_is_found_after_a_cancel(
    database: Database, scope: Scope, owner_url: str, step: str
) -> None:
    """The claim was committed, so the provider may have heard: the attempt's status alone does not tell."""
    pledge = await unsent_pledge(database, scope, owner_url)
    rail = Planned({"start": [WorkerDied(), told(F.CAPTURED)]})
    steps, payment = rail.steps(database), pledge.payment.id
    with pytest.raises(WorkerDied):
        await steps.start(scope, payment, NOW)
    await cancel(database, scope, pledge)
    assert await attempt_status(database, scope, pledge) == "started"

    await (steps.start if step == "start" else steps.check)(scope, payment, NOW)
    assert await payment_status(database, scope, pledge) is P.CANCELED
    assert await attempt_status(database, scope, pledge) == "captured"
    assert [each.kind for each in await cases(database, scope)] == ["late_success"]
    async with database.transaction(scope) as tx:
        assert [each.reason for each in await refunds_of(tx, payment)] == ["late_success"]


@pytest.mark.parametrize("refused", [False, True], ids=["never tried", "known not to have been sent"])
@pytest.mark.parametrize("step", ["start", "check"])
async def test_a_pledge_canceled_before_anything_was_sent_is_never_sent(
    database: Database, scope: Scope, owner_url: str, step: str, refused: bool
) -> None:
    """Nobody worked while it was made and canceled: its process begins by looking where it stands."""
    pledge = await unsent_pledge(database, scope, owner_url)
    rail = Planned({"start": [RailNotSent("rate_limited"), told(F.AUTHORIZED)]})
    steps, payment = rail.steps(database), pledge.payment.id
    if refused:
        with pytest.raises(RailNotSent):
            await steps.start(scope, payment, NOW)
    calls = [*rail.calls]
    await cancel(database, scope, pledge)
    progress = await steps.load(scope, payment, NOW)
    assert progress.step is S.WAIT

    progress = await (steps.start if step == "start" else steps.check)(scope, payment, NOW)
    assert (progress.status, progress.step) == (P.CANCELED, S.DONE)
    assert rail.calls == calls, "no provider hears of it"
    assert await attempt_status(database, scope, pledge) == "not_sent"


@pytest.mark.parametrize(
    "taken",
    [told(F.CAPTURED, currency="USD"), told(F.CAPTURED).model_copy(update={"amount_minor": None, "captured_minor": 0})],
    ids=["another currency", "nobody tells how much"],
)
async def test_money_taken_in_what_cannot_be_booked_fails_the_payment_once(
    database: Database, scope: Scope, owner_url: str, taken: RailAnswer
) -> None:
    """It cannot be given back by us: the payment ends, and a person deals with it."""
    pledge = await add_pledge(database, scope, owner_url, capture="deferred")
    rail = Planned({"look_up": [taken], "void": [taken]})
    steps, payment = rail.steps(database), pledge.payment.id
    for _ in range(3):
        progress = await steps.check(scope, payment, NOW)
        assert (progress.status, progress.step) == (P.FAILED, S.DONE), "nothing is tried again and again"
    [case] = await cases(database, scope)
    assert case.kind == "amount_mismatch" and case.detail["unbooked"] is True
    async with database.transaction(scope) as tx:
        told_of = [each.event for each in await story(tx, payment)]
        investment = await get_investment(tx, pledge.investment.id)
        campaign = await get_campaign(tx, pledge.campaign.id)
    assert told_of.count("case_amount_mismatch") == 1
    assert investment is not None and investment.status == "failed"
    assert campaign is not None and campaign.pledged_minor == 0, "its place is free"


async def test_a_held_card_that_is_taken_in_another_currency_holds_nothing_any_more(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """The case of one that was held in the wrong amount before closes by itself; this one does not."""
    pledge = await add_pledge(database, scope, owner_url, capture="deferred", cancel_reason="canceled_by_investor")
    rail = Planned({"look_up": [told(F.AUTHORIZED)], "void": [told(F.CAPTURED, currency="USD")]})
    steps, payment = rail.steps(database), pledge.payment.id
    await steps.check(scope, payment, NOW)
    progress = await steps.void(scope, payment, NOW)
    assert (progress.status, progress.step) == (P.FAILED, S.DONE)
    async with database.transaction(scope) as tx:
        escrow = await balance(tx, f"escrow:{pledge.campaign.id}:NGN")
    assert (escrow.posted_minor, escrow.available_minor) == (0, 0)
    assert [each.detail["unbooked"] for each in await cases(database, scope)] == [True]


async def test_the_case_of_a_late_authorization_closes_when_the_answer_to_its_release_was_lost(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """Nobody could close it by hand."""
    pledge = await add_pledge(database, scope, owner_url, status=P.CANCELED)
    rail = Planned({"look_up": [told(F.AUTHORIZED), told(F.VOIDED)], "void": [RailUnknown("timeout")]})
    steps, payment = rail.steps(database), pledge.payment.id
    assert (await steps.check(scope, payment, NOW)).step is S.VOID
    assert [each.kind for each in await cases(database, scope)] == ["late_success"]
    assert (await steps.void(scope, payment, NOW)).step is S.WAIT
    assert await attempt_status(database, scope, pledge) == "unknown"
    progress = await steps.check(scope, payment, NOW)
    assert (progress.status, progress.step) == (P.CANCELED, S.DONE)
    assert await cases(database, scope) == []
