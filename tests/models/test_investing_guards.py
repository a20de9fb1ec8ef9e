"""What the tables of investing refuse though the code above them forgot: the cap, and ways out of a terminal state."""

import asyncio

import psycopg
import pytest

from contracts.base import Scope
from domain.campaign import CampaignStatus
from domain.investment import Bucket, InvestmentStatus
from domain.payment import PAYMENT, PaymentStatus
from infra.database import Database, fetch_one
from models.base import move, update
from models.campaign import Campaign, NoLongerWanted, get_campaign, shift
from models.investment import get_investment, move_investment
from models.payment import Payment, get_payment
from tests.fixtures.pledges import TICKET, add_campaign, add_pledge, add_user

P, C = PaymentStatus, CampaignStatus


async def test_the_cap_holds_whoever_counts(database: Database, scope: Scope, owner_url: str) -> None:
    campaign = await add_campaign(database, scope, add_user(owner_url, scope))
    async with database.transaction(scope) as tx:
        await shift(tx, campaign.id, campaign.cap_minor - 1, None, Bucket.PLEDGED)
    with pytest.raises(psycopg.errors.CheckViolation):
        async with database.transaction(scope) as tx:
            await shift(tx, campaign.id, 2, None, Bucket.HELD)


async def test_a_terminal_pledge_stays_and_counts_nothing(database: Database, scope: Scope, owner_url: str) -> None:
    pledge = await add_pledge(database, scope, owner_url)
    async with database.transaction(scope) as tx:
        assert await move_investment(tx, pledge.investment, InvestmentStatus.CANCELED)
    for target in set(InvestmentStatus):
        async with database.transaction(scope) as tx:
            investment = await get_investment(tx, pledge.investment.id, lock=True)
            assert investment is not None
            assert not await move_investment(tx, investment, target), target
            campaign = await get_campaign(tx, pledge.campaign.id)
            assert campaign is not None
            assert (campaign.pledged_minor, campaign.held_minor, campaign.captured_minor) == (0, 0, 0)


@pytest.mark.parametrize("ended", [P.SUCCEEDED, P.FAILED, P.CANCELED, P.EXPIRED])
async def test_no_statement_moves_a_payment_out_of_its_end(
    database: Database, scope: Scope, owner_url: str, ended: PaymentStatus
) -> None:
    pledge = await add_pledge(database, scope, owner_url, status=ended)
    for target in P:
        async with database.transaction(scope) as tx:
            assert not await move(tx, Payment, PAYMENT, pledge.payment.id, target), target
    async with database.transaction(scope) as tx:
        payment = await get_payment(tx, pledge.payment.id)
    assert payment is not None and payment.status is ended


async def test_of_two_ends_at_once_one_wins(database: Database, scope: Scope, owner_url: str) -> None:
    pledge = await add_pledge(database, scope, owner_url)
    start = asyncio.Barrier(2)

    async def end(target: PaymentStatus) -> bool:
        async with database.transaction(scope) as tx:
            await start.wait()
            return await move(tx, Payment, PAYMENT, pledge.payment.id, target)

    assert sorted(await asyncio.gather(end(P.SUCCEEDED), end(P.CANCELED))) == [False, True]


async def test_a_scope_is_gone_with_its_transaction(scope: Scope, owner_url: str, database: Database) -> None:
    """The next borrower of the connection must not inherit a tenant (RELIABILITY E3)."""
    one = Database(database._pool.conninfo, name="one connection", max_size=1)
    await one.open()
    async with one.transaction(scope) as tx:
        row = await fetch_one(tx, "select count(*) as found from tenant_settings")
        assert row is not None and row["found"] == 1
    async with one.transaction() as tx:
        row = await fetch_one(tx, "select count(*) as found from tenant_settings")
        assert row is not None and row["found"] == 0
    await one.close()


@pytest.mark.parametrize("status", [C.SUCCESSFUL, C.CANCELED, C.REFUNDING])
async def test_money_that_meets_the_decision_looks_again(
    database: Database, scope: Scope, owner_url: str, status: CampaignStatus
) -> None:
    """The step has read that the campaign takes money; while it waits for the row, the campaign is decided."""
    pledge = await add_pledge(database, scope, owner_url)
    async with database.transaction(scope) as decision:
        await update(decision, Campaign, {"id": pledge.campaign.id}, {"status": status})
        late = asyncio.create_task(_hold(database, scope, pledge.investment.id))
        await asyncio.sleep(0.1)
        assert not late.done()
    with pytest.raises(NoLongerWanted):
        await late
    async with database.transaction(scope) as tx:
        investment, campaign = (
            await get_investment(tx, pledge.investment.id),
            await get_campaign(tx, pledge.campaign.id),
        )
    assert investment is not None and investment.status is pledge.investment.status
    assert campaign is not None and (campaign.held_minor, campaign.pledged_minor) == (0, TICKET)


async def _hold(database: Database, scope: Scope, investment_id: str) -> None:
    async with database.transaction(scope) as tx:
        investment = await get_investment(tx, investment_id, lock=True)
        assert investment is not None
        await move_investment(tx, investment, InvestmentStatus.HELD, wanted=True)


@pytest.mark.parametrize("status", [C.LIVE, C.PAUSED, C.WAITING_FUNDS])
async def test_money_is_wanted_until_the_decision(
    database: Database, scope: Scope, owner_url: str, status: CampaignStatus
) -> None:
    pledge = await add_pledge(database, scope, owner_url)
    async with database.transaction(scope) as tx:
        await update(tx, Campaign, {"id": pledge.campaign.id}, {"status": status})
    await _hold(database, scope, pledge.investment.id)
    async with database.transaction(scope) as tx:
        campaign = await get_campaign(tx, pledge.campaign.id)
    assert campaign is not None and campaign.held_minor == TICKET
