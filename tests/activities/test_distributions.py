"""A run's steps on a real Postgres: what each does, does once, and refuses; and that the auditor sees what is wrong."""

import asyncio
from dataclasses import fields
from datetime import UTC, date, datetime

import psycopg
import pytest
from psycopg.errors import CheckViolation, UniqueViolation

from contracts.base import Scope
from contracts.distribution import DistributionStep
from domain.accounts import AccountSpec, LedgerKeyConflict, Leg, Phase, Posting, wallet
from domain.distribution import DistributionStatus, Holding, Line, LineStatus, ShareRule, calculate
from domain.distribution_postings import distribution_payable
from domain.distribution_run import FUNDING_AGAIN
from domain.money import Rounding
from infra.database import Database, Tx
from models import ledger
from models.audit import audit_books
from models.distribution import Distribution
from models.distribution_audit import wrong_distributions
from models.distribution_lines import NOBODY, give_up_carried, release_taken, set_aside
from models.distribution_money import give_up
from tests.fixtures.api import set_scope
from tests.fixtures.distributions import NOW, Holders
from tests.fixtures.pledges import NGN
from tests.fixtures.postgres import role_url

D, L = DistributionStatus, LineStatus
Q1 = {"start": date(2027, 1, 1), "end": date(2027, 3, 31)}
Q0 = {"start": date(2026, 10, 1), "end": date(2026, 12, 31)}


async def findings(auditor: Database, scope: Scope) -> list[str]:
    """What is wrong with this tenant's distributions and books."""
    async with auditor.transaction() as tx:
        books = [str(each) for each in await audit_books(tx)]
    async with auditor.transaction() as tx:
        return [each for each in [*books, *await wrong_distributions(tx)] if str(scope.tenant_id) in each]


@pytest.fixture
async def fund(database: Database, scope: Scope, owner_url: str) -> Holders:
    made = await Holders.make(database, scope, owner_url, 300_000, 200_000, 100_000)
    await made.tops_up(1_000_000)
    return made


async def test_a_run_from_calculation_to_wallets(fund: Holders, auditor: Database) -> None:
    run = await fund.run(900_000, tax_bps=1_000, platform_fee_bps=100)
    found = await run.paid()
    assert (found.status, found.lines, found.share_minor, found.net_minor) == (D.PAID, 3, 900_000, 801_000)
    assert await run.counts() == {L.CREDITED_TO_WALLET: 3}
    assert [await fund.wallet(each) for each in fund.pledges] == [400_500, 267_000, 133_500]
    assert (await fund.balance("tax_withheld"), await fund.balance("platform_fees")) == (90_000, 9_000)
    assert await fund.balance("payable") == 0 and await fund.wallet(fund.owner) == 100_000
    assert await findings(auditor, fund.scope) == []


async def test_the_lines_are_those_of_the_domain(fund: Holders) -> None:
    """By days, with every rounding, several investments of one holder, and somebody who came after the record date."""
    first = next(iter(fund.pledges))
    await fund.holds(77_777, since=datetime(2027, 2, 3, 23, 30, tzinfo=UTC), holder=first)
    late = await fund.holds(50_000, since=datetime(2027, 4, 1, tzinfo=UTC))
    run = await fund.run(
        1_234_567, rule=ShareRule.BY_AMOUNT_DAYS, tax_bps=333, platform_fee_bps=77, platform_fee_rounding=Rounding.HALF_EVEN,
        provider_fee_minor=25, minimum_payout_minor=200_000, zone="Africa/Lagos",
    )  # fmt: skip
    found = await run.calculate()
    rows = fund.sql(
        "select investor_id, amount_minor, created_at from investments where campaign_id = %s", fund.campaign.id
    )
    expected = calculate(found.terms, [Holding(*row) for row in rows])
    got = [
        Line(**{field.name: int(value) if isinstance(value := getattr(line, field.name), int) else value
                for field in fields(Line)} | {"weight": int(line.weight)})
        for line in await run.lines()
    ]  # fmt: skip
    assert tuple(got) == expected.lines and late not in {line.holder_id for line in got}
    assert found.kept_minor > 0 and found.net_minor > 0, "both kinds of lines were compared"
    assert found.to_fund_minor == expected.totals.to_fund_minor


