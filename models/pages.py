# ruff: noqa: S608 - statements are put together from constants of this file; values are bound
"""What the API shows, as JSON text that Postgres builds: one statement for the caller's role and the whole document.

A page of fifty rows costs one value here instead of six hundred. The documents have the fields of `api/views.py`, in
its order and spelling, and `tests/api/test_reads.py` holds the two together. `$1` is always the caller's id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, LiteralString

from contracts.base import Scope
from domain.cover import CoverWidth
from infra.database import Database
from models.user import Role

SEPARATOR: Final = ",\n"
"""Between the documents of a page. No JSON text of Postgres has a line feed inside, so pages can be cut apart again."""


@dataclass(frozen=True, slots=True)
class Question:
    """A read that answers with the columns of `Answer`."""

    query: LiteralString
    params: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The caller's role now, and the document: JSON of one thing or of a page's rows; None when there is none.

    `owner_id` says whose the one thing is, `rows` how many a page has.
    """

    role: Role
    owner_id: str | None
    rows: int
    document: str | None


async def ask(database: Database, scope: Scope, user_id: str, question: Question) -> Answer | None:
    """The answer in one round trip; None when the user is unknown or disabled, whatever was found."""
    row = await database.ask(scope, question.query, (user_id, *question.params))
    return None if row is None else Answer(Role(row["role"]), row["owner_id"], row["rows"], row["document"])


def time_text(column: LiteralString) -> LiteralString:
    """A timestamp as pydantic writes it: UTC, `Z`, microseconds unless they are zero."""
    text: LiteralString = "to_char({} at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    return "replace(" + text.replace("{}", column) + ", '.000000Z', 'Z')"


def _money(column: LiteralString, alias: LiteralString = "x") -> LiteralString:
    return f"(select row_to_json(m) from (select {alias}.{column} as amount, {alias}.currency) m)"


def _list(rows: LiteralString) -> LiteralString:
    """The rows of a subselect as a JSON array."""
    return f"to_json(array(select row_to_json(e) from ({rows}) e))"


def _workflow(noun: LiteralString, alias: LiteralString) -> LiteralString:
    return f"'{noun}/' || {alias}.tenant_id || '/' || {alias}.mode || '/' || {alias}.id"


_STORY: Final = _list(
    f"select {time_text('at')} as at, event, detail from timeline where entity_id = x.id order by seq limit 200"
)
_NEXT_ACTION: Final = """case when {p}.next_action is not null then (select row_to_json(n) from (select
    {p}.next_action ->> 'kind' as kind, {p}.next_action ->> 'redirect_url' as redirect_url,
    {p}.next_action ->> 'client_token' as client_token) n) end as next_action"""
_ATTEMPTS: Final = _list(
    """select reference, provider, provider_id, status, decline_code
         from payment_attempts where payment_id = x.id order by ordinal"""
)
_REFUNDS: Final = _list(
    f"""select id, {_money("amount_minor", "r")} as amount, reason, status, {time_text("created_at")} as created_at
         from refunds r where payment_id = x.id order by r.created_at, r.id"""
)

_USER: Final = f"id, email, name, role, kyc_level, country, {time_text('x.created_at')} as created_at"
_COVER: Final = """case when x.cover is not null then json_build_object({}) end""".replace(
    "{}",
    ", ".join(
        f"'{int(width)}', '/v1/campaigns/' || x.id || '/cover?width={int(width)}&version=' || x.cover"
        for width in CoverWidth
    ),
)
"""Where the cover is, as `domain.cover.cover_urls` says."""
CAMPAIGN: Final = f"""x.id, x.slug, x.owner_id, x.title, x.description, x.kind, x.status, {_money("goal_minor")} as goal,
    {_money("cap_minor")} as cap, {_money("min_ticket_minor")} as min_ticket,
    case when x.max_per_investor_minor > 0 then {_money("max_per_investor_minor")} end as max_per_investor,
    {_money("pledged_minor")} as pledged, {_money("held_minor")} as held, {_money("captured_minor")} as captured,
    x.profit_share_bps, x.success_floor_bps, x.waiting_seconds, x.close_when_funded, x.min_kyc_level, x.countries,
    x.milestones, x.platform_fee_bps, x.profit_until,
    x.category, x.country, {_COVER} as cover,
    {time_text("x.go_live_at")} as go_live_at, {time_text("x.deadline_at")} as deadline_at, x.deadline_extensions,
    {time_text("x.verified_at")} as verified_at, x.blocked_reason, {time_text("x.next_action_at")} as next_action_at,
    {_workflow("campaign", "x")} as workflow_id, {time_text("x.created_at")} as created_at"""
