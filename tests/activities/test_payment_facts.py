"""A provider's word becomes money once, in the amount asked for, and only where it is still wanted."""

from datetime import timedelta

import pytest

from activities.book import open_book
from activities.gateways.protocols import PaymentFact, RailAnswer
from activities.payment_facts import apply_fact
from contracts.base import Scope
from domain.errors import NotFound
from domain.payment import RENEWAL_MARGIN, PaymentStatus
from infra.database import Database
from models import ledger
from models.campaign import get_campaign
from models.case import open_cases
from models.investment import get_investment
from models.payment import get_attempt, get_payment, refunds_of
from tests.fixtures.pledges import NGN, NOW, TICKET, Pledge, add_pledge


def captured(amount_minor: int = TICKET, currency: str = NGN) -> RailAnswer:
    return RailAnswer(
        fact=PaymentFact.CAPTURED, provider_id="pi_1", amount_minor=amount_minor, captured_minor=amount_minor,
        currency=currency,
    )  # fmt: skip


async def tell(database: Database, scope: Scope, pledge: Pledge, answer: RailAnswer) -> None:
    """As the payment's process does: the row locked, the attempt read anew."""
    async with database.transaction(scope) as tx:
        payment = await get_payment(tx, pledge.payment.id, lock=True)
        attempt = await get_attempt(tx, pledge.attempt.reference)
        assert payment is not None and attempt is not None
        book = await open_book(tx, scope, payment, attempt, lifetime=timedelta(days=7), as_of=NOW)
        await apply_fact(book, answer)


async def posted(database: Database, scope: Scope, code: str) -> int:
    """The balance of an account; 0 for one that nothing has opened."""
    async with database.transaction(scope) as tx:
        try:
            return (await ledger.balance(tx, code)).posted_minor
        except NotFound:
            return 0


async def seen(database: Database, scope: Scope, pledge: Pledge) -> tuple[str, str, list[str], list[str]]:
    """Payment's status, investment's, the kinds of open cases, the reasons of refunds."""
    async with database.transaction(scope) as tx:
        payment, investment = (
            await get_payment(tx, pledge.payment.id),
            await get_investment(tx, pledge.investment.id),
        )
        assert payment is not None and investment is not None
        cases = [each.kind for each in await open_cases(tx, 10)]
        refunds = [each.reason for each in await refunds_of(tx, payment.id)]
    return str(payment.status), str(investment.status), cases, refunds


async def test_a_capture_told_three_times_is_booked_once(database: Database, scope: Scope, owner_url: str) -> None:
    pledge = await add_pledge(database, scope, owner_url)
    for _ in range(3):
        await tell(database, scope, pledge, captured())
    assert await seen(database, scope, pledge) == ("succeeded", "captured", [], [])
    assert await posted(database, scope, f"escrow:{pledge.campaign.id}:NGN") == TICKET


@pytest.mark.parametrize(("amount", "currency"), [(TICKET - 1, NGN), (TICKET + 1, NGN), (TICKET, "USD")])
async def test_another_amount_is_never_booked_as_the_payment(
    database: Database, scope: Scope, owner_url: str, amount: int, currency: str
) -> None:
    pledge = await add_pledge(database, scope, owner_url)
    await tell(database, scope, pledge, captured(amount, currency))
    status, investment, cases, refunds = await seen(database, scope, pledge)
    assert (status, investment) == ("failed", "failed")
    assert cases == ["amount_mismatch"] and refunds == (["amount_mismatch"] if currency == NGN else [])
    assert await posted(database, scope, f"escrow:{pledge.campaign.id}:NGN") == 0


async def test_another_amount_that_was_held_after_the_end_goes_back_when_it_is_taken(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """The hold was told before, and nothing could be booked then: the capture is not the same thing told again."""
    pledge = await add_pledge(database, scope, owner_url, status=PaymentStatus.CANCELED)
    held = RailAnswer(fact=PaymentFact.AUTHORIZED, provider_id="pi_1", amount_minor=TICKET - 1, currency=NGN)
    for answer in (held, held, captured(TICKET - 1), captured(TICKET - 1)):
        await tell(database, scope, pledge, answer)
    status, _, cases, refunds = await seen(database, scope, pledge)
    assert (status, cases, refunds) == ("canceled", ["amount_mismatch"], ["amount_mismatch"])
    assert await posted(database, scope, "suspense:NGN") == TICKET - 1


@pytest.mark.parametrize("ended", [PaymentStatus.CANCELED, PaymentStatus.EXPIRED, PaymentStatus.FAILED])
async def test_money_after_the_end_is_a_case_and_goes_back(
    database: Database, scope: Scope, owner_url: str, ended: PaymentStatus
) -> None:
    pledge = await add_pledge(database, scope, owner_url, status=ended)
    await tell(database, scope, pledge, captured())
    status, investment, cases, refunds = await seen(database, scope, pledge)
    assert status == ended and investment != "captured", "a terminal payment has no way back"
    assert (cases, refunds) == (["late_success"], ["late_success"])
    assert await posted(database, scope, f"escrow:{pledge.campaign.id}:NGN") == 0
    assert await posted(database, scope, "suspense:NGN") == TICKET


async def test_a_late_authorization_is_a_case_and_no_hold(database: Database, scope: Scope, owner_url: str) -> None:
    pledge = await add_pledge(database, scope, owner_url, status=PaymentStatus.CANCELED)
    answer = RailAnswer(fact=PaymentFact.AUTHORIZED, provider_id="pi_1", amount_minor=TICKET, currency=NGN)
    await tell(database, scope, pledge, answer)
    status, _, cases, _ = await seen(database, scope, pledge)
    assert (status, cases) == ("canceled", ["late_success"])
    async with database.transaction(scope) as tx:
        attempt = await get_attempt(tx, pledge.attempt.reference)
    assert attempt is not None and not attempt.held


async def test_a_card_held_in_the_window_for_slow_money_is_renewed_in_time(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """The deadline is over, and the card lapses before the campaign decides: its process must look before that."""
    pledge = await add_pledge(database, scope, owner_url, waiting_seconds=15 * 86_400, capture="deferred")
    decides = NOW + timedelta(days=14)
    async with database.transaction(scope) as tx:
        await tx.execute(
            "update campaigns set status = 'waiting_funds', deadline_at = %s, next_action_at = %s",
            (NOW - timedelta(hours=1), decides),
        )
    await tell(
        database, scope, pledge,
        RailAnswer(fact=PaymentFact.AUTHORIZED, provider_id="pi_1", amount_minor=TICKET, currency=NGN),
    )  # fmt: skip
    async with database.transaction(scope) as tx:
        campaign = await get_campaign(tx, pledge.campaign.id)
    assert campaign is not None and campaign.next_action_at == NOW + timedelta(days=7) - RENEWAL_MARGIN
