# ruff: noqa: S608 - statements are put together from constants of this file and of models/pages.py; values are bound
"""Pages of the feed of campaigns, and the feed's version: filtered, searched and sorted by `campaign_feed`'s indexes.

What is shown is read from the campaigns themselves; what it is sorted by may be a moment older (`models/feed.py`). A page
is made of two ordered lists, each from one index: what is public, and what of the rest the caller may see.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, LiteralString

from contracts.base import Scope
from infra.database import Database
from models.pages import CAMPAIGN, FEED, SEPARATOR, time_text
from models.user import Role

_RARE_SECONDS: Final = 2
"""How long a page with rare filters may take: they have no index of their own."""


_FEW: Final = 2_000
"""As many campaigns as words may find by their index: more would be read, and sorted, for fifty."""
_LOOKED_AT: Final = 20_000
"""How many of an order are looked at for words that more campaigns have, before the page ends."""


class Sort(StrEnum):
    """The order of the feed."""

    NEWEST = "newest"
    ENDING_SOON = "ending_soon"
    MOST_FUNDED = "most_funded"
    RECOMMENDED = "recommended"


@dataclass(frozen=True, slots=True)
class _Order:
    key: LiteralString
    text: LiteralString
    direction: LiteralString
    only: LiteralString = "true"
    public: bool = False
    """Whether `only` leaves nothing but what is public."""


_ORDERS: Final = {
    Sort.NEWEST: _Order("f.created_at", time_text("f.created_at"), "desc"),
    Sort.ENDING_SOON: _Order("f.deadline_at", time_text("f.deadline_at"), "asc", "f.status = 'live'", True),
    Sort.MOST_FUNDED: _Order("f.progress_bps", "f.progress_bps::text", "desc"),
    Sort.RECOMMENDED: _Order("f.score", "f.score::text", "desc"),
}
_FILTERS: Final[dict[str, LiteralString]] = {
    "status": "f.status = {}",
    "kind": "f.kind = {}",
    "currency": "f.currency = {}",
    "owner_id": "f.owner_id = {}",
    "category": "f.category = {}",
    "country": "f.country = {}",
    "min_goal": "f.goal_minor >= {}",
    "max_goal": "f.goal_minor <= {}",
    "min_progress_bps": "f.progress_bps >= {}",
    "max_progress_bps": "f.progress_bps <= {}",
    "ends_before": "f.deadline_at < {}",
    "ends_after": "f.deadline_at > {}",
    "q": "f.campaign_id in (select campaigns_matching({}))",
}
_BY_WORD: Final[LiteralString] = "campaign_matches(f.campaign_id, {})"
_MANY: Final[LiteralString] = "select count(*) as found from (select campaigns_matching($1) limit $2) m"
_COMMON: Final = frozenset({(), ("status",)})
"""Asked often enough to be prepared on every connection; any other set of filters is planned each time, with its values."""
_VERSION: Final[LiteralString] = """coalesce((select version from feed_versions), 0)
    + (select count(*) from feed_changes)"""
_STAMPS: Final[LiteralString] = f"""select {_VERSION} as version, (
    select json_object_agg(u.id, u.role) from users u where u.id = any($1) and u.disabled_at is null) as roles"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the feed is asked for: `filters` by the names of `_FILTERS`; after the row `after` (its sort key and id)."""

    sort: Sort
    filters: dict[str, Any]
    after: tuple[Any, str] | None
    limit: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """The caller's role now, and the version of the tenant's feed."""

    role: Role
    version: int


@dataclass(frozen=True, slots=True)
class FeedPage(Stamp):
    """A page: JSON of its rows, how many, and the sort key (as text) and id of the last; None on an empty page."""

    rows: int
    document: str | None
    last: tuple[str, str] | None


async def stamps(database: Database, scope: Scope, user_ids: list[str]) -> dict[str, Stamp]:
    """The version with each user's role, without the page; the unknown and the disabled are left out."""
    row = await database.ask(scope, _STAMPS, (user_ids,))
    assert row is not None
    return {user_id: Stamp(Role(role), row["version"]) for user_id, role in (row["roles"] or {}).items()}


