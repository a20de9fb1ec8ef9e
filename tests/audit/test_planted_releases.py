"""`chama audit` finds what is planted in the release of a campaign's money: in tranches, in lines, and in the ledger."""

from tests.audit.test_planted import behind_the_triggers
from tests.fixtures.stack import audit
from tests.fixtures.stage import Stage
from tests.stories.test_milestones import Raised, parts


async def test_a_tranche_that_lies(world: Stage) -> None:
    """It says that more was released than left the escrow; and another says it never was."""
    fund = await Raised.make(world, 300_000, fee_bps=100, milestones=parts((5_000, 10), (5_000, 20)))
    await fund.reach(1)
    assert await audit(world) == []
    where = (world.seeded.scope.tenant_id, fund.campaign)
    change = (
        "update tranches set amount_minor = amount_minor + %s where tenant_id = %s and campaign_id = %s and number = 1"
    )
    with behind_the_triggers(world) as connection:
        connection.execute(change, (1, *where))
    try:
        findings = await audit(world)
        assert all(each.startswith("A2") for each in findings), findings
        assert any(
            f"escrow of campaign {fund.campaign}: captured 300000 less released 150001" in each for each in findings
        )
        assert any("releases 150001, fee 1500, the ledger 150000, fee 1500" in each for each in findings), findings
        assert any("plans 300000, its tranches 300001" in each for each in findings), findings
        assert any("released and not in the wallet" in each for each in findings) is False, "it is in the wallet"
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(change, (-1, *where))
    unsay = "update tranches set credited_at = {} where tenant_id = %s and campaign_id = %s and number = 1"
    with behind_the_triggers(world) as connection:
        connection.execute(unsay.format("null").encode(), where)
    try:
        (finding,) = await audit(world)
        assert "released and not in the wallet 148500 less sent 0, the ledger holds 0" in finding
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(unsay.format("now()").encode(), where)


async def test_a_line_that_lies(world: Stage) -> None:
    fund = await Raised.make(world, 300_000, milestones=parts((5_000, 5), (5_000, 20)))
    await world.advance(days=9)
    await fund.vote(fund.holders[0], "refund")
    await fund.until(1, "returned")
    await world.until_rest()
    assert await audit(world) == []
    change = "update milestone_holders set share_minor = share_minor + %s where tenant_id = %s"
    with behind_the_triggers(world) as connection:
        connection.execute(change, (7, world.seeded.scope.tenant_id))
    try:
        findings = await audit(world)
        assert len(findings) == 3 and all(each.startswith("A2") for each in findings), findings
        assert any(f"returns 300007 to {fund.holders[0].user_id}, the ledger 300000 to" in each for each in findings)
        assert any("returned 300007, the ledger holds 0" in each for each in findings), findings
        assert any("returns 300000, its lines 300007" in each for each in findings), findings
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(change, (-7, world.seeded.scope.tenant_id))
