"""`chama audit` finds what is planted in the books, in our rows and at the provider, and names each."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import DictRow, dict_row

from cli.demo.world import CARD, World
from tests.fixtures.stack import audit
from tests.fixtures.stage import superuser_url

TRANSFER = """
select t.id, d.code as debit, c.code as credit from ledger_transfers t
join ledger_accounts d on d.id = t.debit_id join ledger_accounts c on c.id = t.credit_id
where t.tenant_id = %s and t.phase in ('single', 'post') order by t.id limit 1
"""


@contextmanager
def behind_the_triggers(world: World) -> Iterator[psycopg.Connection[DictRow]]:
    """A superuser who switches triggers off: what append-only tables cannot stop, the auditor must see."""
    with psycopg.connect(superuser_url(world.stack), row_factory=dict_row) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


async def captured(world: World) -> str:
    """The reference of an attempt that brought 250,000."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 250_000, "stripe", instrument=CARD)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    payment = await ada.get(f"/v1/payments/{made['payment_id']}")
    return str(payment["attempts"][0]["reference"])


async def test_one_unit_in_the_books(world: World) -> None:
    await captured(world)
    with behind_the_triggers(world) as connection:
        transfer = connection.execute(TRANSFER, (world.seeded.scope.tenant_id,)).fetchone()
        assert transfer is not None
        change = "update ledger_transfers set amount_minor = amount_minor + %s where id = %s"
        connection.execute(change, (1, transfer["id"]))
    try:
        findings = await audit(world)
        off = [each for each in findings if each.startswith("A3")]
        assert len(off) == 2, findings
        for account in (transfer["debit"], transfer["credit"]):
            assert any(account in each for each in off), "the cached balance no longer equals its transfers"
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(change, (-1, transfer["id"]))


async def test_an_orphan_of_ours(world: World) -> None:
    reference = await captured(world)
    rename = "update payment_attempts set reference = %s where reference = %s"
    with behind_the_triggers(world) as connection:
        connection.execute(rename, ("ch-nobody-knows-this", reference))
    try:
        findings = await audit(world)
        assert any("ch-nobody-knows-this" in each and "orphan of ours" in each for each in findings), findings
        assert any(reference in each and "orphan at the provider" in each for each in findings), findings
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(rename, (reference, "ch-nobody-knows-this"))


async def test_an_orphan_at_the_provider(world: World) -> None:
    await captured(world)
    orphan = {"secret_key": world.seeded.sandbox_keys["paystack"], "provider": "paystack", "amount": 77_700,
              "currency": "NGN", "reference": "stranger-0001"}  # fmt: skip
    (await world.sandbox.post("/_sandbox/payments/orphan", json=orphan)).raise_for_status()
    findings = await audit(world)
    assert len(findings) == 1 and "stranger-0001" in findings[0] and "77700 captured" in findings[0], findings
    with behind_the_triggers(world) as connection:  # the account goes with its orphan, so that later audits are clean
        connection.execute(
            "delete from provider_accounts where tenant_id = %s and provider = 'paystack'",
            (world.seeded.scope.tenant_id,),
        )


async def test_a_counter_that_drifted(world: World) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=1_000)
    drift = "update campaigns set pledged_minor = pledged_minor + %s where id = %s"
    with behind_the_triggers(world) as connection:
        connection.execute(drift, (5, campaign))
    try:
        findings = await audit(world)
        assert len(findings) == 1 and findings[0].startswith("A9") and campaign in findings[0], findings
    finally:
        with behind_the_triggers(world) as connection:
            connection.execute(drift, (-5, campaign))
