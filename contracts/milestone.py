"""Messages of the process that follows a funded campaign's money (`workflows/milestone.py`). No message holds a list."""

from datetime import datetime
from enum import StrEnum

from contracts.base import Message, Scope
from domain.campaign import CampaignStatus


class MilestoneStep(StrEnum):
    """What a campaign's money wants next."""

    RETURN = "return"
    WAIT = "wait"
    DONE = "done"


class MilestoneInput(Message):
    """Starts the process, continues it as new, and is each of its steps. `as_of`: business time."""

    scope: Scope
    campaign_id: str
    as_of: datetime


class ReturnRange(Message):
    """Lines `first`…`last` of what goes back to the holders after a vote, at business time `as_of`."""

    scope: Scope
    campaign_id: str
    vote_id: str
    first: int
    last: int
    as_of: datetime


class MilestoneProgress(Message):
    """Where a campaign's money stands.

    `vote_id`, `lines`: what is to be returned, and in how many lines; `next_action_at`: when a wait looks again by itself.
    `as_of`: the business time of the step, which is later than was asked for when a test clock stands there.
    """

    status: CampaignStatus
    step: MilestoneStep
    vote_id: str | None = None
    lines: int = 0
    next_action_at: datetime | None = None
    as_of: datetime
