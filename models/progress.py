"""How far campaigns are: what somebody who watches one is told of. Read for many at once, by one reader a process."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.database import Tx

_PROGRESS = """
select c.id as campaign_id, c.owner_id, c.status, c.go_live_at is not null as approved, c.currency, c.goal_minor,
    c.pledged_minor, c.held_minor, c.captured_minor, f.investors
from campaigns c join campaign_feed f on (f.tenant_id, f.mode, f.campaign_id) = (c.tenant_id, c.mode, c.id)
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """One campaign's state and money now, in minor units of `currency`; `investors` may be a moment older.
    `approved`: it has a day on which it went live, or will."""

    campaign_id: str
    owner_id: str
    status: str
    approved: bool
    currency: str
    goal_minor: int
    pledged_minor: int
    held_minor: int
    captured_minor: int
    investors: int


async def find_progress(tx: Tx, id_or_slug: str) -> Progress | None:
    """One campaign's, by its id or its slug."""
    column = "c.id" if "_" in id_or_slug else "c.slug"
    row = await (await tx.execute(f"{_PROGRESS} where {column} = %s".encode(), (id_or_slug,))).fetchone()
    return Progress(**row) if row else None


async def read_progress(tx: Tx, campaign_ids: Sequence[str]) -> dict[str, Progress]:
    """Those of the campaigns that exist, by id."""
    rows = await (await tx.execute(f"{_PROGRESS} where c.id = any(%s)".encode(), (list(campaign_ids),))).fetchall()
    return {row["campaign_id"]: Progress(**row) for row in rows}
