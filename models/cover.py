# ruff: noqa: S608 - put together from constants of this file and of models/pages.py; values are bound
"""Covers of campaigns: the rendered pictures, under the hash of what they hold."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from contracts.base import Scope
from infra.database import Database, Tx
from models.base import update
from models.campaign import Campaign
from models.pages import SEEN
from models.user import Role

_KEEP: Final = """
insert into campaign_covers (tenant_id, mode, campaign_id, version, width, content)
values (nullif(current_setting('app.tenant', true), '')::uuid, current_setting('app.mode', true), %s, %s, %s, %s)
on conflict do nothing
"""
_FORGET: Final = "delete from campaign_covers where campaign_id = %s and version is distinct from %s"
_FIND: Final[LiteralString] = f"""
select u.role, found.version, found.content from users u left join lateral (
    select x.cover as version, case when x.cover is distinct from $4 then (
        select v.content from campaign_covers v where v.campaign_id = x.id and v.version = x.cover and v.width = $3)
        end as content
    from campaigns x where x.id = $2 and x.cover is not null and {SEEN}) found on true
where u.id = $1 and u.disabled_at is null
"""


@dataclass(frozen=True, slots=True)
class Cover:
    """The caller's role now; the cover's version, None when there is none to see; its bytes (WebP), None when the caller
    has this version."""

    role: Role
    version: str | None
    content: bytes | None


async def set_cover(tx: Tx, campaign_id: str, contents: Mapping[int, bytes] | None) -> str | None:
    """Give the campaign, whose row the caller has locked, the cover with these bytes by width, or None; its version.

    The one before is forgotten, and its addresses with it.
    """
    version: str | None = None
    if contents is not None:
        version = hashlib.sha256(b"".join(content for _, content in sorted(contents.items()))).hexdigest()[:32]
        for width, content in contents.items():
            await tx.execute(_KEEP, (campaign_id, version, width, content))
    await update(tx, Campaign, {"id": campaign_id}, {"cover": version})
    await tx.execute(_FORGET, (campaign_id, version))
    return version


async def find_cover(
    database: Database, scope: Scope, user_id: str, campaign_id: str, width: int, known: str | None
) -> Cover | None:
    """The cover as the user may see it; `known`: the version it has. None when the user is unknown or disabled."""
    row = await database.ask(scope, _FIND, (user_id, campaign_id, width, known))
    return None if row is None else Cover(Role(row["role"]), row["version"], row["content"])
