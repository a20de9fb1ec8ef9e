"""A run's steps on a real Postgres: what each does, does once, and refuses."""

from contracts.base import Scope
from domain.distribution import DistributionStatus, LineStatus
from infra.database import Database
from tests.fixtures.distributions import Holders

D, L = DistributionStatus, LineStatus


async def test_a_run_from_calculation_to_wallets(database: Database, scope: Scope, owner_url: str) -> None:
    fund = await Holders.make(database, scope, owner_url, 300_000, 200_000, 100_000)
    await fund.tops_up(1_000_000)
    run = await fund.run(900_000, tax_bps=1_000, platform_fee_bps=100)
    found = await run.paid()
    assert (found.status, found.lines, found.share_minor, found.net_minor) == (D.PAID, 3, 900_000, 801_000)
    assert await run.counts() == {L.CREDITED_TO_WALLET: 3}
    assert [await fund.wallet(each) for each in fund.pledges] == [400_500, 267_000, 133_500]
    assert (await fund.balance("tax_withheld"), await fund.balance("platform_fees")) == (90_000, 9_000)
    assert await fund.balance("payable") == 0 and await fund.wallet(fund.owner) == 100_000
