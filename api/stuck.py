"""The monitor: nothing is silently stuck (RELIABILITY D7). One scan, three faces: `chama stuck`, the API, the metrics.

It reads both sides. Temporal says which processes run and what they wait for; the rows say what should have happened, also
where no process runs any more. A scan is bounded in workflows, rows and seconds, and says when it could not see everything.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from temporalio.client import Client
from temporalio.service import RPCError

from contracts.base import Mode, Scope
from contracts.ids import workflow_id
from contracts.stuck import Stuck, StuckReport
from domain.stuck import (
    BLOCKED_DO,
    DO,
    FAILED_TASKS,
    LATE,
    LATE_SETTLEMENT,
    UNCLAIMED_AFTER,
    StuckKind,
    reason,
    step,
)
from infra.database import Database
from infra.delivery import TemporalDown, TemporalLink
from infra.stuck import OpenWorkflow, PendingActivity, PendingTask, Waiting, open_workflows, waiting_for
from models.stuck import ROW_KINDS, StuckRow, clocks, stuck_rows
from workflows.options import patience

_AT_ONCE: Final = 16
_OF_PROCESSES: Final = frozenset(
    {StuckKind.TASK_FAILING, StuckKind.UNCLAIMED, StuckKind.ACTIVITY_RETRYING, StuckKind.OVERDUE}
)
_MARGINS: Final = {"SettlementWorkflow": LATE_SETTLEMENT}

Clocks = dict[tuple[str, str], datetime | None]
"""(tenant, mode) → where its test clock stands; None while it moves."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a scan may cost: workflows looked at, findings of one kind, seconds of asking Temporal."""

    workflows: int
    findings: int
    seconds: int


async def scan(link: TemporalLink, database: Database, scope: Scope | None, budget: Budget) -> StuckReport:
    """Look at everything of `scope` once; without a scope at everything, for which `database` needs the audit role.

    Temporal being down is part of the answer. Raises psycopg's and the pool's errors when the database is down.
    """
    now = datetime.now(UTC)
    async with database.transaction(scope) as tx:
        times = await clocks(tx)
    processes, examined, whole, up = await _processes(link, scope, times, now, budget)
    rows, unread = await _rows(database, scope, budget)
    if not up or (not whole and examined < budget.workflows):
        unread |= _OF_PROCESSES
    known = {each.subject for each in processes}
    kept = [row for row in rows if row.kind is not StuckKind.OVERDUE or row.subject not in known]
    counts = Counter(each.kind for each in processes)
    counts.update(_beyond_the_list(rows, kept))
    findings = [*processes, *map(_row, kept)]
    return StuckReport(
        at=now,
        findings=tuple(sorted(findings, key=lambda each: (each.since or now, each.subject))),
        counts=dict(counts),
        examined=examined,
        complete=whole and up and not unread,
        temporal="up" if up else "down",
        unread=tuple(sorted(unread)),
    )


async def _rows(database: Database, scope: Scope | None, budget: Budget) -> tuple[list[StuckRow], set[StuckKind]]:
    """What the rows tell, and the kinds of which they did not in time. Each kind by itself: a slow one hides no other."""
    rows: list[StuckRow] = []
    unread: set[StuckKind] = set()
    for kind in ROW_KINDS:
        try:
            async with database.transaction(scope) as tx:
                rows += await stuck_rows(tx, kind, limit=budget.findings)
        except psycopg.errors.QueryCanceled:
            unread.add(kind)
    return rows, unread


def _beyond_the_list(rows: list[StuckRow], kept: list[StuckRow]) -> Counter[StuckKind]:
    """How many of each kind there are in the rows, those beyond the listed ones too."""
    counts = Counter(row.kind for row in kept)
    totals = {row.kind: row.total for row in rows}
    listed = Counter(row.kind for row in rows)
    counts.update({kind: total - listed[kind] for kind, total in totals.items()})
    return counts


async def _processes(
    link: TemporalLink, scope: Scope | None, times: Clocks, now: datetime, budget: Budget
) -> tuple[list[Stuck], int, bool, bool]:
    """What is stuck among the running workflows, how many were looked at, whether those were all, and whether Temporal is
    up."""
    findings: list[Stuck] = []
    examined = 0
    try:
        client = await link.client()
        async with asyncio.timeout(budget.seconds):
            batch: list[OpenWorkflow] = []
            async for each in open_workflows(client, scope, now=now, limit=budget.workflows + 1):
                if examined + len(batch) == budget.workflows:
                    return [*findings, *await _judge(client, batch, times, now)], budget.workflows, False, True
                batch.append(each)
                if len(batch) == _AT_ONCE:
                    findings += await _judge(client, batch, times, now)
                    examined, batch = examined + len(batch), []
            findings += await _judge(client, batch, times, now)
    except TimeoutError:
        return findings, examined, False, True
    except (TemporalDown, RPCError):
        return findings, examined, False, False
    return findings, examined + len(batch), True, True


async def _judge(client: Client, batch: Iterable[OpenWorkflow], times: Clocks, now: datetime) -> list[Stuck]:
    async def one(workflow: OpenWorkflow) -> Stuck | None:
        waiting = await waiting_for(client, workflow, failing=FAILED_TASKS)
        return None if waiting is None else judge(workflow, waiting, now, _business_now(workflow, times, now))

    return [found for found in await asyncio.gather(*map(one, batch)) if found is not None]


def _business_now(workflow: OpenWorkflow, times: Clocks, now: datetime) -> datetime | None:
    """The tenant's business time; None while its clock moves, when nobody is late."""
    return times.get((workflow.tenant_id or "", workflow.mode or ""), now)


