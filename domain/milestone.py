"""How a funded campaign's money reaches its owner: in tranches, each for a milestone; and what a missed one leads to.

    open ⇄ submitted → released
    open → missed → (investors vote) → open again, or → returning → returned

A campaign without milestones has one tranche and no due date: its owner asks for it. Evidence that waits for its reviewer
stops the clock; what is rejected after its time is missed at once. A missed milestone is put to the vote of its investors
for `VOTE_WINDOW`: if those with 51 % of the money vote for it, all that is not released goes back to the holders pro rata;
otherwise the milestone gets `EXTENSION` more. After `MAX_EXTENSIONS` the money goes back without a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.allocation import split
from domain.campaign import CampaignStatus
from domain.errors import Conflict, Forbidden, InvalidRequest
from domain.money import BPS, Rounding, portion
from domain.states import Machine


class TrancheStatus(StrEnum):
    """A tranche's state, as it is on the wire. `released`: its money is the owner's."""

    OPEN = "open"
    SUBMITTED = "submitted"
    RELEASED = "released"
    MISSED = "missed"
    RETURNING = "returning"
    RETURNED = "returned"


class VoteChoice(StrEnum):
    """What investors may want after a missed milestone, and what a vote comes to."""

    EXTEND = "extend"
    REFUND = "refund"


_T = TrancheStatus
TRANCHE: Final = Machine(
    "tranche",
    {
        _T.OPEN: frozenset({_T.SUBMITTED, _T.RELEASED, _T.MISSED, _T.RETURNING}),
        _T.SUBMITTED: frozenset({_T.OPEN, _T.RELEASED, _T.RETURNING}),
        _T.MISSED: frozenset({_T.OPEN, _T.RETURNING}),
        _T.RETURNING: frozenset({_T.RETURNED}),
    },
)
IN_ESCROW: Final = frozenset({_T.OPEN, _T.SUBMITTED, _T.MISSED})
"""The money still stands on the campaign's escrow, and goes back with it when the investors want it back."""
SETTLED: Final = frozenset({_T.RELEASED, _T.RETURNED})
GOES_BACK: Final = frozenset({_T.RETURNING, _T.RETURNED})
"""To those who invested it: it will never be the owner's."""

FEWEST, MOST = 2, 20
"""Milestones of a campaign that has any."""
MAX_DUE_DAYS: Final = 1_825
"""A milestone is due within so many days of the funding, or of the campaign's deadline where a date was promised."""
GRACE: Final = timedelta(days=3)
"""After its due date a milestone is not missed yet."""
VOTE_WINDOW: Final = timedelta(days=7)
EXTENSION: Final = timedelta(days=30)
"""What a vote for more time gives, counted from its decision."""
MAX_EXTENSIONS: Final = 2
THRESHOLD_PERCENT: Final = 51
"""Of the electorate's money, voters and others: so much must want it back."""
COMPLETE_AGAIN: Final = timedelta(days=1)
"""A campaign whose profit period is over, and which has a distribution open, looks again after so long."""
FEE_ROUNDING: Final = Rounding.FLOOR
"""Of each tranche's fee: never more than exact."""


@dataclass(frozen=True, slots=True)
class MilestoneTerm:
    """One milestone as it was offered: its part of the money, and when it is due: a date, or days after the funding."""

    title: str
    share_bps: int
    due_at: datetime | None = None
    due_days: int | None = None

    def due(self, funded_at: datetime) -> datetime:
        """When it is due, of a campaign that was funded at `funded_at`: never before that."""
        at = self.due_at if self.due_at is not None else funded_at + timedelta(days=self.due_days or 0)
        return max(at, funded_at)


@dataclass(frozen=True, slots=True)
class TranchePlan:
    """One tranche of a funded campaign; amounts in minor units. `due_at` None: whenever its owner asks."""

    number: int
    title: str
    share_bps: int
    amount_minor: int
    fee_minor: int
    due_at: datetime | None


WHOLE: Final = "Everything that was raised"


def plan_tranches(
    captured_minor: int, terms: Sequence[MilestoneTerm], *, fee_bps: int, funded_at: datetime
) -> list[TranchePlan]:
    """The captured money in tranches, by the largest remainder (`domain.allocation.split`); without terms, in one.

    The amounts sum to `captured_minor` exactly; each tranche's fee is rounded down by itself.
    """
    if not terms:
        return [TranchePlan(1, WHOLE, BPS, captured_minor, portion(captured_minor, fee_bps, FEE_ROUNDING), None)]
    parts = split(captured_minor, {f"{number:02}": term.share_bps for number, term in enumerate(terms, 1)})
    return [
        TranchePlan(number, term.title, term.share_bps, amount, portion(amount, fee_bps, FEE_ROUNDING), term.due(funded_at))
        for number, (term, amount) in enumerate(zip(terms, parts.values(), strict=True), 1)
    ]  # fmt: skip


