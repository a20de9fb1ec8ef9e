"""What people are told: written with the money, sent afterwards, once per (subject, template)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from contracts.ids import derive_id
from domain.investment import COMMITTED
from infra.database import Tx, fetch_one
from models.base import Scoped, insert, read_all

LEASE: Final = timedelta(seconds=10)
"""For so long a message is its sender's, who renews it while it works: a dead one's are taken up again after it."""
TRIES: Final = 12
"""So often a mail server may put a message off before it has failed: for some sixteen hours."""
_PAUSE: Final = timedelta(minutes=1)
_PAUSE_AT_MOST: Final = timedelta(hours=4)
"""After a message was put off for the first time; twice as long after each further one."""


class Notification(Scoped, table=True):
    """One message to one user. `params` hold ids and amounts, never personal data."""

    __tablename__: ClassVar[str] = "notifications"

    id: str = Field(primary_key=True)
    subject_id: str
    user_id: str
    template: str
    params: dict[str, Any] = Field(sa_column=Column(JSONB))
    status: str = "queued"
    tries: int = 0
    error_code: str | None = None
    created_at: datetime
    sent_at: datetime | None = None
    next_try_at: datetime | None = None
    """Real time; nobody touches the message before it: a sender has it, or it was put off. None: whoever comes next may."""


class Unsent(NamedTuple):
    """That messages about a subject are unsent: the oldest one's id, how long until one may be tried, and whether any was
    put off by a mail server: else there is no time for them now, or other senders have them."""

    oldest: str
    pause: timedelta
    put_off: bool


async def notify(
    tx: Tx,
    scope: Scope,
    *,
    subject_id: str,
    user_id: str,
    template: str,
    params: dict[str, Any],
    as_of: datetime,
    once: str = "",
) -> None:
    """Queue a message in the caller's transaction. The same subject, template and `once` is one message, ever."""
    row = Notification(
        tenant_id=scope.tenant_id,
        mode=scope.mode,
        id=derive_id("ntf", scope, subject_id, template, once),
        subject_id=subject_id,
        user_id=user_id,
        template=template,
        params=params,
        created_at=as_of,
    )
    await insert(tx, row, or_nothing=True)


_NOTIFY_MANY = """
insert into notifications (tenant_id, mode, id, subject_id, user_id, template, params, status, created_at)
select %s, %s, n.id, %s, n.user_id, %s, n.params, 'queued', %s
  from unnest(%s::text[], %s::text[], %s::jsonb[]) as n(id, user_id, params)
on conflict do nothing
"""


async def notify_many(
    tx: Tx,
    scope: Scope,
    *,
    subject_id: str,
    template: str,
    messages: Sequence[tuple[str, str, dict[str, Any]]],
    as_of: datetime,
) -> None:
    """As `notify`, for any number of messages, each as (user, `once`, params), in one statement."""
    ids = [derive_id("ntf", scope, subject_id, template, once) for _, once, _ in messages]
    users, params = [user for user, _, _ in messages], [Jsonb(each) for _, _, each in messages]
    values = (scope.tenant_id, str(scope.mode), subject_id, template, as_of, ids, users, params)
    await tx.execute(_NOTIFY_MANY, values)


_TO_INVESTORS = """
insert into notifications (tenant_id, mode, id, subject_id, user_id, template, params, status, created_at)
select tenant_id, mode,
       'ntf_' || substr(encode(sha256(convert_to(concat_ws('/', tenant_id, mode, %(subject)s::text, investor_id), 'utf8')),
                               'hex'), 1, 32),
       %(subject)s::text, investor_id, %(template)s::text,
       %(params)s::jsonb || jsonb_build_object('amount_minor', sum(amount_minor)::bigint, 'currency', min(currency)),
       'queued', %(as_of)s::timestamptz
from investments where campaign_id = %(campaign)s and status = any(%(counted)s) group by tenant_id, mode, investor_id
on conflict do nothing
"""