FEED: Final = """{f}.investors, {f}.progress_bps, (select row_to_json(s) from (select {f}.score as total,
    (select row_to_json(p) from (select {f}.score_progress as progress, {f}.score_investors as investors,
        {f}.score_time_left as time_left, {f}.score_news as news) p) as parts) s) as score"""
"""What the feed knows of a campaign, as further columns of its document."""
SEEN: Final = "(campaign_public(x.status, x.go_live_at) or x.owner_id = u.id or u.role = 'admin')"
"""Whether the caller `u` may see campaign `x`; what is public, `domain.campaign.is_public` says too."""
_REVIEWS: Final = _list(
    f"""select {time_text("r.created_at")} as at, decision, note, reviewer_id
         from campaign_reviews r where r.campaign_id = x.id order by r.created_at, r.id"""
)
_WARNINGS: Final = _list(
    f"""select kind, {time_text("w.created_at")} as since
         from campaign_warnings w where w.campaign_id = x.id and w.cleared_at is null order by w.created_at, w.kind"""
)
_WARNING: Final = f"""x.id, x.campaign_id, x.title as campaign, x.owner_id, x.kind,
    {time_text("x.created_at")} as created_at"""
_WARNED: Final = """(select w.*, c.title, c.owner_id from campaign_warnings w
    join campaigns c on (c.tenant_id, c.mode, c.id) = (w.tenant_id, w.mode, w.campaign_id) where w.cleared_at is null)"""
_UPDATE: Final = f"id, campaign_id, author_id, title, body, {time_text('x.created_at')} as created_at"
_INVESTMENT: Final = f"""x.id, campaign_id, investor_id, payment_id, x.provider,
    {_money("amount_minor")} as amount, x.status, x.refund_to"""
_INVESTMENT_END: Final = f"{_workflow('investment', 'x')} as workflow_id, {time_text('x.created_at')} as created_at"
_PAYMENT: Final = f"""id, purpose, subject_id, provider, {_money("amount_minor")} as amount,
    {_money("captured_minor")} as captured, {_money("refunded_minor")} as refunded, status, error_code,
    {_NEXT_ACTION.format(p="x")}, {time_text("expires_at")} as expires_at, blocked_reason,
    {time_text("next_action_at")} as next_action_at,
    case when provider <> 'wallet' then {_workflow("payment", "x")} end as workflow_id,
    {time_text("x.created_at")} as created_at"""


def _one(
    columns: LiteralString,
    source: LiteralString,
    owner: LiteralString,
    seen: LiteralString = "true",
    *,
    key: LiteralString = "x.id",
) -> LiteralString:
    """The thing with the id (or other `key`) `$2`, from `source`, called `x` there (the caller is `u`), if it is `seen`."""
    return f"""select u.role, found.owner_id, 1 as rows, found.document from users u left join lateral (
        select {owner} as owner_id, (select row_to_json(d)::text from (select {columns}) d) as document
          from {source} where {key} = $2 and {seen}) found on true
        where u.id = $1 and u.disabled_at is null"""


_ME: Final = f"""select x.role, x.id as owner_id, 1 as rows, (select row_to_json(d)::text from (select {_USER}) d) as document
    from users x where x.id = $1 and x.disabled_at is null"""