def check_milestones(terms: Sequence[MilestoneTerm], *, deadline_at: datetime) -> None:
    """Refuse milestones that are no plan. Raises InvalidRequest `invalid_milestones`.

    There are 2 to 20, their shares sum to 10,000 basis points, and each is due at a date after the campaign's deadline or
    some days after the funding, not both; within `MAX_DUE_DAYS` of either.
    """
    if not FEWEST <= len(terms) <= MOST:
        raise _invalid(f"There are {FEWEST} to {MOST} milestones, or none.")
    if sum(term.share_bps for term in terms) != BPS:
        raise _invalid("The shares of the milestones sum to 10,000 basis points.")
    if any((term.due_at is None) == (term.due_days is None) for term in terms):
        raise _invalid("A milestone is due at a date, or some days after the funding.")
    if any(term.due_at is not None and term.due_at <= deadline_at for term in terms):
        raise _invalid("A milestone is due after the campaign's deadline.")
    if any(term.due_at is not None and term.due_at - deadline_at > timedelta(days=MAX_DUE_DAYS) for term in terms):
        raise _invalid(f"A milestone is due within {MAX_DUE_DAYS:,} days of the campaign's deadline.")


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest("invalid_milestones", text, field="milestones")


def missed_at(status: TrancheStatus, due_at: datetime | None) -> datetime | None:
    """When a tranche is missed, if nothing is done until then; None where it waits for nobody's evidence."""
    return due_at + GRACE if status is _T.OPEN and due_at is not None else None


def may_extend(extensions: int) -> bool:
    """Whether a missed milestone that was given more time so often may be given more; else the money goes back."""
    return extensions < MAX_EXTENSIONS


def check_evidence(status: TrancheStatus, *, due_at: datetime | None, as_of: datetime) -> None:
    """Refuse evidence that nobody waits for, or that comes too late. Raises Conflict `milestone_not_open`."""
    if status is not _T.OPEN or due_at is None:
        raise Conflict("milestone_not_open", "Only a milestone that is open takes evidence.")
    if due_at + GRACE <= as_of:
        raise Conflict(
            "milestone_not_open", "The milestone is missed: its time, and the days of grace after it, are over."
        )


def check_review(status: TrancheStatus, *, reviewer: str, owner: str, submitted_by: str | None) -> None:
    """Evidence is judged once, by somebody else. Raises Conflict `milestone_not_submitted`, Forbidden `cannot_approve_own`."""
    if reviewer in (owner, submitted_by):
        raise Forbidden("cannot_approve_own", "Somebody else than the owner judges the evidence.")
    if status is not _T.SUBMITTED:
        raise Conflict("milestone_not_submitted", "Only a milestone with evidence can be approved or rejected.")


def check_asked_for(status: TrancheStatus, *, due_at: datetime | None, sent: bool) -> None:
    """Refuse to release or send a tranche at its owner's request.

    A campaign's only tranche is released so; a released one whose money was not sent, or came back, is sent again. Raises
    Conflict `milestone_not_approved` and `tranche_released`.
    """
    if status in GOES_BACK or (status is _T.RELEASED and sent):
        raise Conflict("tranche_released", "The money of this tranche is on its way, or gone.")
    if status is not _T.RELEASED and (due_at is not None or status is not _T.OPEN):
        raise Conflict("milestone_not_approved", "The money is released when the milestone's evidence is approved.")


def decided_early(*, extend_minor: int, refund_minor: int, electorate_minor: int) -> VoteChoice | None:
    """What a running vote comes to whatever those do who have not voted; None while they could still turn it."""
    if electorate_minor == 0:
        return None
    if refund_minor * 100 >= THRESHOLD_PERCENT * electorate_minor:
        return VoteChoice.REFUND
    if (electorate_minor - extend_minor) * 100 < THRESHOLD_PERCENT * electorate_minor:
        return VoteChoice.EXTEND
    return None


def decided_at_close(*, extend_minor: int, refund_minor: int, electorate_minor: int) -> VoteChoice:
    """What a vote whose window is over comes to: more time, unless enough want their money back."""
    early = decided_early(extend_minor=extend_minor, refund_minor=refund_minor, electorate_minor=electorate_minor)
    return early or VoteChoice.EXTEND


def check_vote(outcome: VoteChoice | None, *, closes_at: datetime, as_of: datetime) -> None:
    """Votes are given, and changed, until it is decided. Raises Conflict `vote_closed`."""
    if outcome is not None or as_of >= closes_at:
        raise Conflict("vote_closed", "The vote is over.")


def check_completable(
    status: CampaignStatus, *, unsettled: int, distributing: int, profit_until: date | None, today: date, by_owner: bool
) -> None:
    """Refuse to complete a campaign that still has something to do. `today` is the tenant's business date.

    `unsettled`: tranches that are neither released nor returned; `distributing`: runs that are not over. An owner keeps to
    the profit period that investors were promised; an admin may end it. Raises Conflict `campaign_completed`,
    `campaign_not_funded`, `tranche_open`, `distribution_open` and `profit_period_open`.
    """
    if status is CampaignStatus.COMPLETED:
        raise Conflict("campaign_completed", "The campaign is completed already.")
    if status is not CampaignStatus.FUNDED:
        raise Conflict("campaign_not_funded", "Only a funded campaign is completed.")
    if unsettled:
        raise Conflict("tranche_open", "Not all of the money is released or returned.")
    if distributing:
        raise Conflict("distribution_open", "A distribution is not over yet.")
    if by_owner and profit_until is not None and today <= profit_until:
        raise Conflict("profit_period_open", "The profit period that was promised is not over.")
