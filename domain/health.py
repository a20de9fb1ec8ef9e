"""What a campaign's owner should be warned of before it is too late, and when to look again.

    no_activity      live and below its goal, and nothing came in or went out for a week
    low_rate         live, a quarter of its time is over, and at its pace so far it would not reach its goal
    nearly_due       three days or less to the deadline, and below its goal
    update_overdue   its owner has told nothing: for 30 days before the deadline, for 90 after success

Each begins at an instant that the facts give, so nobody has to look every day: `next_look` says when time alone will
change something.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.campaign import CampaignStatus


class HealthWarning(StrEnum):
    """What is wrong."""

    NO_ACTIVITY = "no_activity"
    LOW_RATE = "low_rate"
    NEARLY_DUE = "nearly_due"
    UPDATE_OVERDUE = "update_overdue"


IDLE: Final = timedelta(days=7)
NEARLY: Final = timedelta(days=3)
UPDATE_WHILE_OPEN: Final = timedelta(days=30)
UPDATE_AFTERWARDS: Final = timedelta(days=90)

_C = CampaignStatus
_OPEN = frozenset({_C.LIVE, _C.PAUSED})
_AFTERWARDS = frozenset({_C.SUCCESSFUL, _C.SETTLING, _C.FUNDED})
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Health:
    """What a campaign's health is judged by. Money in minor units; `raised_minor` is certain. `began_at`: when it went live.

    `active_at`: when money last came in or went out; `told_at`: the owner's last update. Neither: when it began.
    """

    status: CampaignStatus
    goal_minor: int
    raised_minor: int
    began_at: datetime
    deadline_at: datetime
    active_at: datetime
    told_at: datetime


def is_watched(status: CampaignStatus) -> bool:
    """Whether there is anything to warn of in this state."""
    return status in _OPEN or status in _AFTERWARDS


def warnings(health: Health, *, as_of: datetime) -> frozenset[HealthWarning]:
    """What is wrong at `as_of`."""
    return frozenset(kind for kind, at in _beginnings(health, as_of).items() if at <= as_of)


def next_look(health: Health, *, as_of: datetime) -> datetime | None:
    """The first instant after `as_of` at which something else is wrong, if nothing happens until then; None: never."""
    instants = [*_beginnings(health, as_of).values(), *([health.deadline_at] if health.status in _OPEN else [])]
    return min((at for at in instants if at > as_of), default=None)


def _beginnings(health: Health, as_of: datetime) -> dict[HealthWarning, datetime]:
    """When each warning begins, or began, as things stand; those that cannot be are left out."""
    found: dict[HealthWarning, datetime] = {}
    status, began_at, deadline_at = health.status, health.began_at, health.deadline_at
    if status in _OPEN and as_of < deadline_at:
        found[HealthWarning.UPDATE_OVERDUE] = max(began_at, health.told_at) + UPDATE_WHILE_OPEN
        if health.raised_minor < health.goal_minor:
            found[HealthWarning.NEARLY_DUE] = max(began_at, deadline_at - NEARLY)
            if status is _C.LIVE:
                found[HealthWarning.NO_ACTIVITY] = max(began_at, health.active_at) + IDLE
                found[HealthWarning.LOW_RATE] = _falls_behind(health)
        return {kind: at for kind, at in found.items() if at < deadline_at}
    if status in _AFTERWARDS:
        found[HealthWarning.UPDATE_OVERDUE] = max(began_at, health.told_at) + UPDATE_AFTERWARDS
    return found


def _falls_behind(health: Health) -> datetime:
    """When what has been raised is less than the time's part of the goal."""
    seconds = max((health.deadline_at - health.began_at) // _SECOND, 0)
    on_pace = seconds * health.raised_minor // health.goal_minor + 1
    return health.began_at + timedelta(seconds=max(on_pace, seconds // 4))