async def page(database: Database, scope: Scope, user_id: str, wanted: Wanted, *, everything: bool) -> FeedPage | None:
    """The page with the version it is of, from one snapshot. `everything`: the caller is an admin.

    None when the user is unknown or disabled. Raises psycopg's QueryCanceled when a rare question takes too long.
    """
    names = tuple(sorted(wanted.filters))
    many = "q" in names and await _have(database, scope, wanted.filters["q"])
    query = feed_query(wanted.sort, names, wanted.after is not None, everything, many=many)
    bounds = (wanted.limit, _LOOKED_AT) if many else (wanted.limit,)
    params = (user_id, *(wanted.filters[name] for name in names), *(wanted.after or ()), *bounds)
    if names in _COMMON:
        row = await database.ask(scope, query, params)
    else:
        row = await database.ask_once(scope, query, params, seconds=_RARE_SECONDS)
    if row is None:
        return None
    last = (row["last"][0][0], row["last"][0][1]) if row["last"] else None
    return FeedPage(Role(row["role"]), row["version"], row["rows"], row["document"], last)


async def _have(database: Database, scope: Scope, words: str) -> bool:
    """Whether so many campaigns have the words that their index helps nobody."""
    row = await database.ask_once(scope, _MANY, (words, _FEW + 1), seconds=_RARE_SECONDS)
    return row is not None and row["found"] > _FEW


@cache
def feed_query(
    sort: Sort, filters: tuple[str, ...], later: bool, everything: bool, *, many: bool = False
) -> LiteralString:
    """The statement for a sort, a set of filters (their names, sorted), and whether it goes on after a row.

    `many`: very many campaigns have the words (the filter `q`). Then each of the order's first (the last value) is asked
    whether it has them, until the page is full, instead of all being found and sorted.
    """
    order = _ORDERS[sort]
    number = 2 + len(filters) + (2 if later else 0)
    limit: LiteralString = f"${number}"
    numbered = {name: f"${place}" for place, name in enumerate(filters, 2)}
    has = _BY_WORD.replace("{}", numbered["q"]) if many else "true"
    where = [
        order.only,
        *(_FILTERS[name].replace("{}", at) for name, at in numbered.items() if name != "q" or not many),
    ]
    if later:
        sign = "<" if order.direction == "desc" else ">"
        where.append(f"({order.key}, f.campaign_id) {sign} (${number - 2}, ${number - 1})")
    by: LiteralString = f"order by {order.key} {order.direction}, f.campaign_id {order.direction} limit {limit}"
    shown: LiteralString = f"select f.*, {order.key} as key, {order.text} as key_text from"
    bound: LiteralString = by.replace(f"limit {limit}", f"limit ${number + 1}")

    def listed(source: LiteralString, which: LiteralString) -> LiteralString:
        plain: LiteralString = f"{source} f where {' and '.join([which, *where])}"
        return f"({shown} (select f.* from {plain} {bound}) f where {has} {by})" if many else f"({shown} {plain} {by})"

    lists = [listed("campaign_feed", "f.public")]
    if everything and not order.public:
        lists.append(listed("campaign_feed", "not f.public"))
    elif not order.public:
        # Few, and found as the caller's own first: in the order's index they would be looked for among everybody's.
        own: LiteralString = "(select * from campaign_feed where not public and owner_id = $1 offset 0)"
        lists.append(listed(own, "true"))
    both: LiteralString = " union all ".join(lists)
    rows: LiteralString = f"""select k.key_text, k.campaign_id, (select row_to_json(d)::text from (
            select {CAMPAIGN}, null as reviews, null as warnings, null as timeline, {FEED.replace("{f}", "k")}
            from campaigns x where x.id = k.campaign_id) d) as document
        from (select b.* from ({both}) b
            order by b.key {order.direction}, b.campaign_id {order.direction} limit {limit}) k"""
    return f"""select u.role, {_VERSION} as version, found.rows, found.document, found.last
        from users u cross join lateral (
            select count(*) as rows, string_agg(r.document, E'{SEPARATOR}') as document,
                (array_agg(array[r.key_text, r.campaign_id]))[count(*):count(*)] as last from ({rows}) r) found
        where u.id = $1 and u.disabled_at is null"""
