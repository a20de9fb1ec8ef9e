"""A campaign: when it is open, and what happens at and after its deadline.

Two kinds. *All or nothing*: pledges are authorized (or held in the wallet, or charged where a rail cannot authorize) and
captured only if the goal is reached; otherwise everything is voided or refunded. *Keep what you raise*: money is taken
at once, and the campaign succeeds with whatever came in.

The rule for captures that fail after success: the campaign stays funded if what was really captured is at least
`success_floor_bps` of the goal; below that it fails, and what was captured is refunded.

    draft → submitted ⇄ changes_requested; submitted → approved → (scheduled) → live ⇄ paused
    live, paused → (waiting_funds) → successful → settling → funded, or failed → refunding → closed_failed
    funded → completed, when its money is released or returned and its profit period is over (`domain/milestone.py`)

What no reviewer answers, or no owner corrects, before its deadline is rejected; until it is decided, a campaign may be
canceled. A pause does not stop the clock: a paused campaign is decided at its deadline as any other.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from unicodedata import normalize

from domain.errors import Conflict, InvalidRequest
from domain.money import BPS
from domain.states import Machine


class CampaignKind(StrEnum):
    """The deadline rule."""

    ALL_OR_NOTHING = "all_or_nothing"
    KEEP_WHAT_YOU_RAISE = "keep_what_you_raise"


class CampaignStatus(StrEnum):
    """The campaign's state (FEATURES (c))."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    CHANGES_REQUESTED = "changes_requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    SCHEDULED = "scheduled"
    LIVE = "live"
    PAUSED = "paused"
    WAITING_FUNDS = "waiting_funds"
    SUCCESSFUL = "successful"
    SETTLING = "settling"
    FUNDED = "funded"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REFUNDING = "refunding"
    CLOSED_FAILED = "closed_failed"


_C = CampaignStatus
_DECIDED_AS = frozenset({_C.WAITING_FUNDS, _C.SUCCESSFUL, _C.FAILED, _C.CANCELED})
CAMPAIGN = Machine(
    "campaign",
    {
        _C.DRAFT: frozenset({_C.SUBMITTED}),
        _C.SUBMITTED: frozenset({_C.CHANGES_REQUESTED, _C.APPROVED, _C.REJECTED, _C.CANCELED}),
        _C.CHANGES_REQUESTED: frozenset({_C.SUBMITTED, _C.REJECTED, _C.CANCELED}),
        _C.APPROVED: frozenset({_C.SCHEDULED, _C.LIVE, _C.CANCELED}),
        _C.SCHEDULED: frozenset({_C.LIVE, _C.CANCELED}),
        _C.LIVE: frozenset({_C.PAUSED}) | _DECIDED_AS,
        _C.PAUSED: frozenset({_C.LIVE}) | _DECIDED_AS,
        _C.WAITING_FUNDS: frozenset({_C.SUCCESSFUL, _C.FAILED, _C.CANCELED}),
        _C.SUCCESSFUL: frozenset({_C.SETTLING}),
        _C.SETTLING: frozenset({_C.FUNDED, _C.FAILED}),
        _C.FUNDED: frozenset({_C.COMPLETED}),
        _C.FAILED: frozenset({_C.REFUNDING}),
        _C.CANCELED: frozenset({_C.REFUNDING}),
        _C.REFUNDING: frozenset({_C.CLOSED_FAILED}),
    },
)
EDITABLE = frozenset({_C.DRAFT, _C.CHANGES_REQUESTED})
"""All terms are the owner's to change. Only the owner and admins see a campaign in these states."""
PUBLISHED = frozenset({_C.APPROVED, _C.SCHEDULED, _C.LIVE, _C.PAUSED})
"""Approved and not yet past its deadline: texts may still be edited, and the deadline moved."""
TAKES_MONEY = frozenset({_C.LIVE, _C.PAUSED, _C.WAITING_FUNDS})
"""A pledge made before still wants its money, and may be taken back."""
HAS_PLAN = frozenset({_C.FUNDED, _C.COMPLETED})
"""What was raised is planned to the last unit, and leaves the escrow as planned (`domain/milestone.py`)."""
_UNSEEN = EDITABLE | {_C.SUBMITTED, _C.REJECTED}
_GIVEN_UP = frozenset({_C.CANCELED, _C.REFUNDING, _C.CLOSED_FAILED})