async def test_every_step_twice_pays_once(fund: Holders, auditor: Database) -> None:
    run = await fund.run(600_000)
    await run.calculate()
    await run.calculate()
    await run.move(D.PENDING_APPROVAL, D.APPROVED)
    assert [await run.advance() for _ in range(2)] == [DistributionStep.BEGIN] * 2
    for _ in range(2):
        await run.activities.begin_distribution(run.task)
    assert [await run.pay_range(1, 2), await run.pay_range(1, 2), await run.pay_range()] == [2, 0, 1]
    for _ in range(2):
        await run.activities.finish_distribution(run.task)
    assert [await fund.wallet(each) for each in fund.pledges] == [300_000, 200_000, 100_000]
    assert (await run.row()).status is D.PAID
    assert fund.sql("select count(*) from notifications") == [(3,)]
    assert await findings(auditor, fund.scope) == []


async def test_two_workers_at_one_range_pay_it_once(database: Database, scope: Scope, owner_url: str) -> None:
    fund = await Holders.make(database, scope, owner_url, *range(1, 41))
    await fund.tops_up(820_000)
    run = await fund.run(820_000)
    await run.begun()
    paid = await asyncio.gather(*(run.pay_range() for _ in range(4)))
    assert sum(paid) == 40
    assert sum([await fund.wallet(each) for each in fund.pledges]) == 820_000 and await fund.balance("payable") == 0


async def test_a_dry_run_leaves_its_totals_only(fund: Holders) -> None:
    run = await fund.run(600_000, dry_run=True)
    found = await run.calculate()
    assert (found.status, found.lines, found.net_minor) == (D.CALCULATED, 3, 600_000)
    assert await run.lines() == [] and await run.advance() is DistributionStep.DONE


@pytest.mark.parametrize(("profit", "share", "code"), [(600, 0, "nothing_to_distribute"), (600, 10_000, "no_holders")])
async def test_what_cannot_be_shared(
    database: Database, scope: Scope, owner_url: str, profit: int, share: int, code: str
) -> None:
    fund = await Holders.make(database, scope, owner_url, 5)
    run = await fund.run(profit, profit_share_bps=share, **({"start": date(2020, 1, 1), "end": date(2020, 3, 31)}
                                                             if share else {}))  # fmt: skip
    found = await run.calculate()
    assert (found.status, found.error_code, found.lines) == (D.CALCULATED, code, 0)
    assert await run.lines() == []


async def test_without_its_money_it_waits_and_nothing_moves(fund: Holders) -> None:
    run = await fund.run(1_000_001)
    await run.calculate()
    await run.move(D.PENDING_APPROVAL, D.APPROVED)
    assert await run.advance() is DistributionStep.WAIT
    found = await run.row()
    assert (found.status, found.blocked_reason, found.hold_placed) == (D.FUNDING, "not_funded", False)
    assert found.next_action_at == NOW + FUNDING_AGAIN
    written = "select updated_at from distributions"
    before = fund.sql(written)
    assert await run.advance() is DistributionStep.WAIT
    assert fund.sql(written) == before, "somebody looked once more: nothing is new"
    await run.activities.begin_distribution(run.task)
    assert (await run.row()).status is D.FUNDING and await fund.wallet(fund.owner) == 1_000_000
    await fund.tops_up(1)
    assert await run.advance() is DistributionStep.BEGIN
    assert (await run.row()).blocked_reason is None and await fund.wallet(fund.owner) == 0, "reserved, not yet moved"


