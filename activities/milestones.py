"""The milestone process's activities: apply what is due to a funded campaign's tranches, and return escrow in ranges.

Each reads the rows under lock and does nothing twice: what a row says is done is done, and every posting has a key of its own.
A range is returned in short transactions of `LINES_AT_ONCE` lines, so a worker that dies leaves at most one of them undone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio import activity

from activities.book import send
from activities.distribution_schedule import tell_waiting
from activities.effects import heartbeating
from activities.errors import translated
from contracts.base import Scope
from contracts.ids import derive_id
from contracts.inbox import NotificationTask
from contracts.milestone import MilestoneInput, MilestoneProgress, MilestoneStep, ReturnRange
from contracts.outbox import OutboxKind
from domain.accounts import Posting, escrow
from domain.campaign import HAS_PLAN, CampaignStatus
from domain.chargeback import Part, divide, pledge_charged_back
from domain.days import is_over_at
from domain.errors import NotFound
from domain.milestone import (
    COMPLETE_AGAIN,
    EXTENSION,
    IN_ESCROW,
    SETTLED,
    VOTE_WINDOW,
    TrancheStatus,
    VoteChoice,
    decided_at_close,
    may_extend,
    missed_at,
)
from domain.milestone_postings import escrow_returned
from domain.money import Money
from infra.database import Database, Tx
from models import ledger, milestone, milestone_vote
from models.campaign import Campaign, get_campaign
from models.chargeback import parts_of
from models.clock import business_date, business_now
from models.milestone import Tranche, move_tranche
from models.milestone_vote import MilestoneHolder, MilestoneVote
from models.notification import notify_many

LINES_AT_ONCE = 500
"""Lines a transaction returns: the campaign's escrow is locked for so long."""
_T, _S = TrancheStatus, MilestoneStep


class MilestoneActivities:
    """Needs the database only: nobody outside is called."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn
    async def advance_milestones(self, task: MilestoneInput) -> MilestoneProgress:
        """Everything that is due at `as_of`, in one transaction, up to the next return or wait.

        A command may wake the process between two dates of its own: then the tenant's clock has gone on without it.
        """
        async with translated(), heartbeating(), self._db.transaction(task.scope) as tx:
            campaign = await get_campaign(tx, task.campaign_id, lock=True)
            if campaign is None:
                raise NotFound("campaign")
            as_of = max(task.as_of, await business_now(tx))
            return await _Advance(tx, task.scope, campaign, as_of).run()

    @activity.defn
    async def return_escrow_range(self, task: ReturnRange) -> int:
        """Pay every queued line of the range: into its holder's wallet, unless a pledge of the holder's was charged back: what
        is of that one leaves against its provider. How many were paid."""
        async with self._db.transaction(task.scope) as tx:
            campaign = await get_campaign(tx, task.campaign_id)
            vote = await milestone_vote.get_vote(tx, task.vote_id)
        assert campaign is not None and vote is not None
        paid = 0
        async with translated(), heartbeating(lambda: (paid,)):
            while done := await self._return_some(task, campaign, vote):
                paid += done
        return paid

    async def _return_some(self, task: ReturnRange, campaign: Campaign, vote: MilestoneVote) -> int:
        """One transaction's worth of lines: rows, messages, and then money, so that the escrow is locked last."""
        async with self._db.transaction(task.scope) as tx:
            lines = await milestone_vote.queued_lines(tx, vote.id, task.first, task.last, LINES_AT_ONCE)
            if lines:
                await milestone_vote.credit_lines(tx, vote.id, [each.line_no for each in lines], task.as_of)
                parts = await parts_of(tx, campaign.id, [each.holder_id for each in lines])
                owed = [_Owed(each, *divide(each.share_minor, parts[each.holder_id])) for each in lines]
                told = {"campaign": campaign.title, "currency": campaign.currency}
                messages = [
                    (each.line.holder_id, each.line.holder_id, {**told, "amount_minor": each.minor})
                    for each in owed
                    if each.minor
                ]
                await notify_many(
                    tx,
                    task.scope,
                    subject_id=vote.id,
                    template="milestone_returned",
                    messages=messages,
                    as_of=task.as_of,
                )
                await ledger.post_many(
                    tx, [posting for each in owed for posting in _postings(campaign, vote, each, task.as_of)]
                )
            return len(lines)