def judge(workflow: OpenWorkflow, waiting: Waiting, now: datetime, business_now: datetime | None) -> Stuck | None:
    """The one thing most wrong with a running workflow, or None. A cause goes before its effects."""
    task = waiting.task
    if task is not None and task.attempt > FAILED_TASKS:
        return _failing(workflow, task)
    impatient = [each for each in waiting.activities if _beyond_its_class(each, now)]
    if impatient:
        return _retrying(workflow, max(impatient, key=lambda each: each.attempt), len(impatient))
    unclaimed = task is not None and not task.taken and now - task.since > UNCLAIMED_AFTER
    idle = [each for each in waiting.activities if _unclaimed(each, now)]
    if unclaimed or idle:
        since = task.since if task is not None and unclaimed else idle[0].since
        return _finding(StuckKind.UNCLAIMED, workflow, since, "Its next step is on offer, and no worker takes it.")
    late = _MARGINS.get(workflow.kind, LATE)
    at = workflow.next_action_at
    if at is not None and business_now is not None and at < business_now - late:
        why = f"It should have acted by itself at {at:%Y-%m-%d %H:%M} UTC, and has not."
        return _finding(StuckKind.OVERDUE, workflow, at, why)
    return None


def _beyond_its_class(activity: PendingActivity, now: datetime) -> bool:
    allowed = patience(activity.start_to_close, activity.heartbeat)
    long = activity.attempt > 1 and activity.since is not None and now - activity.since > allowed.lasting
    return activity.attempt > allowed.attempts or long


def _unclaimed(activity: PendingActivity, now: datetime) -> bool:
    first = activity.attempt == 1 and not activity.taken
    return first and activity.since is not None and now - activity.since > UNCLAIMED_AFTER


def _failing(workflow: OpenWorkflow, task: PendingTask) -> Stuck:
    why = (
        f"Its own code has failed {task.attempt - 1} times in a row: {reason(task.failed_with)}. Until that is mended it can "
        "do nothing, and hears nothing."
    )
    return _finding(StuckKind.TASK_FAILING, workflow, task.since, why, task.failed_with, task.attempt - 1)


def _retrying(workflow: OpenWorkflow, activity: PendingActivity, many: int) -> Stuck:
    others = f" (and {many - 1} more like it)" if many > 1 else ""
    why = (
        f"{step(activity.name)[0].upper()}{step(activity.name)[1:]} has failed {activity.attempt - 1} times{others}: "
        f"{reason(activity.failed_with)}. The process waits for it; no state has changed meanwhile."
    )
    kind = StuckKind.ACTIVITY_RETRYING
    return _finding(kind, workflow, activity.since, why, activity.failed_with, activity.attempt - 1)


def _finding(
    kind: StuckKind,
    workflow: OpenWorkflow,
    since: datetime | None,
    why: str,
    code: str | None = None,
    attempts: int = 0,
) -> Stuck:
    return Stuck(
        kind=kind,
        subject=workflow.entity or workflow.workflow_id,
        tenant_id=workflow.tenant_id,
        mode=workflow.mode,
        since=since,
        code=code,
        attempts=attempts or None,
        why=why,
        do=DO[kind],
        workflow_id=workflow.workflow_id,
    )


def _row(row: StuckRow) -> Stuck:
    """A row's finding in words."""
    scope = Scope(tenant_id=row.tenant_id, mode=Mode(row.mode))
    found = row.workflow_id
    if row.kind in (StuckKind.BLOCKED, StuckKind.OVERDUE):
        found = workflow_id(row.noun, scope, row.subject)
    blocked = BLOCKED_DO.get(row.code or "") if row.kind is StuckKind.BLOCKED else None
    return Stuck(
        kind=row.kind,
        subject=row.subject,
        tenant_id=row.tenant_id,
        mode=row.mode,
        since=row.since,
        code=row.code,
        attempts=row.attempts,
        why=_why(row),
        do=(blocked or DO[row.kind]).replace("{id}", row.subject),
        workflow_id=found,
    )


def _why(row: StuckRow) -> str:
    tried = f"tried {row.attempts} times" if row.attempts else "never tried"
    match row.kind:
        case StuckKind.MESSAGE_UNDELIVERED:
            return (
                f"A message to its workflow waits since then, {tried}: {reason(row.code)}. Later ones wait behind it."
            )
        case StuckKind.WEBHOOK_UNPROCESSED:
            return f"The provider's event is stored and not worked on, {tried}: {reason(row.code)}."
        case StuckKind.CALL_UNSETTLED:
            return f"We asked the provider ({row.noun}) and still do not know what came of it, {tried}: {reason(row.code)}."
        case StuckKind.BLOCKED:
            return f"The {row.noun} cannot go on by itself: {reason(row.code)}."
        case _:
            at = f"{row.since:%Y-%m-%d %H:%M} UTC"
            return f"The {row.noun} ({row.code}) should have acted by itself at {at}, and no running process of its is late."


FULL: Final = Budget(workflows=20_000, findings=500, seconds=120)
"""For a person at the terminal, who can wait."""
QUICK: Final = Budget(workflows=500, findings=100, seconds=5)
"""For a request: one tenant's suspicious workflows, soon."""
REGULAR: Final = Budget(workflows=1_000, findings=100, seconds=20)
"""For the monitor that runs all the time."""
EVERY: Final = timedelta(seconds=15)
"""Between two scans of the relay: with the server's own delays this keeps every kind within a minute of being seen."""
