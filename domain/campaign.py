"""A campaign: when it is open, and what happens at and after its deadline.

Two kinds. *All or nothing*: pledges are authorized (or held in the wallet, or charged where a rail cannot authorize) and
captured only if the goal is reached; otherwise everything is voided or refunded. *Keep what you raise*: money is taken
at once, and the campaign succeeds with whatever came in.

The rule for captures that fail after success: the campaign stays funded if what was really captured is at least
`success_floor_bps` of the goal; below that it fails, and what was captured is refunded.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.errors import Conflict
from domain.states import Machine


class CampaignKind(StrEnum):
    """The deadline rule."""

    ALL_OR_NOTHING = "all_or_nothing"
    KEEP_WHAT_YOU_RAISE = "keep_what_you_raise"


class CampaignStatus(StrEnum):
    """The campaign's state (FEATURES (c))."""

    SUBMITTED = "submitted"
    REJECTED = "rejected"
    LIVE = "live"
    WAITING_FUNDS = "waiting_funds"
    SUCCESSFUL = "successful"
    SETTLING = "settling"
    FUNDED = "funded"
    FAILED = "failed"
    CANCELED = "canceled"
    REFUNDING = "refunding"
    CLOSED_FAILED = "closed_failed"


_C = CampaignStatus
CAMPAIGN = Machine(
    "campaign",
    {
        _C.SUBMITTED: frozenset({_C.LIVE, _C.REJECTED}),
        _C.LIVE: frozenset({_C.WAITING_FUNDS, _C.SUCCESSFUL, _C.FAILED, _C.CANCELED}),
        _C.WAITING_FUNDS: frozenset({_C.SUCCESSFUL, _C.FAILED, _C.CANCELED}),
        _C.SUCCESSFUL: frozenset({_C.SETTLING}),
        _C.SETTLING: frozenset({_C.FUNDED, _C.FAILED}),
        _C.FAILED: frozenset({_C.REFUNDING}),
        _C.CANCELED: frozenset({_C.REFUNDING}),
        _C.REFUNDING: frozenset({_C.CLOSED_FAILED}),
    },
)
MAX_DURATION = timedelta(days=366)


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


def check_open(status: CampaignStatus, *, deadline_at: datetime, as_of: datetime) -> None:
    """Refuse to take a pledge unless the campaign is verified, live and before its deadline.

    Raises Conflict `campaign_not_verified` or `campaign_closed`.
    """
    if status is _C.SUBMITTED:
        raise Conflict("campaign_not_verified", "The campaign has not been verified yet.")
    if status is not _C.LIVE or as_of >= deadline_at:
        raise Conflict("campaign_closed", "The campaign no longer takes investments.")


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
