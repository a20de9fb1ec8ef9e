"""`chama audit` finds what is planted in a distribution's lines that were paid out through a provider."""

from tests.audit.test_planted import behind_the_triggers
from tests.fixtures.stack import audit
from tests.fixtures.stage import Stage
from tests.stories.test_distribution_payouts import GOOD, declared, payout_of, raised


async def test_a_line_a_payout_and_a_leg_that_lie(world: Stage) -> None:
    fund = await raised(world, GOOD, "0223456789")
    who = fund.holders[0]
    run = await fund.paid(await declared(fund))
    made = await payout_of(fund, run, who)
    assert await audit(world) == []
    lies = {
        "update distribution_lines set status = 'failed' where payout_id = %(id)s": (
            "is not paid out, the ledger paystack, 100000, 90000, 10000",
            "its payout",
            "the lines owe 100000, the ledger holds 0",
        ),
        "update payouts set status = 'unknown' where id = %(id)s": ("its payout", "resolved by post"),
        "update distribution_lines set payout_id = null where payout_id = %(id)s": ("payout none is missing",),
        "update payouts set amount_minor = 89999 where id = %(id)s": ("with 89999", "rows 89999 sent"),
    }
    truth = """update distribution_lines set status = 'paid', payout_id = %(id)s
                where distribution_id = %(run)s and holder_id = %(who)s"""
    for lie, told in lies.items():
        with behind_the_triggers(world) as connection:
            connection.execute(lie, made)
        try:
            findings = await audit(world)
            assert all(any(each in finding for finding in findings) for each in told), findings
        finally:
            with behind_the_triggers(world) as connection:
                connection.execute(truth, {"id": made["id"], "run": run["id"], "who": who.user_id})
                connection.execute(
                    "update payouts set status = 'succeeded', amount_minor = 90000 where id = %(id)s", made
                )
    assert await audit(world) == []


async def test_a_transfer_the_provider_does_not_know(world: Stage) -> None:
    fund = await raised(world, GOOD)
    run = await fund.paid(await declared(fund))
    made = await payout_of(fund, run, fund.holders[0])
    rename = "update payouts set reference = %(name)s where id = %(id)s"
    with behind_the_triggers(world) as connection:
        connection.execute(rename, {"name": "pyo-nobody-knows-this", "id": made["id"]})
    try:
        findings = await audit(world)
        assert any("pyo-nobody-knows-this" in each and "orphan of ours" in each for each in findings), findings
        assert any(made["reference"] in each and "orphan at the provider" in each for each in findings), findings
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(rename, {"name": made["reference"], "id": made["id"]})