async def test_a_chargeback_is_an_adjustment_of_the_next_run(fund: Holders, auditor: Database) -> None:
    """Ben is charged back after the record date; what he had is taken from what his other investment earns."""
    ada, ben, chi = fund.pledges
    first = await fund.run(600_000, **Q0)
    await first.paid()
    before = await first.lines()
    await fund.charged_back(ben, datetime(2027, 1, 15, tzinfo=UTC))
    await fund.holds(600_000, since=datetime(2027, 1, 20, tzinfo=UTC), holder=ben)
    second = await fund.run(400_000, **Q1)
    found = await second.calculate()
    assert await second.calculate() == found, "the adjustment is taken along once, however often it is calculated"
    await second.move(D.PENDING_APPROVAL, D.APPROVED)
    await second.advance()
    await second.activities.begin_distribution(second.task)
    await second.pay_range()
    await second.activities.finish_distribution(second.task)
    lines = {line.holder_id: line for line in await second.lines()}
    assert [lines[each].share_minor for each in (ada, ben, chi)] == [120_000, 240_000, 40_000]
    assert (lines[ben].adjustment_minor, lines[ben].net_minor) == (-200_000, 40_000)
    assert (found.recovered_minor, found.adjustment_minor) == (200_000, -200_000)
    assert [await fund.wallet(each) for each in (ada, ben, chi)] == [420_000, 240_000, 140_000]
    assert await fund.wallet(fund.owner) == 1_000_000 - 600_000 - 400_000 + 200_000
    assert await first.lines() == before, "the past stays as it is"
    third = await fund.run(400_000, start=date(2027, 4, 1), end=date(2027, 6, 30))
    assert (await third.calculate()).adjustment_minor == 0, "taken back once"
    assert await findings(auditor, fund.scope) == []


@pytest.mark.parametrize(("status", "taken_back"), [("refunded", -100_000), ("refunding", 0)])
async def test_a_refund_after_the_record_date_is_one_too(fund: Holders, status: str, taken_back: int) -> None:
    """When it has arrived: one under way may fail. Both count for no later record date."""
    *_, chi = fund.pledges
    await (await fund.run(600_000, **Q0)).paid()
    scope, reference = (fund.scope.tenant_id, "test"), f"ch-{chi}"
    [(payment,)] = fund.sql("select payment_id from investments where id = %s", fund.pledges[chi])
    fund.sql(
        "insert into payment_attempts (tenant_id, mode, reference, payment_id, ordinal, provider, status, amount_minor, "
        "currency, started_at) values (%s, %s, %s, %s, 1, 'wallet', 'captured', 100000, 'NGN', now())",
        *scope, reference, payment,
    )  # fmt: skip
    fund.sql(
        "insert into refunds (tenant_id, mode, id, payment_id, attempt_reference, provider, amount_minor, currency, reason, "
        "source_account, status, created_at) values (%s, %s, %s, %s, %s, 'wallet', 100000, 'NGN', 'x', 'x', 'succeeded', %s)",
        *scope, f"ref_{chi}", payment, reference, datetime(2027, 2, 1, tzinfo=UTC),
    )  # fmt: skip
    fund.sql("update investments set status = %s where id = %s", status, fund.pledges[chi])
    second = await fund.run(400_000, **Q1)
    assert (await second.calculate()).adjustment_minor == taken_back
    assert {line.holder_id: line.share_minor for line in await second.lines()}.get(chi, 0) == 0