MAX_DURATION = timedelta(days=366)
"""From going live to the deadline, extensions included."""
MIN_NOTICE = timedelta(days=1)
"""A deadline is never moved nearer than this, so that nobody is surprised."""
MAX_EXTENSIONS = 3


def is_public(status: CampaignStatus, *, approved: bool) -> bool:
    """Whether everybody of the tenant may see the campaign; else its owner and the admins only. `approved`: it has a day
    on which it went live, or will: what was given up before a reviewer approved it never becomes public.

    The one rule for lists, detail, covers and streams; `campaign_public` says the same in SQL.
    """
    return status not in _UNSEEN and (approved or status not in _GIVEN_UP)


SLUG_CHARACTERS = 60


def slugs(title: str, campaign_id: str) -> tuple[str, ...]:
    """Names for a campaign in addresses, the best first: of its title's letters and digits, then with a part of its id.

    Lower case ASCII letters, digits and single hyphens, never an underscore: an id is never a slug.
    """
    plain = normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))[:SLUG_CHARACTERS].strip("-") or "campaign"
    unique = campaign_id.rpartition("_")[2].lower()
    return words, f"{words}-{unique[:8]}", f"{words}-{unique}"


def progress_bps(raised_minor: int, goal_minor: int) -> int:
    """Certain money in basis points of the goal, rounded down; more than 10,000 above the goal."""
    return raised_minor * BPS // goal_minor


@dataclass(frozen=True)
class Funding:
    """What decides a campaign: its terms and its three counters, in minor units."""

    kind: CampaignKind
    goal_minor: int
    pledged_minor: int
    held_minor: int
    captured_minor: int
    success_floor_bps: int

    @property
    def raised_minor(self) -> int:
        """Money that is certain: held or captured."""
        return self.held_minor + self.captured_minor

    def reaches_goal(self, *, with_pledged: bool = False) -> bool:
        """All-or-nothing needs the goal; keep-what-you-raise needs any money at all."""
        total = self.raised_minor + (self.pledged_minor if with_pledged else 0)
        needed = self.goal_minor if self.kind is CampaignKind.ALL_OR_NOTHING else 1
        return total >= needed

    def reaches_goal_early(self) -> bool:
        """Certain money is at least the goal, for either kind: a campaign that closes when funded closes now."""
        return self.raised_minor >= self.goal_minor


def check_open(status: CampaignStatus, *, deadline_at: datetime, as_of: datetime) -> None:
    """Refuse to take a pledge unless the campaign is verified, live and before its deadline.

    Raises Conflict `campaign_not_verified`, `campaign_not_live`, `campaign_paused` or `campaign_closed`.
    """
    if status in EDITABLE or status is _C.SUBMITTED:
        raise Conflict("campaign_not_verified", "The campaign has not been verified yet.")
    if status in (_C.APPROVED, _C.SCHEDULED):
        raise Conflict("campaign_not_live", "The campaign has not begun yet.")
    if status is _C.PAUSED and as_of < deadline_at:
        raise Conflict("campaign_paused", "The campaign is paused and takes no investments now.")
    if status is not _C.LIVE or as_of >= deadline_at:
        raise Conflict("campaign_closed", "The campaign no longer takes investments.")


def check_editable(status: CampaignStatus, *, money_terms: bool) -> None:
    """Refuse an edit. A draft, or one sent back by the reviewer, may change in everything; once approved, its texts only.

    Raises Conflict `campaign_under_review`, `terms_are_fixed` or `campaign_decided`.
    """
    if status is _C.SUBMITTED:
        raise Conflict("campaign_under_review", "The campaign is being reviewed; wait for the decision.")
    if status not in EDITABLE | PUBLISHED:
        raise Conflict("campaign_decided", "The campaign is over, or has been decided.")
    if money_terms and status in PUBLISHED:
        raise Conflict("terms_are_fixed", "Once a campaign is approved, its money terms are fixed.")


