"""Campaigns' health, kept beside the feed: facts read for many at once, warnings opened and cleared, owners told.

One warning of a kind is open for a campaign at a time; it is told when it opens, once, and cleared when it is true no more.
No table classes here: the relay's process, which does this, loads none.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from contracts.base import Scope
from contracts.ids import derive_id, workflow_id
from contracts.inbox import NotificationTask
from contracts.outbox import OutboxKind, OutboxMessage
from contracts.visibility import MODE, TENANT, TaskQueue
from domain.campaign import CampaignStatus
from domain.health import Health, HealthWarning, is_watched, next_look, warnings
from infra.database import Tx
from models import outbox

_BATCH: Final = 1_000

_FACTS: Final = """
with clock as (
    select coalesce((select now_at from test_clocks), now()) as now_at
), wanted as (
    select unnest(%(ids)s::text[]) as campaign_id
    union
    select due.campaign_id from (
        select h.campaign_id from campaign_health h, clock where h.look_at <= clock.now_at
        order by h.look_at limit %(batch)s) due
)
select c.id, c.owner_id, c.title, c.status, c.currency, c.goal_minor, c.deadline_at,
    c.held_minor + c.captured_minor as raised_minor,
    c.pledged_minor + c.held_minor + c.captured_minor as committed_minor,
    coalesce(c.go_live_at, c.created_at) as began_at, clock.now_at,
    h.campaign_id is not null as known, h.committed_minor as seen_minor, h.active_at, h.look_at,
    (select max(u.created_at) from campaign_updates u where u.campaign_id = c.id) as told_at,
    array(select w.kind from campaign_warnings w where w.campaign_id = c.id and w.cleared_at is null) as open
from wanted join campaigns c on c.id = wanted.campaign_id cross join clock
    left join campaign_health h on h.campaign_id = c.id
"""
_KEEP: Final = """
insert into campaign_health (tenant_id, mode, campaign_id, committed_minor, active_at, look_at)
select %(tenant)s, %(mode)s, k.* from unnest(%(id)s::text[], %(committed)s::bigint[], %(active)s::timestamptz[],
    %(look)s::timestamptz[]) k
on conflict (tenant_id, mode, campaign_id) do update
    set committed_minor = excluded.committed_minor, active_at = excluded.active_at, look_at = excluded.look_at
"""
_CLEAR: Final = """
update campaign_warnings w set cleared_at = k.at
from unnest(%(id)s::text[], %(kind)s::text[], %(at)s::timestamptz[]) k(campaign_id, kind, at)
where w.campaign_id = k.campaign_id and w.kind = k.kind and w.cleared_at is null
"""
_OPEN: Final = """
insert into campaign_warnings (tenant_id, mode, id, campaign_id, kind, created_at)
select %(tenant)s, %(mode)s, k.* from unnest(%(id)s::text[], %(campaign)s::text[], %(kind)s::text[],
    %(at)s::timestamptz[]) k
on conflict do nothing returning id
"""
_TELL: Final = """
insert into notifications (tenant_id, mode, id, subject_id, user_id, template, params, status, created_at)
select %(tenant)s, %(mode)s, k.id, %(subject)s, k.user_id, k.template, k.params, 'queued', k.at
from unnest(%(id)s::text[], %(user)s::text[], %(template)s::text[], %(params)s::jsonb[], %(at)s::timestamptz[])
    k(id, user_id, template, params, at)
on conflict do nothing
"""


async def watch(tx: Tx, scope: Scope, changed: Sequence[str]) -> int:
    """Judge the campaigns that changed, and those for which it is time, in the transaction's scope; how many warnings
    were opened. The caller holds the tenant's feed, so nobody else is at it."""
    rows = await (await tx.execute(_FACTS, {"ids": list(changed), "batch": _BATCH})).fetchall()
    own = {"tenant": scope.tenant_id, "mode": str(scope.mode)}
    kept, cleared, opened = [], [], []
    for row in rows:
        judged = _judge(row)
        if judged is None:
            continue
        now_wrong, active_at, look_at = judged
        if (row["committed_minor"], active_at, look_at) != (row["seen_minor"], row["active_at"], row["look_at"]):
            kept.append((row["id"], row["committed_minor"], active_at, look_at))
        before = {HealthWarning(kind) for kind in row["open"]}
        cleared += [(row["id"], str(kind), row["now_at"]) for kind in sorted(before - now_wrong)]
        opened += [(row, kind) for kind in sorted(now_wrong - before)]
    if kept:
        await tx.execute(_KEEP, own | _columns(("id", "committed", "active", "look"), kept))
    if cleared:
        await tx.execute(_CLEAR, _columns(("id", "kind", "at"), cleared))
    return await _opened(tx, scope, own, opened) if opened else 0


def _judge(row: DictRow) -> tuple[frozenset[HealthWarning], datetime, datetime | None] | None:
    """What is wrong, when money last moved, and when to look again; None for one that is not and was never watched."""
    status = CampaignStatus(row["status"])
    moved = row["known"] and row["committed_minor"] != row["seen_minor"]
    if row["known"]:
        active_at = row["now_at"] if moved else row["active_at"]
    else:  # nobody has watched it: money that is there came at some time
        active_at = row["now_at"] if row["committed_minor"] else row["began_at"]
    if not is_watched(status):
        return (frozenset(), active_at, None) if row["known"] else None
    health = Health(
        status=status,
        goal_minor=row["goal_minor"],
        raised_minor=row["raised_minor"],
        began_at=row["began_at"],
        deadline_at=row["deadline_at"],
        active_at=active_at,
        told_at=row["told_at"] or row["began_at"],
    )
    return warnings(health, as_of=row["now_at"]), active_at, next_look(health, as_of=row["now_at"])


async def _opened(tx: Tx, scope: Scope, own: dict[str, Any], opened: Sequence[tuple[DictRow, HealthWarning]]) -> int:
    """Write the warnings down, and have their owners told: one process sends all of this round."""
    ids = {derive_id("wrn", scope, row["id"], kind, row["now_at"].isoformat()): (row, kind) for row, kind in opened}
    values = [(key, row["id"], str(kind), row["now_at"]) for key, (row, kind) in ids.items()]
    done = await tx.execute(_OPEN, own | _columns(("id", "campaign", "kind", "at"), values))
    new = [each["id"] for each in await done.fetchall()]
    if not new:
        return 0
    occasion = derive_id("hlt", scope, *sorted(new)[:1])
    messages = []
    for key in new:
        row, kind = ids[key]
        params = Jsonb({
            "campaign": row["title"], "amount_minor": row["raised_minor"], "currency": row["currency"],
            "deadline": f"{row['deadline_at']:%Y-%m-%d %H:%M} UTC",
        })  # fmt: skip
        messages.append((derive_id("ntf", scope, key), row["owner_id"], f"health_{kind}", params, row["now_at"]))
    texts = _columns(("id", "user", "template", "params", "at"), messages)
    await tx.execute(_TELL, own | {"subject": occasion} | texts)
    sending = workflow_id("notices", scope, occasion)
    message = OutboxMessage(
        id=0, scope=scope, order_key=sending, kind=OutboxKind.START, workflow_id=sending,
        workflow_type="NoticesWorkflow", task_queue=str(TaskQueue.MAIN),
        payload=NotificationTask(scope=scope, subject_id=occasion).model_dump(mode="json"),
        search_attributes={TENANT.name: str(scope.tenant_id), MODE.name: str(scope.mode)},
        static_summary="warnings about campaigns", request_id=occasion,
    )  # fmt: skip
    await outbox.enqueue(tx, message)
    return len(new)


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Rows as named columns, for `unnest`."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