async def test_what_is_carried_goes_into_the_next_run_once(fund: Holders, auditor: Database) -> None:
    *_, chi = fund.pledges
    first = await fund.run(600, minimum_payout_minor=200, **Q0)
    assert (await first.paid()).kept_minor == 100
    assert await fund.balance("payable") == 100
    second, third = await fund.run(600, minimum_payout_minor=150, **Q1), await fund.run(60, start=date(2027, 4, 1),
                                                                                        end=date(2027, 6, 30))  # fmt: skip
    assert (await second.calculate()).carried_in_minor == 100
    assert (await third.calculate()).carried_in_minor == 0, "another run has it"
    await second.move(D.PENDING_APPROVAL, D.APPROVED)
    await second.advance()
    await second.activities.begin_distribution(second.task)
    await second.pay_range()
    await second.activities.finish_distribution(second.task)
    assert await fund.wallet(chi) == 200 and await fund.balance("payable") == 0
    assert await findings(auditor, fund.scope) == []


async def test_what_was_taken_along_is_given_back_to_a_run_that_pays_again(fund: Holders, auditor: Database) -> None:
    """Kept by a run that will not pay it, nobody would ever pay it."""
    first = await fund.run(600, minimum_payout_minor=200, **Q0)
    await first.paid()
    second = await fund.run(600, minimum_payout_minor=150, **Q1)
    assert (await second.calculate()).carried_in_minor == 100
    await first.move(D.PAYING)
    row = await second.row()
    async with fund.db.transaction(fund.scope) as tx:
        await release_taken(tx, row)
    assert {line.carried_into for line in await first.lines()} == {None}


