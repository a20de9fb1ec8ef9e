"""What a payer's bank took back is given back by nobody else: not by a settlement, and not after a missed milestone. The books
say where it went: out of the campaign's escrow, against the provider that lost it."""

import asyncio
from typing import Any

import pytest
from psycopg.errors import SerializationFailure

from activities.gateways.protocols import RailRejected
from activities.settlements import is_covered
from contracts.base import Scope
from contracts.milestone import MilestoneStep
from domain.allocation import split
from domain.milestone import VOTE_WINDOW
from infra.database import Database
from models import ledger
from models.audit import audit_books
from models.campaign import get_campaign
from models.chargeback import charge_back
from models.investment import MONEY_MOVED, get_investment
from models.milestone_audit import wrong_releases
from models.provider import ProviderAccount
from models.reconciliation import begin, ledger_side, rows_side, unmatched_payments, wrong_counters
from models.refund_reconciliation import wrong_credits
from models.settlement import get_settlement
from tests.activities.test_bulk_settlements import retry
from tests.activities.test_milestones import DAY, MISSED, Raised, going_back
from tests.fixtures.distributions import NOW as FUNDED_AT
from tests.fixtures.pledges import NGN, NOW
from tests.fixtures.settling import Settling

_S = MilestoneStep


async def findings(auditor: Database, scope: Scope) -> list[str]:
    """What is wrong with this tenant's books, rows and counters."""
    async with auditor.transaction() as tx:
        found = [str(each) for each in await audit_books(tx)]
    async with auditor.transaction() as tx:
        for check in (wrong_releases, wrong_credits, wrong_counters):
            found += await check(tx)
    return [each for each in found if str(scope.tenant_id) in each]


async def balance(db: Database, scope: Scope, code: str) -> int:
    async with db.transaction(scope) as tx:
        return sum(each.posted_minor for each in await ledger.accounts(tx, code))


async def recorded(db: Database, scope: Scope, investment_id: str) -> bool:
    async with db.transaction(scope) as tx:
        investment = await get_investment(tx, investment_id, lock=True)
        assert investment is not None
        return await charge_back(tx, investment, NOW)


async def charged_back(each: Settling, number: int, *, by_the_release_before: bool = False) -> None:
    """`by_the_release_before`: it wrote the row, and booked nothing."""
    if by_the_release_before:
        each.sql("update investments set charged_back_at = %s where id = %s", NOW, each.pledges[number].id)
    else:
        assert await recorded(each.db, each.scope, each.pledges[number].id)


