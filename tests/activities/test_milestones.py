"""What the milestone process does, step by step on real rows: who votes, what goes back, and that nothing happens twice."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from activities.milestones import MilestoneActivities
from contracts.base import Scope
from contracts.milestone import MilestoneInput, MilestoneProgress, MilestoneStep, ReturnRange
from domain import accounts
from domain.allocation import split
from domain.milestone import EXTENSION, GRACE, MAX_EXTENSIONS, VOTE_WINDOW
from domain.money import Money
from infra.database import Database
from models import ledger
from models.milestone_vote import MilestoneHolder, queued_lines
from tests.fixtures.distributions import NOW, Holders
from tests.fixtures.pledges import NGN

_S = MilestoneStep
DAY = timedelta(days=1)
PARTS = [
    {"title": "Oven", "share_bps": 2_500, "due_at": None, "due_days": 5},
    {"title": "Bread", "share_bps": 7_500, "due_at": None, "due_days": 90},
]


class Raised:
    """A funded campaign's money, its holders, and its process's steps."""

    def __init__(self, holders: Holders) -> None:
        self.holders, self.activities = holders, MilestoneActivities(holders.db)

    @classmethod
    async def make(cls, db: Database, scope: Scope, owner_url: str, *amounts: int) -> "Raised":
        holders = await Holders.make(db, scope, owner_url, *amounts)
        with_parts = "update campaigns set milestones = %s, status = 'funded' where id = %s"
        holders.sql("update campaigns set status = 'draft' where id = %s", holders.campaign.id)
        holders.sql(with_parts, Jsonb(PARTS), holders.campaign.id)
        made = cls(holders)
        await made.seed("seed", sum(amounts))
        return made

    async def seed(self, key: str, minor: int) -> None:
        """So much has come into the escrow."""
        escrow, amount = accounts.escrow(self.holders.campaign.id, NGN), Money(minor, NGN)
        posting = accounts.payment_charged(key, provider="cash", into=escrow, amount=amount, as_of=NOW)
        async with self.holders.db.transaction(self.holders.scope) as tx:
            await ledger.post(tx, posting)

    async def advance(self, at: datetime) -> MilestoneProgress:
        task = MilestoneInput(scope=self.holders.scope, campaign_id=self.holders.campaign.id, as_of=at)
        return await self.activities.advance_milestones(task)

    async def give_back(self, progress: MilestoneProgress, first: int = 1, last: int | None = None) -> int:
        assert progress.vote_id is not None
        task = ReturnRange(
            scope=self.holders.scope, campaign_id=self.holders.campaign.id, vote_id=progress.vote_id, first=first,
            last=last or progress.lines, as_of=progress.as_of,
        )  # fmt: skip
        return await self.activities.return_escrow_range(task)

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.holders.sql(query, *params)

    def statuses(self) -> list[str]:
        return [row[0] for row in self.rows("select status from tranches order by number")]

    async def lines(self, progress: MilestoneProgress) -> list[MilestoneHolder]:
        async with self.holders.db.transaction(self.holders.scope) as tx:
            return await queued_lines(tx, progress.vote_id or "", 1, progress.lines, 10_000)


@pytest.fixture
async def raised(database: Database, scope: Scope, owner_url: str) -> Raised:
    return await Raised.make(database, scope, owner_url, 700_003, 200_000, 100_000)


MISSED = NOW + 5 * DAY + GRACE


async def test_it_waits_for_the_first_due_date(raised: Raised) -> None:
    progress = await raised.advance(NOW)
    assert (progress.step, progress.next_action_at) == (_S.WAIT, MISSED)
    assert (await raised.advance(MISSED - DAY)).next_action_at == MISSED
    assert raised.statuses() == ["open", "open"]


async def test_who_votes_is_frozen_when_it_opens(raised: Raised) -> None:
    await raised.advance(NOW)
    ada, *_ = sorted(raised.holders.pledges)
    await raised.holders.charged_back(ada, NOW + DAY)
    progress = await raised.advance(MISSED)
    assert progress.next_action_at == MISSED + VOTE_WINDOW and raised.statuses() == ["missed", "open"]
    await raised.holders.holds(999)
    await raised.advance(MISSED + DAY)
    voters = raised.rows("select holder_id, weight_minor, may_vote from milestone_holders order by line_no")
    assert len(voters) == 2 and ada not in {row[0] for row in voters} and all(row[2] for row in voters)
    (electorate,) = raised.rows("select electorate_minor from milestone_votes")
    assert electorate[0] == sum(row[1] for row in voters)


async def test_the_owner_holds_and_does_not_vote(raised: Raised) -> None:
    await raised.advance(NOW)
    await raised.holders.holds(500_000, holder=raised.holders.owner)
    await raised.advance(MISSED)
    (own,) = raised.rows(
        "select weight_minor, may_vote from milestone_holders where holder_id = %s", raised.holders.owner
    )
    assert own == (500_000, False)
    assert raised.rows("select electorate_minor from milestone_votes") == [(1_000_003,)]


async def test_silence_gives_more_time_twice_and_then_it_goes_back(raised: Raised) -> None:
    await raised.advance(NOW)
    at = MISSED
    for _ in range(MAX_EXTENSIONS):
        await raised.advance(at)
        at += VOTE_WINDOW
        progress = await raised.advance(at)
        assert raised.statuses()[0] == "open" and progress.next_action_at == at + EXTENSION + GRACE
        at += EXTENSION + GRACE
    progress = await raised.advance(at)
    assert (progress.step, progress.lines, raised.statuses()) == (_S.RETURN, 3, ["returning", "returning"])


async def going_back(raised: Raised) -> MilestoneProgress:
    await raised.advance(NOW)
    raised.rows("update tranches set extensions = %s", MAX_EXTENSIONS)
    return await raised.advance(MISSED)


async def test_what_goes_back_is_split_as_the_domain_splits(raised: Raised) -> None:
    progress = await going_back(raised)
    weights = dict(raised.rows("select investor_id, amount_minor from investments"))
    expected = {who: share for who, share in split(1_000_003, weights).items() if share}
    assert {each.holder_id: each.share_minor for each in await raised.lines(progress)} == expected
    assert await raised.give_back(progress) == 3
    assert {who: await raised.holders.wallet(who) for who in expected} == expected
    assert await raised.holders.balance("escrow") == 0
    done = await raised.advance(MISSED + DAY)
    assert (done.step, raised.statuses()) == (_S.DONE, ["returned", "returned"])


@pytest.mark.parametrize("pot", [1, 2, 7, 999_999])
async def test_units_left_over(raised: Raised, pot: int) -> None:
    """A released first part, and of the rest any sum at all: the SQL gives the units that `split` gives."""
    await raised.advance(NOW)
    raised.rows("alter table tranches disable trigger tranches_amounts_fixed")
    raised.rows("update tranches set extensions = %s, amount_minor = case number when 1 then %s else 0 end, fee_minor = 0",
                MAX_EXTENSIONS, pot)  # fmt: skip
    raised.rows("alter table tranches enable trigger tranches_amounts_fixed")
    progress = await raised.advance(MISSED)
    weights = dict(raised.rows("select investor_id, amount_minor from investments"))
    expected = {who: share for who, share in split(pot, weights).items() if share}
    assert {each.holder_id: each.share_minor for each in await raised.lines(progress)} == expected


async def test_nothing_goes_back_twice(raised: Raised) -> None:
    progress = await going_back(raised)
    paid = await asyncio.gather(*(raised.give_back(progress, first, last) for first, last in ((1, 2), (1, 3), (2, 3))))
    assert sum(paid) == 3
    assert await raised.give_back(progress) == 0
    for _ in range(2):
        await raised.advance(MISSED + DAY)
    booked = """select count(*)::int, sum(amount_minor)::bigint from ledger_transfers
                 where event = 'escrow_returned' and tenant_id = %s"""
    assert raised.rows(booked, raised.holders.scope.tenant_id) == [(3, 1_000_003)]
    assert raised.rows("select count(*)::int from milestone_votes") == [(1,)]


async def test_where_not_a_unit_is_left_there_is_nothing_to_pay(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """One unit was raised: the larger part has it, and was released."""
    raised = await Raised.make(database, scope, owner_url, 1)
    await raised.advance(NOW)
    assert raised.rows("select amount_minor from tranches order by number") == [(0,), (1,)]
    raised.rows("update tranches set status = 'released', released_at = now() where number = 2")
    raised.rows("update tranches set extensions = %s", MAX_EXTENSIONS)
    progress = await raised.advance(MISSED)
    assert (progress.step, raised.statuses()) == (_S.DONE, ["returned", "released"])