async def test_a_return_while_lines_and_ledger_are_compared_is_no_difference(
    fund: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statements of a comparison see different moments; it is made again before a defect is announced."""
    run, seen = await fund.run(600), []

    async def once_too_few(tx: Tx, row: Distribution) -> int:
        seen.append(row.id)
        return -1 if len(seen) == 1 else 0

    monkeypatch.setattr("activities.distributions.distribution_payouts.sent", once_too_few)
    assert ((await run.paid()).blocked_reason, len(seen)) == (None, 2)


async def test_what_is_left_of_the_last_run_is_unclaimed(fund: Holders, auditor: Database) -> None:
    run = await fund.run(600, minimum_payout_minor=200)
    row = await run.paid()
    for expected in ((1, 100), (0, 0)):
        async with fund.db.transaction(fund.scope) as tx:
            assert await give_up_carried(tx, run.id) == expected
            await give_up(tx, row, expected[1], NOW, occasion="unc_1")
    assert (await fund.balance("payable"), await fund.balance("unclaimed")) == (0, 100)
    assert sorted(str(line.carried_into) for line in await run.lines()) == ["None", "None", NOBODY]
    assert await findings(auditor, fund.scope) == []


async def test_held_lines_are_set_aside_and_carried(fund: Holders, auditor: Database) -> None:
    ada, *_ = fund.pledges
    fund.sql(
        "insert into payout_holds (tenant_id, mode, user_id, held, reason, changed_by, created_at) "
        "values (%s, 'test', %s, true, 'No passport.', 'x', now())",
        fund.scope.tenant_id, ada,
    )  # fmt: skip
    first = await fund.run(600_000, tax_bps=1_000, **Q0)
    assert (await first.paid()).status is D.PARTIALLY_PAID
    assert await first.counts() == {L.HELD: 1, L.CREDITED_TO_WALLET: 2}
    assert await findings(auditor, fund.scope) == []
    async with fund.db.transaction(fund.scope) as tx:
        assert await set_aside(tx, first.id, L.CARRIED_FORWARD) == (1, 300_000)
    await first.move(D.PAID)
    fund.sql("update payout_holds set held = false")
    second = await fund.run(6_000, tax_bps=1_000, **Q1)
    await second.paid()
    assert await fund.wallet(ada) == 270_000 + 2_700, "the gross is carried; its tax is taken when it is paid"
    assert await fund.balance("tax_withheld") == 60_600 and await fund.balance("payable") == 0
    assert await findings(auditor, fund.scope) == []


async def test_a_line_that_a_rule_refuses_fails_alone(fund: Holders) -> None:
    """Somebody else's posting has the key of the second line."""
    run = await fund.run(600_000)
    await run.begun()
    payable, other = distribution_payable(fund.campaign.id, NGN), wallet(fund.owner, NGN)
    async with fund.db.transaction(fund.scope) as tx:
        await ledger.post(tx, _moves(f"distribution/{run.id}/2", other, payable))
    assert await run.pay_range() == 3
    assert await run.counts() == {L.CREDITED_TO_WALLET: 2, L.FAILED: 1}
    [failed] = [line for line in await run.lines() if line.status is L.FAILED]
    assert (failed.line_no, failed.error_code) == (2, LedgerKeyConflict("").code)


def _moves(key: str, debit: AccountSpec, credit: AccountSpec) -> Posting:
    return Posting(key, "a_mistake", Phase.SINGLE, NOW, (Leg(debit, 1), Leg(credit, -1)))


async def test_a_run_whose_lines_the_ledger_does_not_know_is_not_paid(fund: Holders) -> None:
    run = await fund.run(600_000)
    await run.begun()
    await run.pay_range(1, 2)
    fund.sql("update distribution_lines set status = 'credited_to_wallet' where status = 'queued'")
    await run.activities.finish_distribution(run.task)
    found = await run.row()
    assert (found.status, found.blocked_reason) == (D.PARTIALLY_PAID, "ledger_differs")


FROZEN = {
    "a term": "update distributions set tax_bps = 1",
    "a total after the calculation": "update distributions set kept_minor = 1",
    "a line's figure": "update distribution_lines set net_minor = net_minor + 1, gross_minor = gross_minor + 1, "
                       "share_minor = share_minor + 1",
    "a line more": "insert into distribution_lines select (l).* from (select distribution_lines l from distribution_lines) x",
    "a line less": "delete from distribution_lines",
}  # fmt: skip
"""Each adds up, so that no other check refuses it."""


@pytest.mark.parametrize("what", FROZEN)
async def test_the_database_keeps_what_was_calculated(fund: Holders, what: str) -> None:
    run = await fund.run(600_000)
    await run.calculate()
    with psycopg.connect(role_url(fund.owner_url, "chama_app")) as connection:
        set_scope(connection, fund.scope)
        with pytest.raises((CheckViolation, UniqueViolation)):
            connection.execute(FROZEN[what])


async def test_a_period_counts_once(fund: Holders) -> None:
    await fund.run(600_000)
    await fund.run(600_000, dry_run=True)
    with pytest.raises(UniqueViolation):
        await fund.run(700_000)


PLANTED = {
    "a line's net": ("update distribution_lines set net_minor = net_minor + 1, gross_minor = gross_minor + 1, "
                     "share_minor = share_minor + 1 where line_no = 2", ["line 2", "totals"]),
    "a line's state": ("update distribution_lines set status = 'queued' where line_no = 1",
                       ["line 1: is not credited", "payable:"]),
    "a holder": ("update distribution_lines set holder_id = 'usr_x' where line_no = 3", ["line 3"]),
    "a total": ("update distributions set recovered_minor = 1", ["totals"]),
    "an adjustment of nobody's": ("update distribution_lines set adjustment_minor = adjustment_minor - 1, "
                                  "share_minor = share_minor + 1 where line_no = 1", ["line 1: carries in 0 and adjusts -1"]),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
async def test_the_auditor_names_what_is_planted(fund: Holders, auditor: Database, what: str) -> None:
    run = await fund.run(600_000, tax_bps=1_000)
    await run.paid()
    assert await findings(auditor, fund.scope) == []
    statement, words = PLANTED[what]
    tables = ("distributions", "distribution_lines")
    for table in tables:
        fund.sql(f"alter table {table} disable trigger user")
    fund.sql(statement)
    found = await findings(auditor, fund.scope)
    for table in tables:
        fund.sql(f"alter table {table} enable trigger user")
    assert found and all(any(word in each for each in found) for word in words), found
    assert any(run.id in each for each in found)