class _Advance:
    """One pass over one locked campaign."""

    def __init__(self, tx: Tx, scope: Scope, campaign: Campaign, as_of: datetime) -> None:
        self._tx, self._scope, self._campaign, self._as_of = tx, scope, campaign, as_of
        self._tranches: list[Tranche] = []
        self._votes: list[MilestoneVote] = []

    async def run(self) -> MilestoneProgress:
        """Miss what is past its time, decide what is past its window, and say what follows."""
        if self._campaign.status not in HAS_PLAN:
            return self._progress(_S.DONE)
        await milestone.plan_release(self._tx, self._scope, self._campaign, self._as_of)
        self._tranches = await milestone.tranches_of(self._tx, self._campaign.id)
        self._votes = await milestone_vote.votes_of(self._tx, self._campaign.id)
        for each in self._tranches:
            missed = missed_at(each.status, each.due_at)
            if missed is not None and missed <= self._as_of:
                await self._miss(each)
        for vote in self._votes:
            if vote.outcome is None and vote.closes_at <= self._as_of:
                await milestone_vote.decide_vote(self._tx, vote, _outcome(vote), self._as_of)
        for each in self._tranches:
            decided = next((vote for vote in reversed(self._votes) if vote.tranche_id == each.id), None)
            if each.status is _T.MISSED and decided is not None and decided.outcome is not None:
                await (self._extend if decided.outcome is VoteChoice.EXTEND else self._begin_return)(each, decided)
        returning = next((vote for vote in self._votes if vote.pot_minor), None)
        if any(each.status is _T.RETURNING for each in self._tranches):
            if returning is not None and await milestone_vote.any_queued(self._tx, returning.id):
                return self._progress(_S.RETURN, vote=returning)
            await self._end_return(returning)
        return await self._wait(await self._complete_or_when())

    async def _miss(self, tranche: Tranche) -> None:
        """Its investors decide; where it was given more time as often as may be, the money goes back."""
        await move_tranche(self._tx, self._scope, tranche, _T.MISSED, self._as_of)
        last = not may_extend(tranche.extensions)
        vote = MilestoneVote(
            tenant_id=self._campaign.tenant_id,
            mode=self._campaign.mode,
            id=derive_id("mvt", self._scope, tranche.id, str(tranche.extensions)),
            campaign_id=self._campaign.id,
            tranche_id=tranche.id,
            closes_at=self._as_of if last else self._as_of + VOTE_WINDOW,
            created_at=self._as_of,
        )
        await milestone_vote.open_vote(self._tx, vote, self._campaign.owner_id)
        frozen = await milestone_vote.get_vote(self._tx, vote.id)
        assert frozen is not None
        self._votes.append(frozen)
        if last:
            await milestone_vote.decide_vote(self._tx, frozen, VoteChoice.REFUND, self._as_of)
            return
        await self._tell("milestone_missed", tranche, frozen.id, deadline=_day(frozen.closes_at))

    async def _extend(self, tranche: Tranche, vote: MilestoneVote) -> None:
        due_at = self._as_of + EXTENSION
        await move_tranche(
            self._tx, self._scope, tranche, _T.OPEN, self._as_of, due_at=due_at, extensions=tranche.extensions + 1,
            story={"due_at": due_at},
        )  # fmt: skip
        await self._tell("milestone_extended", tranche, f"{vote.id}/extended", deadline=_day(due_at))

    async def _begin_return(self, tranche: Tranche, vote: MilestoneVote) -> None:
        """All that is not released goes back, also what other milestones wait for; their votes are over."""
        pot = 0
        for each in self._tranches:
            if each.status in IN_ESCROW:
                await move_tranche(self._tx, self._scope, each, _T.RETURNING, self._as_of)
                pot += each.amount_minor
        for other in self._votes:
            if other.outcome is None:
                await milestone_vote.decide_vote(self._tx, other, VoteChoice.REFUND, self._as_of)
        if pot:
            await milestone_vote.plan_return(self._tx, vote, pot)
        await milestone.tell_owner(
            self._tx, self._scope, self._campaign, f"{vote.id}/returning", "milestone_returning_owner", self._as_of,
            milestone=tranche.title, amount_minor=pot,
        )  # fmt: skip
        await self._announce(f"{vote.id}/returning")

    async def _end_return(self, vote: MilestoneVote | None) -> None:
        """All lines are paid; without a vote that has any, there was not a unit to return."""
        for each in self._tranches:
            if each.status is _T.RETURNING:
                await move_tranche(self._tx, self._scope, each, _T.RETURNED, self._as_of)
        if vote is not None:
            await self._announce(f"{vote.id}/returned", subject=vote.id)

    async def _complete_or_when(self) -> datetime | None:
        """Complete the campaign when its profit period is over; else when something is due next, if anything is."""
        campaign = self._campaign
        if campaign.status is not CampaignStatus.FUNDED:
            return None
        missed = [missed_at(each.status, each.due_at) for each in self._tranches]
        found = [at for at in missed if at is not None]
        found += [vote.closes_at for vote in self._votes if vote.outcome is None]
        if campaign.profit_until is not None and all(each.status in SETTLED for each in self._tranches):
            zone, today = await business_date(self._tx, self._as_of)
            if today <= campaign.profit_until:
                found.append(is_over_at(campaign.profit_until, zone))
            elif await milestone.open_distributions(self._tx, campaign.id):
                found.append(self._as_of + COMPLETE_AGAIN)
            else:
                await self._announce(await milestone.complete_campaign(self._tx, self._scope, campaign, self._as_of))
                return None
        return min(found, default=None)

    async def _wait(self, at: datetime | None) -> MilestoneProgress:
        await tell_waiting(self._tx, self._scope, self._campaign.id, self._tranches)
        await milestone.mark_plan(self._tx, self._campaign.id, milestone.WAITING, at)
        return self._progress(_S.DONE if at is None else _S.WAIT, at=at)

    def _progress(
        self, step: MilestoneStep, *, at: datetime | None = None, vote: MilestoneVote | None = None
    ) -> MilestoneProgress:
        return MilestoneProgress(
            status=self._campaign.status,
            step=step,
            vote_id=vote.id if vote else None,
            lines=vote.lines if vote else 0,
            next_action_at=at,
            as_of=self._as_of,
        )

    async def _tell(self, template: str, tranche: Tranche, occasion: str, **params: Any) -> None:
        """The owner and the investors, about one milestone."""
        await milestone.tell_both(
            self._tx, self._scope, self._campaign, occasion, template, self._as_of, milestone=tranche.title, **params
        )
        await self._announce(occasion)

    async def _announce(self, occasion: str, *, subject: str = "") -> None:
        """Have the messages queued under `subject`, or else `occasion`, sent once this has committed."""
        await send(
            self._tx, self._scope, OutboxKind.START, "notices", occasion, workflow="NoticesWorkflow",
            input=NotificationTask(scope=self._scope, subject_id=subject or occasion),
        )  # fmt: skip


@dataclass(frozen=True)
class _Owed:
    """A line: `minor` units are its holder's; `lost` is the rest, with each charged-back pledge it is of."""

    line: MilestoneHolder
    minor: int
    lost: list[tuple[Part, int]]


def _postings(campaign: Campaign, vote: MilestoneVote, owed: _Owed, as_of: datetime) -> list[Posting]:
    line = owed.line
    postings = [
        pledge_charged_back(
            f"return/{vote.id}/{line.line_no}/{each.investment_id}",
            source=escrow(campaign.id, campaign.currency),
            provider=each.provider,
            amount=Money(minor, campaign.currency),
            as_of=as_of,
        )
        for each, minor in owed.lost
    ]
    if owed.minor:
        amount = Money(owed.minor, campaign.currency)
        postings.append(
            escrow_returned(
                vote.id, line.line_no, campaign_id=campaign.id, user_id=line.holder_id, amount=amount, as_of=as_of
            )
        )
    return postings


def _outcome(vote: MilestoneVote) -> VoteChoice:
    return decided_at_close(
        extend_minor=vote.extend_minor, refund_minor=vote.refund_minor, electorate_minor=vote.electorate_minor
    )


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
