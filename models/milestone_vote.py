"""Investors' votes about missed milestones, and what goes back to the holders: set by set, no list in any payload."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final, LiteralString

from sqlmodel import Field

from domain.milestone import VoteChoice
from infra.database import Tx, fetch_one
from models.base import Scoped, by_id, insert, read, read_all, update
from models.chargeback import LEFT_ESCROW


class MilestoneVote(Scoped, table=True):
    """One vote, in minor units of what its voters hold. `pot_minor`, `lines`: what goes back after it, and in how many lines.

    Where no extension is left it is decided as it is opened: its holders are only those the money goes back to.
    """

    __tablename__: ClassVar[str] = "milestone_votes"

    id: str = Field(primary_key=True)
    campaign_id: str
    tranche_id: str
    electorate_minor: int = 0
    extend_minor: int = 0
    refund_minor: int = 0
    closes_at: datetime
    outcome: VoteChoice | None = None
    decided_at: datetime | None = None
    pot_minor: int = 0
    lines: int = 0
    created_at: datetime


class MilestoneHolder(Scoped, table=True):
    """Somebody who held a part of the campaign when the vote opened: the vote, and later the line it is paid by.

    The campaign's owner may hold a part of it, and does not vote. Nor does whoever was charged back before, and whose line is
    added when the money goes back. `share_minor`: what leaves the escrow; of a charged-back pledge to the provider that lost it.
    """

    __tablename__: ClassVar[str] = "milestone_holders"

    vote_id: str = Field(primary_key=True)
    line_no: int = Field(primary_key=True)
    holder_id: str
    weight_minor: int
    may_vote: bool
    choice: VoteChoice | None = None
    voted_at: datetime | None = None
    share_minor: int = 0
    status: str | None = None
    credited_at: datetime | None = None


# Who holds what: captured, and not charged back.
_HOLDERS: Final[LiteralString] = """
    select investor_id as holder_id, sum(amount_minor)::bigint as weight
      from investments i
     where campaign_id = %(campaign)s and status = 'captured' and charged_back_at is null
     group by investor_id
"""
# Whose money the escrow was funded with, charged back since or not: each unit of it is somebody's, and nobody else's.
_FUNDED_BY: Final[LiteralString] = f"""
    select investor_id as holder_id, sum(amount_minor)::bigint as weight
      from investments i where campaign_id = %(campaign)s and status = 'captured' and not {LEFT_ESCROW}
     group by investor_id
"""  # noqa: S608  constant text

_FREEZE: Final[LiteralString] = f"""
with frozen as (
    insert into milestone_holders (tenant_id, mode, vote_id, line_no, holder_id, weight_minor, may_vote)
    select %(tenant)s::uuid, %(mode)s::text, %(vote)s::text, row_number() over (order by h.holder_id collate "C"),
           h.holder_id, h.weight, h.holder_id <> %(owner)s::text
      from ({_HOLDERS}) h
    returning weight_minor, may_vote
)
update milestone_votes set updated_at = now(),
       electorate_minor = (select coalesce(sum(weight_minor) filter (where may_vote), 0)::bigint from frozen)
 where id = %(vote)s
"""  # noqa: S608  constant text

# Who was charged back before the vote opened has no line yet.
_ADD: Final[LiteralString] = f"""
insert into milestone_holders (tenant_id, mode, vote_id, line_no, holder_id, weight_minor, may_vote)
select v.tenant_id, v.mode, v.id,
       (select coalesce(max(m.line_no), 0) from milestone_holders m where m.vote_id = v.id)
           + row_number() over (order by h.holder_id collate "C"), h.holder_id, h.weight, false
  from milestone_votes v cross join ({_FUNDED_BY}) h
 where v.id = %(vote)s and not exists (select from milestone_holders m where m.vote_id = v.id and m.holder_id = h.holder_id)
"""  # noqa: S608  constant text

# The rule of `domain.allocation.split`.
_SHARE: Final[LiteralString] = f"""
with held as ({_FUNDED_BY}
), weights as (
    select m.line_no, m.holder_id, coalesce(h.weight, 0)::numeric as weight
      from milestone_holders m left join held h on h.holder_id = m.holder_id where m.vote_id = %(vote)s
), measured as (
    select *, greatest(1, sum(weight) over ()) as whole from weights
), floored as (
    select *, div(%(pot)s * weight, whole) as floored, mod(%(pot)s * weight, whole) as remainder from measured
), shares as (
    select line_no, floored
           + (row_number() over (order by remainder desc, holder_id collate "C") <= %(pot)s - sum(floored) over ())::int as share
      from floored
)
update milestone_holders m set share_minor = s.share, status = 'queued', updated_at = now()
  from shares s where m.vote_id = %(vote)s and m.line_no = s.line_no and s.share > 0
