"""Campaigns, their three counters, reviews and updates. The only writer of `pledged`, `held` and `captured` is `shift`."""

from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from psycopg.errors import SerializationFailure, UniqueViolation
from sqlalchemy import Column, SmallInteger
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from domain.business import Category
from domain.campaign import TAKES_MONEY, CampaignKind, CampaignStatus, Funding, slugs
from domain.errors import AlreadyDone
from domain.investment import Bucket
from infra.database import Tx
from models.base import Scoped, by_id, insert


class Campaign(Scoped, table=True):
    """A campaign. Amounts in minor units of `currency`, shares in basis points, instants in UTC.

    `slug`: its name in addresses, unique in the tenant; the database gives one where none is set. `min_kyc_level`,
    `countries`: who may invest (`domain/eligibility.py`). `category`, `country`: the business's. `cover`: the version of its
    picture (`models/cover.py`). `go_live_at`: when it went live, or will. `goal_reached_at`: its process was told to close
    it early. `paused_by`: who. `milestones` (null: one tranche), `platform_fee_bps` and `profit_until` (the last day of the
    promised profit period) say how its money is released: `models/milestone.py`.
    """

    __tablename__: ClassVar[str] = "campaigns"

    id: str = Field(primary_key=True)
    slug: str | None = None
    owner_id: str
    title: str
    description: str
    kind: CampaignKind
    currency: str
    goal_minor: int
    cap_minor: int
    min_ticket_minor: int
    max_per_investor_minor: int | None = None
    profit_share_bps: int
    success_floor_bps: int
    waiting_seconds: int
    status: CampaignStatus
    deadline_at: datetime
    pledged_minor: int = 0
    held_minor: int = 0
    captured_minor: int = 0
    close_when_funded: bool = False
    min_kyc_level: int = Field(default=0, sa_type=SmallInteger)
    countries: list[str] | None = Field(default=None, sa_column=Column(JSONB))
    milestones: list[dict[str, Any]] | None = Field(default=None, sa_column=Column(JSONB))
    platform_fee_bps: int = 0
    profit_until: date | None = None
    category: Category | None = None
    country: str | None = None
    cover: str | None = None
    go_live_at: datetime | None = None
    deadline_extensions: int = 0
    goal_reached_at: datetime | None = None
    paused_by: str | None = None
    verified_by: str | None = None
    verified_at: datetime | None = None
    outcome: str | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    created_at: datetime

    @property
    def funding(self) -> Funding:
        """The facts that decide it."""
        return Funding(
            kind=self.kind, goal_minor=self.goal_minor, pledged_minor=self.pledged_minor, held_minor=self.held_minor,
            captured_minor=self.captured_minor, success_floor_bps=self.success_floor_bps,
        )  # fmt: skip

    @property
    def waiting(self) -> timedelta:
        """How long after the deadline slow money may still arrive."""
        return timedelta(seconds=self.waiting_seconds)


class CampaignReview(Scoped, table=True):
    """A reviewer's decision: approve, reject or request_changes; the last two with a note. Append-only."""

    __tablename__: ClassVar[str] = "campaign_reviews"

    id: str = Field(primary_key=True)
    campaign_id: str
    reviewer_id: str
    decision: str
    note: str | None = None
    created_at: datetime


class CampaignUpdate(Scoped, table=True):
    """News from the owner to the investors. Append-only."""

    __tablename__: ClassVar[str] = "campaign_updates"

    id: str = Field(primary_key=True)
    campaign_id: str
    author_id: str
    title: str
    body: str
    created_at: datetime


class NoLongerWanted(Exception):
    """The campaign was decided by somebody else after this transaction had read that it takes money: do it again."""


async def get_campaign(tx: Tx, campaign_id: str, *, lock: bool = False) -> Campaign | None:
    """One campaign; `lock` holds the row against every other writer of its counters until the transaction ends."""
    return await by_id(tx, Campaign, campaign_id, lock=lock)