async def notify_investors(
    tx: Tx,
    *,
    campaign_id: str,
    subject_id: str,
    template: str,
    params: dict[str, Any],
    as_of: datetime,
) -> int:
    """Queue one message to everybody with a pledge that counts, in one statement; how many. Repeated, it adds none.

    The amount they read is all they have in the campaign, in minor units. `subject_id` stands for this one occasion.
    """
    values = {
        "subject": subject_id, "template": template, "params": Jsonb(params), "as_of": as_of, "campaign": campaign_id,
        "counted": [str(each) for each in COMMITTED],
    }  # fmt: skip
    return (await tx.execute(_TO_INVESTORS, values)).rowcount


async def claim_queued(tx: Tx, subject_id: str, limit: int) -> list[Notification]:
    """Lease so many of the messages about a subject that wait, the oldest, and return them.

    A message found `sending` after its lease was interrupted in between: it is sent again under the same Message-ID
    (RELIABILITY G9).
    """
    return await read_all(
        tx,
        Notification,
        # A subquery in the condition may be run once a row, and each time find the next ones: the limit would be none.
        """with waiting as materialized (
               select id from notifications where subject_id = %s and status in ('queued', 'sending')
                  and (next_try_at is null or next_try_at <= now())
               order by created_at, id limit %s for update skip locked)
           update notifications n set status = 'sending', next_try_at = now() + %s
             from waiting where n.id = waiting.id
           returning n.*""",
        (subject_id, limit, LEASE),
    )


async def renew_leases(tx: Tx, ids: Sequence[str]) -> None:
    """Their sender is still at work on these."""
    await tx.execute(
        "update notifications set next_try_at = now() + %s where id = any(%s) and status = 'sending'",
        (LEASE, list(ids)),
    )


async def release_queued(tx: Tx, ids: Sequence[str]) -> None:
    """Their sender gives these back untried: whoever comes next may send them."""
    await tx.execute(
        "update notifications set status = 'queued', next_try_at = null where id = any(%s) and status = 'sending'",
        (list(ids),),
    )


async def first_unsent(tx: Tx, subject_id: str) -> Unsent | None:
    """Whether messages about a subject are left, those included that another sender has."""
    row = await fetch_one(
        tx,
        """with unsent as (
               select id, created_at, status, tries, next_try_at from notifications
                where subject_id = %(subject)s and status in ('queued', 'sending'))
           select (select id from unsent order by created_at, id limit 1) as oldest,
                  greatest(min(coalesce(next_try_at, now())) - now(), interval '0') as pause,
                  bool_or(status = 'queued' and tries > 0) as put_off
             from unsent having count(*) > 0""",
        {"subject": subject_id},
    )
    return Unsent(**row) if row else None


async def any_queued(tx: Tx, subject_id: str) -> bool:
    """Whether messages about a subject may be tried now: nobody has sent them, put them off, or is about to send them."""
    query = """select 1 from notifications where subject_id = %s and status in ('queued', 'sending')
                  and (next_try_at is null or next_try_at <= now()) limit 1"""
    return await (await tx.execute(query, (subject_id,))).fetchone() is not None


async def settle_notification(tx: Tx, notification_id: str, *, sent: bool, error_code: str | None = None) -> None:
    """Sent, or failed for good."""
    await tx.execute(
        """update notifications set status = %s, error_code = %s, tries = tries + 1, next_try_at = null,
                  sent_at = case when %s then now() end where id = %s""",
        ("sent" if sent else "failed", error_code, sent, notification_id),
    )


async def put_off(tx: Tx, notification_id: str, code: str) -> bool:
    """The mail server did not take it now: it is tried again later, or has failed by now. Whether it is tried again."""
    row = await fetch_one(
        tx,
        """update notifications set error_code = %(code)s, tries = tries + 1,
                  status = case when tries + 1 < %(tries)s then 'queued' else 'failed' end,
                  next_try_at = case when tries + 1 < %(tries)s
                                     then now() + least(%(pause)s * power(2, least(tries, 20)), %(most)s) end
            where id = %(id)s returning status""",
        {"id": notification_id, "code": code, "tries": TRIES, "pause": _PAUSE, "most": _PAUSE_AT_MOST},
    )
    return row is not None and row["status"] == "queued"