"""  # noqa: S608  constant text


async def open_vote(tx: Tx, vote: MilestoneVote, owner_id: str) -> None:
    """Insert a vote and freeze who holds what, in one statement each."""
    await insert(tx, vote)
    values = {"tenant": vote.tenant_id, "mode": str(vote.mode), "vote": vote.id, "campaign": vote.campaign_id,
              "owner": owner_id}  # fmt: skip
    await tx.execute(_FREEZE, values)


async def get_vote(tx: Tx, vote_id: str, *, lock: bool = False) -> MilestoneVote | None:
    """One vote."""
    return await by_id(tx, MilestoneVote, vote_id, lock=lock)


async def votes_of(tx: Tx, campaign_id: str) -> list[MilestoneVote]:
    """A campaign's votes, oldest first: at most three a milestone."""
    query = "select * from milestone_votes where campaign_id = %s order by created_at, id"
    return await read_all(tx, MilestoneVote, query, (campaign_id,))


async def decide_vote(tx: Tx, vote: MilestoneVote, outcome: VoteChoice, as_of: datetime) -> None:
    """The vote is over. Updates `vote`."""
    await update(tx, MilestoneVote, {"id": vote.id}, {"outcome": outcome, "decided_at": as_of})
    vote.outcome, vote.decided_at = outcome, as_of


async def voter(tx: Tx, vote_id: str, holder_id: str) -> MilestoneHolder | None:
    """Somebody who held a part when the vote opened, locked; None for anybody else."""
    query = "select * from milestone_holders where vote_id = %s and holder_id = %s for update"
    return await read(tx, MilestoneHolder, query, (vote_id, holder_id))


async def cast_vote(
    tx: Tx, vote: MilestoneVote, holder: MilestoneHolder, choice: VoteChoice, as_of: datetime
) -> MilestoneVote:
    """Write a vote, or another in its place; the vote as it stands then. The caller holds the vote's row and the holder's."""
    changes = {VoteChoice.EXTEND: 0, VoteChoice.REFUND: 0}
    changes[choice] += holder.weight_minor
    if holder.choice is not None:
        changes[holder.choice] -= holder.weight_minor
    key = {"vote_id": vote.id, "line_no": holder.line_no}
    await update(tx, MilestoneHolder, key, {"choice": choice, "voted_at": as_of})
    counted = {
        "extend_minor": vote.extend_minor + changes[VoteChoice.EXTEND],
        "refund_minor": vote.refund_minor + changes[VoteChoice.REFUND],
    }
    await update(tx, MilestoneVote, {"id": vote.id}, counted)
    return vote.model_copy(update=counted)


async def plan_return(tx: Tx, vote: MilestoneVote, pot_minor: int) -> None:
    """Share `pot_minor` among those whose money it was, a line each; what is nothing has no line. Updates `vote`."""
    values = {"vote": vote.id, "campaign": vote.campaign_id, "pot": pot_minor}
    await tx.execute(_ADD, values)
    await tx.execute(_SHARE, values)
    row = await fetch_one(
        tx, "select coalesce(max(line_no), 0)::int as n from milestone_holders where vote_id = %s", (vote.id,)
    )
    assert row is not None
    await update(tx, MilestoneVote, {"id": vote.id}, {"pot_minor": pot_minor, "lines": row["n"]})
    vote.pot_minor, vote.lines = pot_minor, row["n"]


async def queued_lines(tx: Tx, vote_id: str, first: int, last: int, limit: int) -> list[MilestoneHolder]:
    """The next lines of a range that are not paid, held until the transaction ends."""
    return await read_all(
        tx,
        MilestoneHolder,
        """select * from milestone_holders where vote_id = %s and line_no between %s and %s and status = 'queued'
           order by line_no limit %s for update""",
        (vote_id, first, last, limit),
    )


async def credit_lines(tx: Tx, vote_id: str, numbers: Sequence[int], as_of: datetime) -> None:
    """Queued lines are paid. The caller posts the money in the same transaction: into their holders' wallets, and of pledges
    that were charged back to their providers."""
    await tx.execute(
        """update milestone_holders set status = 'credited', credited_at = %s, updated_at = now()
            where vote_id = %s and line_no = any(%s) and status = 'queued'""",
        (as_of, vote_id, list(numbers)),
    )


async def any_queued(tx: Tx, vote_id: str) -> bool:
    """Whether a line of the vote is not paid yet."""
    query = "select 1 from milestone_holders where vote_id = %s and status = 'queued' limit 1"
    return await fetch_one(tx, query, (vote_id,)) is not None