_RENAME = """
update campaigns set slug = %(slug)s, updated_at = now() where id = %(id)s
    and not exists (select from campaigns other where other.slug = %(slug)s and other.id <> %(id)s)
"""


async def add_campaign(tx: Tx, campaign: Campaign) -> None:
    """Insert it under the first slug of its title that is free; `slug` is set. Raises AlreadyDone for a known id."""
    for slug in slugs(campaign.title, campaign.id):
        campaign.slug = slug
        if await insert(tx, campaign, or_nothing=True):
            return
    raise AlreadyDone


async def rename(tx: Tx, campaign_id: str, title: str) -> None:
    """Give the campaign, whose row the caller has locked, the first slug of a new title that is free.

    Raises SerializationFailure when another takes it this moment: done again, the command finds it taken.
    """
    for slug in slugs(title, campaign_id):
        try:
            if (await tx.execute(_RENAME, {"slug": slug, "id": campaign_id})).rowcount:
                return
        except UniqueViolation as error:
            raise SerializationFailure("another campaign was given the slug meanwhile") from error


async def delete_draft(tx: Tx, campaign_id: str) -> bool:
    """Delete a campaign that was never submitted; False, and nothing changed, for any other."""
    return (await tx.execute("delete from campaigns where id = %s and status = 'draft'", (campaign_id,))).rowcount == 1


async def reach_goal(tx: Tx, campaign_id: str, as_of: datetime) -> bool:
    """Whether the campaign is to close now because its goal is reached: True once, to whoever brought the last of it.

    The caller wakes the process. It must have moved the counters in this transaction, and so holds the row.
    """
    done = await tx.execute(
        """update campaigns set goal_reached_at = %s, next_action_at = null, updated_at = now()
           where id = %s and close_when_funded and status = 'live' and goal_reached_at is null
             and held_minor + captured_minor >= goal_minor""",
        (as_of, campaign_id),
    )
    return done.rowcount == 1


_SHIFT = """
update campaigns set pledged_minor = pledged_minor + %s, held_minor = held_minor + %s,
    captured_minor = captured_minor + %s, updated_at = now()
where id = %s and (not %s or status = any(%s))
"""
_TAKES_MONEY = [str(status) for status in sorted(TAKES_MONEY)]


async def shift(
    tx: Tx, campaign_id: str, amount_minor: int, source: Bucket | None, target: Bucket | None, *, wanted: bool = False
) -> None:
    """Move `amount_minor` between the counters; None is outside. The cap is a check constraint on their sum.

    `wanted`: the caller has read, without a lock, that the campaign still takes money. Raises NoLongerWanted if by now
    it does not: money that came in after the decision would be nobody's to settle.
    """
    change = {each: 0 for each in Bucket}
    if source is not None:
        change[source] -= amount_minor
    if target is not None:
        change[target] += amount_minor
    if not any(change.values()):
        return
    counts = (change[Bucket.PLEDGED], change[Bucket.HELD], change[Bucket.CAPTURED])
    done = await tx.execute(_SHIFT, (*counts, campaign_id, wanted, _TAKES_MONEY))
    if wanted and done.rowcount == 0:
        raise NoLongerWanted(campaign_id)


async def next_renewal(tx: Tx, campaign_id: str, margin: timedelta) -> datetime | None:
    """When the campaign's authorizations next want care: `margin` before one with a saved instrument lapses (it is
    renewed), or when one without lapses (it is gone)."""
    row = await (
        await tx.execute(
            """select min(p.authorized_until - case when p.instrument is null then interval '0' else %s end) as at
               from investments i join payments p on (p.tenant_id, p.mode, p.id) = (i.tenant_id, i.mode, i.payment_id)
               where i.campaign_id = %s and i.status = 'held' and p.authorized_until is not null""",
            (margin, campaign_id),
        )
    ).fetchone()
    return row["at"] if row else None
