"""Messages of the campaign and settlement processes (`workflows/campaign.py`, `workflows/settlement.py`)."""

from datetime import datetime

from contracts.base import Message, Scope
from domain.campaign import CampaignStatus


class CampaignInput(Message):
    """Starts a campaign's process, or continues it as new. `as_of`: business time at the start of this run."""

    scope: Scope
    campaign_id: str
    as_of: datetime


class CampaignTask(Message):
    """One step of one campaign, at business time `as_of`."""

    scope: Scope
    campaign_id: str
    as_of: datetime


class CampaignProgress(Message):
    """Where a campaign stands. A `settlement_id` must be carried out before the next step.

    `as_of`: the business time of the step, which is later than was asked for when a test clock stands there.
    """

    status: CampaignStatus
    settlement_id: str | None = None
    settlement_lines: int = 0
    next_action_at: datetime | None = None
    finished: bool = False
    as_of: datetime | None = None


class SettlementInput(Message):
    """Starts a settlement over lines 1…`lines`."""

    scope: Scope
    settlement_id: str
    lines: int
    as_of: datetime


class SettlementRange(Message):
    """Lines `first`…`last` of a settlement, at business time `as_of`."""

    scope: Scope
    settlement_id: str
    first: int
    last: int
    as_of: datetime


class SettlementTask(Message):
    """A question about a whole settlement."""

    scope: Scope
    settlement_id: str
    as_of: datetime


class SettlementProgress(Message):
    """How far a settlement is. `open` lines want another pass, at `next_action_at` if given, else at once."""

    open: int
    done: int
    failed: int
    next_action_at: datetime | None = None
