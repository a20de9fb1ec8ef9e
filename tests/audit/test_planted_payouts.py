"""`chama audit` finds what is planted in payouts: in our rows, in the holds, and at the provider."""

from cli.demo.world import Json
from tests.audit.test_planted import behind_the_triggers
from tests.fixtures.payouts import AMOUNT, Saver, saver, settle_transfer
from tests.fixtures.stack import audit
from tests.fixtures.stage import Stage


async def paid(world: Stage) -> tuple[Saver, Json]:
    """A payout that was sent."""
    ada = await saver(world)
    made = await ada.withdraw()
    await ada.until(made, "succeeded")
    assert await audit(world) == []
    return ada, made


async def test_a_row_that_lies(world: Stage) -> None:
    _, made = await paid(world)
    lie = "update payouts set status = %s where id = %s"
    with behind_the_triggers(world) as connection:
        connection.execute(lie, ("failed", made["id"]))
    try:
        findings = await audit(world)
        assert len(findings) == 2 and all(each.startswith("A2") for each in findings), findings
        assert any(made["id"] in each and "resolved by post" in each for each in findings)
        assert any(f"provider {AMOUNT} sent, ledger {AMOUNT} sent, rows 0 sent" in each for each in findings)
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(lie, ("succeeded", made["id"]))


async def test_an_orphan_on_each_side(world: Stage) -> None:
    _, made = await paid(world)
    rename = "update payouts set reference = %s where id = %s"
    with behind_the_triggers(world) as connection:
        connection.execute(rename, ("pyo-nobody-knows-this", made["id"]))
    try:
        findings = await audit(world)
        assert any("pyo-nobody-knows-this" in each and "orphan of ours" in each for each in findings), findings
        assert any(made["reference"] in each and "orphan at the provider" in each for each in findings), findings
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(rename, (made["reference"], made["id"]))


async def test_a_return_nobody_told_of(world: Stage) -> None:
    ada, made = await paid(world)
    await world.fault("paystack", "webhook", "drop", times=10)
    await settle_transfer(world, made, "returned")
    (finding,) = await audit(world)
    assert made["reference"] in finding and f"provider 0 sent, ledger {AMOUNT} sent" in finding
    await world.admin.post(f"/v1/admin/payouts/{made['id']}/check")
    await ada.until(made, "returned")
