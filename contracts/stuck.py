"""What the monitor says: one message for the command line, the API and the metrics."""

from datetime import datetime

from contracts.base import Message
from domain.stuck import StuckKind


class Stuck(Message):
    """One thing that should move and does not.

    `subject` is its business id (`pay_…`), or for what has none its number or workflow id. `since`: when it stopped, as far
    as anybody knows (of a run on a test clock: business time). `code` is for machines, `why` and `do` are for people; none of
    them holds personal data. `tenant_id` and `mode` are None for a workflow that does not say whose it is.
    """

    kind: StuckKind
    subject: str
    tenant_id: str | None
    mode: str | None
    since: datetime | None
    code: str | None
    attempts: int | None
    why: str
    do: str
    workflow_id: str | None


class StuckReport(Message):
    """What one scan found, the longest stuck first. `counts` are whole even where the list of findings was cut short.

    `complete`: everything was looked at; False when the budget of workflows, rows or seconds ran out, or Temporal is down
    (`temporal`: `up` or `down`). `examined`: how many running workflows were looked at. `unread`: of these kinds there may be
    more, for a place where they are found did not answer in time.
    """

    at: datetime
    findings: tuple[Stuck, ...]
    counts: dict[StuckKind, int]
    examined: int
    complete: bool
    temporal: str
    unread: tuple[StuckKind, ...] = ()