def check_first_deadline(deadline_at: datetime, *, as_of: datetime) -> None:
    """Refuse the deadline of a campaign that is to be reviewed. Raises InvalidRequest `invalid_deadline`."""
    if not as_of + timedelta(minutes=1) <= deadline_at <= as_of + MAX_DURATION:
        text = "The deadline is between a minute and a year from now."
        raise InvalidRequest("invalid_deadline", text, field="deadline_at")


def check_deadline(
    status: CampaignStatus, *, deadline_at: datetime, wanted_at: datetime, began_at: datetime, extensions: int,
    as_of: datetime,
) -> None:  # fmt: skip
    """Refuse to move the deadline from `deadline_at` to `wanted_at`. `began_at`: when it went, or will go, live.

    Raises Conflict `campaign_not_verified`, `campaign_decided`, `deadline_passed`, `too_many_extensions`, and
    InvalidRequest `deadline_unchanged`, `deadline_too_soon`, `deadline_past_policy`.
    """
    if status in EDITABLE or status is _C.SUBMITTED:
        raise Conflict("campaign_not_verified", "The campaign has not been verified yet; edit its terms instead.")
    if status is not _C.WAITING_FUNDS and status not in PUBLISHED:
        raise Conflict("campaign_decided", "The campaign is over, or has been decided.")
    if status is _C.WAITING_FUNDS or as_of >= deadline_at:
        raise Conflict("deadline_passed", "The deadline has passed.")
    if wanted_at == deadline_at:
        raise InvalidRequest("deadline_unchanged", "This is the deadline already.", field="deadline_at")
    if wanted_at < max(as_of, began_at) + MIN_NOTICE:
        text = "The deadline is at least a day away, and a day after the campaign goes live."
        raise InvalidRequest("deadline_too_soon", text, field="deadline_at")
    if wanted_at > began_at + MAX_DURATION:
        text = f"A campaign lasts at most {MAX_DURATION.days} days, extensions included."
        raise InvalidRequest("deadline_past_policy", text, field="deadline_at")
    if wanted_at > deadline_at and extensions >= MAX_EXTENSIONS:
        raise Conflict("too_many_extensions", f"A deadline is extended at most {MAX_EXTENSIONS} times.")


def check_promises(*, wanted_at: datetime, milestones: Iterable[datetime | None], profit_until: date | None) -> None:
    """Refuse a deadline beyond what was promised for later: dated milestones, the end of the profit period.

    Raises InvalidRequest `deadline_past_policy`.
    """
    if any(due_at is not None and due_at <= wanted_at for due_at in milestones):
        raise InvalidRequest("deadline_past_policy", "A milestone is due before that deadline.", field="deadline_at")
    if profit_until is not None and profit_until <= wanted_at.date():
        text = "The profit period that was promised ends before that deadline."
        raise InvalidRequest("deadline_past_policy", text, field="deadline_at")


def decide_at_deadline(
    funding: Funding, *, as_of: datetime, deadline_at: datetime, waiting: timedelta
) -> CampaignStatus:
    """What a live or waiting campaign becomes at `as_of`, on or after its deadline.

    Slow money (pledges still pending) keeps it in `waiting_funds`, never longer than the waiting window, and not when
    even all of it together could not reach the goal.
    """
    if funding.pledged_minor and as_of < deadline_at + waiting and funding.reaches_goal(with_pledged=True):
        return _C.WAITING_FUNDS
    return _C.SUCCESSFUL if funding.reaches_goal() else _C.FAILED


def decide_after_capture(funding: Funding) -> CampaignStatus:
    """FUNDED or FAILED once every capture line is final, by the stated rule (see the top of this file)."""
    if funding.kind is CampaignKind.KEEP_WHAT_YOU_RAISE:
        return _C.FUNDED if funding.captured_minor > 0 else _C.FAILED
    enough = funding.captured_minor * 10_000 >= funding.goal_minor * funding.success_floor_bps
    return _C.FUNDED if enough and funding.captured_minor > 0 else _C.FAILED