@pytest.mark.parametrize("by_the_release_before", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("refund_to", ["wallet", "source"])
async def test_a_settlement_gives_back_what_no_bank_took_back(
    database: Database, scope: Scope, owner_url: str, auditor: Database, refund_to: str, alone: bool,
    by_the_release_before: bool,
) -> None:  # fmt: skip
    """The chargeback comes when the refunds are planned, and none of them has begun."""
    each = await Settling.make(
        database, scope, owner_url, ("stripe", "stripe", "wallet"), outcome="release", captured=True
    )
    ada, settled = each.pledges[0], each.provider_id(0)
    each.sql("update investments set refund_to = %s where id = %s", refund_to, ada.id)
    await charged_back(each, 0, by_the_release_before=by_the_release_before)
    async with database.transaction(scope) as tx:
        settlement = await get_settlement(tx, each.settlement)
        assert settlement is not None and await is_covered(tx, settlement)
    if alone:
        each.one_by_one()
    progress = await each.run()
    assert (progress.open, progress.done, progress.failed) == (0, 3, 0)
    assert each.line(0) == ("done", "charged_back")
    assert [each.pledge(n) for n in range(3)] == ["captured", "refunded", "refunded"]
    assert ("refund", settled) not in each.cards.calls
    assert each.sql("select count(*) from refunds where payment_id = %s", ada.payment_id) == [(0,)]
    assert await balance(database, scope, f"wallet:{ada.investor_id}:") == 0
    assert await balance(database, scope, f"escrow:{each.campaign.id}:") == 0
    assert await balance(database, scope, "provider:stripe:") == 0, "one refunded, one taken back"
    assert each.sql("select captured_minor from campaigns where id = %s", each.campaign.id) == [(0,)]
    assert await findings(auditor, scope) == []
    await _told_apart(auditor, scope, settled)


async def _told_apart(auditor: Database, scope: Scope, provider_id: str) -> None:
    """To the provider the payment is captured and not refunded: so it is to the rows, and so to the books."""
    account = ProviderAccount.model_construct(tenant_id=scope.tenant_id, mode=str(scope.mode), provider="stripe")
    async with auditor.transaction() as tx:
        rows, books = await rows_side(tx, account, await begin(tx)), await ledger_side(tx, account)
        assert [each for each in await unmatched_payments(tx) if str(scope.tenant_id) in each] == []
    assert rows.keys() == books.keys()
    for reference, row in rows.items():
        booked = books[reference]
        assert (row.captured, row.refunded) == (booked.captured, booked.refunded)
        assert row.refunded == (0 if row.provider_id == provider_id else row.captured)


async def test_of_wallet_money_nobody_knows_which_provider_lost_it(
    database: Database, scope: Scope, owner_url: str, auditor: Database
) -> None:
    each = await Settling.make(database, scope, owner_url, ("wallet", "wallet"), outcome="release", captured=True)
    before = await balance(database, scope, f"suspense:{NGN}")
    await charged_back(each, 1)
    await each.run()
    assert [each.pledge(n) for n in range(2)] == ["refunded", "captured"]
    assert await balance(database, scope, f"suspense:{NGN}") - before == each.pledges[1].amount_minor
    assert await balance(database, scope, f"escrow:{each.campaign.id}:") == 0
    assert await findings(auditor, scope) == []


async def test_a_refund_that_was_refused_is_not_tried_again_after_a_chargeback(
    database: Database, scope: Scope, owner_url: str, auditor: Database
) -> None:
    """The provider refuses a refund of what is disputed; then the dispute is lost, and somebody puts the line back."""
    each = await Settling.make(database, scope, owner_url, ("stripe",), outcome="release", captured=True)
    each.cards.planned["refund", each.provider_id(0)] = RailRejected("charge_disputed")
    await each.run()
    assert each.line(0) == ("failed", "refund_failed")
    await charged_back(each, 0)
    await retry(each)
    await each.run()
    assert each.line(0) == ("done", "charged_back") and each.cards.calls == [("refund", each.provider_id(0))]
    assert await balance(database, scope, f"escrow:{each.campaign.id}:") == 0
    assert await findings(auditor, scope) == []


async def test_what_is_on_its_way_back_is_not_charged_back(database: Database, scope: Scope, owner_url: str) -> None:
    """Who of both is first holds the pledge's row; a second chargeback is none either."""
    each = await Settling.make(database, scope, owner_url, ("stripe", "stripe"), outcome="release", captured=True)
    _, refunds, _ = each.steps()
    assert await refunds.request_for_pledge(scope, each.pledges[0].payment_id, NOW)
    assert not await recorded(database, scope, each.pledges[0].id)
    assert await recorded(database, scope, each.pledges[1].id)
    assert not await recorded(database, scope, each.pledges[1].id)
    assert await refunds.request_for_pledge(scope, each.pledges[1].payment_id, NOW) is None


async def test_a_campaign_that_is_funded_meanwhile_keeps_its_plan(
    database: Database, scope: Scope, owner_url: str, auditor: Database
) -> None:
    """Read as live, funded before the counters are moved: what is planned already is not taken out of the escrow."""
    each = await Settling.make(database, scope, owner_url, ("stripe", "stripe"), outcome="capture", captured=True)
    pledge = each.pledges[0].id
    async with database.transaction(scope) as deciding:
        assert await get_campaign(deciding, each.campaign.id, lock=True)
        task = asyncio.create_task(recorded(database, scope, pledge))
        await asyncio.sleep(0.3)
        assert not task.done(), "it waits for the campaign's row"
        await deciding.execute("update campaigns set status = 'funded' where id = %s", (each.campaign.id,))
    with pytest.raises(SerializationFailure):
        await task
    assert await recorded(database, scope, pledge), "again, as the command's retry"
    whole = sum(each.amount_minor for each in each.pledges)
    assert await balance(database, scope, f"escrow:{each.campaign.id}:") == whole
    assert each.sql("select captured_minor from campaigns where id = %s", each.campaign.id) == [(whole,)]
    assert await findings(auditor, scope) == []


def by_card(raised: Raised, holder: str) -> None:
    raised.rows("update investments set provider = 'stripe' where investor_id = %s", holder)


async def came_back(raised: Raised, holder: str) -> list[int]:
    """What the holder's statement says came back from the missed milestone."""
    async with raised.holders.db.transaction(raised.holders.scope) as tx:
        params: dict[str, Any] = {"holder": holder}
        rows = await (await tx.execute(f"select * from ({MONEY_MOVED}) m", params)).fetchall()
    return [row["minor"] for row in rows if row["event"] == "milestone_returned"]


@pytest.fixture
async def raised(database: Database, scope: Scope, owner_url: str) -> Raised:
    return await Raised.make(database, scope, owner_url, 700_003, 200_000, 100_000)


@pytest.mark.parametrize("when", ["before the vote", "after the vote", "before it is paid"])
async def test_a_return_gives_the_others_no_more_than_theirs(raised: Raised, auditor: Database, when: str) -> None:
    """Nothing was released: what each paid in goes back, to whoever lost it."""
    ada, *others = sorted(raised.holders.pledges)
    by_card(raised, ada)
    weights = dict(raised.rows("select investor_id, amount_minor from investments"))
    await raised.advance(FUNDED_AT)
    if when == "before the vote":
        await recorded(raised.holders.db, raised.holders.scope, raised.holders.pledges[ada])
    await raised.advance(MISSED)
    if when == "after the vote":
        await recorded(raised.holders.db, raised.holders.scope, raised.holders.pledges[ada])
    raised.rows("update milestone_votes set refund_minor = electorate_minor")
    progress = await raised.advance(MISSED + VOTE_WINDOW)
    expected = split(1_000_003, weights)
    assert {each.holder_id: each.share_minor for each in await raised.lines(progress)} == expected
    if when == "before it is paid":
        await recorded(raised.holders.db, raised.holders.scope, raised.holders.pledges[ada])
    assert await raised.give_back(progress) == 3
    assert {each: await raised.holders.wallet(each) for each in weights} == expected | {ada: 0}
    scope = raised.holders.scope
    assert await balance(raised.holders.db, scope, "provider:stripe:") == -expected[ada]
    assert await balance(raised.holders.db, scope, f"escrow:{raised.holders.campaign.id}:") == 0
    assert await came_back(raised, ada) == [] and await came_back(raised, others[0]) == [expected[others[0]]]
    told = raised.rows("select user_id from notifications where template = 'milestone_returned' order by user_id")
    assert [row[0] for row in told] == others
    assert (await raised.advance(MISSED + VOTE_WINDOW + DAY)).step is _S.DONE
    assert await findings(auditor, scope) == []


async def test_of_two_pledges_one_is_charged_back(raised: Raised, auditor: Database) -> None:
    """The holder's line is divided by what each of his pledges was."""
    ada, *_ = sorted(raised.holders.pledges)
    first = raised.holders.pledges[ada]
    raised.rows("update campaigns set status = 'draft' where id = %s", raised.holders.campaign.id)
    await raised.holders.holds(99_998, holder=ada)
    raised.rows("update campaigns set status = 'funded' where id = %s", raised.holders.campaign.id)
    await raised.seed("more", 99_998)
    progress = await going_back(raised)
    [line] = [each for each in await raised.lines(progress) if each.holder_id == ada]
    (amount,) = raised.rows("select amount_minor from investments where id = %s", first)
    assert line.share_minor == amount[0] + 99_998
    raised.rows("update investments set provider = 'stripe' where id = %s", first)
    assert await recorded(raised.holders.db, raised.holders.scope, first)
    await raised.give_back(progress)
    assert await raised.holders.wallet(ada) == 99_998 and await came_back(raised, ada) == [99_998]
    assert await balance(raised.holders.db, raised.holders.scope, "provider:stripe:") == -amount[0]
    assert await findings(auditor, raised.holders.scope) == []


async def test_a_campaign_that_was_charged_back_whole(raised: Raised, auditor: Database) -> None:
    """Nobody has a vote, and nobody is paid: the escrow is the providers'."""
    for holder, investment in raised.holders.pledges.items():
        by_card(raised, holder)
        await recorded(raised.holders.db, raised.holders.scope, investment)
    progress = await going_back(raised)
    assert raised.rows("select electorate_minor from milestone_votes") == [(0,)]
    assert await raised.give_back(progress) == 3
    assert await raised.holders.balance(f"escrow:{raised.holders.campaign.id}") == 0
    assert [await raised.holders.wallet(each) for each in raised.holders.pledges] == [0, 0, 0]
    assert (await raised.advance(MISSED + DAY)).step is _S.DONE
    assert await findings(auditor, raised.holders.scope) == []


async def test_the_auditor_knows_a_chargeback_that_is_none(raised: Raised, auditor: Database) -> None:
    """The row says that nothing was taken back; and the ledger took it from another's provider."""
    ada, *_ = sorted(raised.holders.pledges)
    by_card(raised, ada)
    await recorded(raised.holders.db, raised.holders.scope, raised.holders.pledges[ada])
    await raised.give_back(await going_back(raised))
    assert await findings(auditor, raised.holders.scope) == []
    raised.rows("update investments set provider = 'paystack' where investor_id = %s", ada)
    (finding,) = await findings(auditor, raised.holders.scope)
    assert f"chargeback of investment {raised.holders.pledges[ada]}" in finding and "to provider:stripe:NGN" in finding
    raised.rows("update investments set provider = 'stripe', charged_back_at = null where investor_id = %s", ada)
    (finding,) = await findings(auditor, raised.holders.scope)
    assert finding.endswith("is captured, not charged back")
