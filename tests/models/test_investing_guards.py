"""What the tables of investing refuse though the code above them forgot: the cap, and ways out of a terminal state."""

import asyncio

import psycopg
import pytest

from contracts.base import Scope
from domain.investment import Bucket, InvestmentStatus
from domain.payment import PAYMENT, PaymentStatus
from infra.database import Database, fetch_one
from models.base import move
from models.campaign import get_campaign, shift
from models.investment import get_investment, move_investment
from models.payment import Payment, get_payment
from tests.fixtures.pledges import add_campaign, add_pledge, add_user

P = PaymentStatus


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