_CAMPAIGN_READ: Final = (
    f"""{CAMPAIGN}, case when x.owner_id = u.id or u.role = 'admin' then {_REVIEWS} end as reviews,
        case when x.owner_id = u.id or u.role = 'admin' then {_WARNINGS} end as warnings, {_STORY} as timeline,
        {FEED.replace("{f}", "f")}""",
    "campaigns x join campaign_feed f on (f.tenant_id, f.mode, f.campaign_id) = (x.tenant_id, x.mode, x.id)",
    "x.owner_id",
    SEEN,
)
_ONE_CAMPAIGN: Final = _one(*_CAMPAIGN_READ)
_ONE_CAMPAIGN_BY_SLUG: Final = _one(*_CAMPAIGN_READ, key="x.slug")
_ONE_INVESTMENT: Final = _one(
    f"""{_INVESTMENT}, {_NEXT_ACTION.format(p="p")}, p.blocked_reason, {time_text("p.next_action_at")} as next_action_at,
        {_INVESTMENT_END}, {_STORY} as timeline""",
    "investments x join payments p on (p.tenant_id, p.mode, p.id) = (x.tenant_id, x.mode, x.payment_id)",
    "x.investor_id",
)
_ONE_PAYMENT: Final = _one(
    f"{_PAYMENT}, {_ATTEMPTS} as attempts, {_REFUNDS} as refunds, {_STORY} as timeline", "payments x", "x.payer_id"
)


def me() -> Question:
    """The caller."""
    return Question(_ME, ())


def campaign(id_or_slug: str) -> Question:
    """One campaign with its timeline. An id has an underscore, a slug never."""
    return Question(_ONE_CAMPAIGN if "_" in id_or_slug else _ONE_CAMPAIGN_BY_SLUG, (id_or_slug,))


def investment(investment_id: str) -> Question:
    """One investment with what its payment waits for, and its timeline."""
    return Question(_ONE_INVESTMENT, (investment_id,))


def payment(payment_id: str) -> Question:
    """One payment with its attempts, refunds and timeline."""
    return Question(_ONE_PAYMENT, (payment_id,))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a newest-first page begins and how long it is: after the row `before`, (created_at, id), if any."""

    before: tuple[datetime, str] | None
    limit: int


def campaign_updates(campaign_id: str, place: Place) -> Question:
    """A page of what a campaign's owner has told the investors."""
    return _page(_UPDATE, "campaign_updates", [("campaign_id", campaign_id)], place)


def warnings(*, kind: str | None, place: Place) -> Question:
    """A page of what campaigns' owners are warned of now."""
    return _page(_WARNING, _WARNED, [("kind", kind)], place)


def investments(*, investor_id: str | None, campaign_id: str | None, place: Place) -> Question:
    """A page of investments, of one investor, of one campaign, or both."""
    columns = f"""{_INVESTMENT}, null as next_action, null as blocked_reason, null as next_action_at, {_INVESTMENT_END},
        null as timeline"""
    return _page(columns, "investments", [("investor_id", investor_id), ("campaign_id", campaign_id)], place)


def payments(*, payer_id: str | None, purpose: str | None, place: Place) -> Question:
    """A page of payments, of one payer, for one purpose, or both."""
    columns = f"{_PAYMENT}, null as attempts, null as refunds, null as timeline"
    return _page(columns, "payments", [("payer_id", payer_id), ("purpose", purpose)], place)


def _page(
    columns: LiteralString,
    table: LiteralString,
    wanted: Sequence[tuple[LiteralString, str | None]],
    place: Place,
) -> Question:
    """A newest-first page. Only what is wanted stands in the statement, so each combination has the plan it needs."""
    conditions = tuple(column for column, value in wanted if value is not None)
    params = [value for _, value in wanted if value is not None]
    return Question(
        _page_query(columns, table, conditions, place.before is not None),
        (*params, *(place.before or ()), place.limit),
    )


@cache
def _page_query(
    columns: LiteralString,
    table: LiteralString,
    conditions: tuple[LiteralString, ...],
    later: bool,
) -> LiteralString:
    where = [f"{column} = ${number}" for number, column in enumerate(conditions, 2)]
    number = len(conditions) + 2
    if later:
        where.append(f"(x.created_at, x.id) < (${number}, ${number + 1})")
        number += 2
    rows = f"""select {columns} from {table} x {"where " + " and ".join(where) if where else ""}
        order by x.created_at desc, x.id desc limit ${number}"""
    return f"""select u.role, null as owner_id, found.rows, found.document from users u cross join lateral (
        select count(*) as rows, string_agg(row_to_json(p)::text, E'{SEPARATOR}') as document from ({rows}) p) found
        where u.id = $1 and u.disabled_at is null"""
