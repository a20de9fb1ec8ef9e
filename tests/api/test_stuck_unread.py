"""A kind that cannot be read in time hides no other, is not taken for none, and is named."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from rich.console import Console

from api.stuck import QUICK, scan
from api.watch import COMPLETE, OLDEST, STUCK, UNREAD, publish
from cli.stuck import show
from contracts.base import Scope
from contracts.stuck import Stuck, StuckReport
from domain.stuck import StuckKind
from infra.database import Database
from infra.delivery import TemporalLink
from tests.fixtures.api import no_temporal
from tests.models.test_stuck_rows import HOUR, Planter

K = StuckKind
OF_PROCESSES = {K.TASK_FAILING, K.UNCLAIMED, K.ACTIVITY_RETRYING, K.OVERDUE}


@pytest.fixture
async def half_read(database: Database, owner_url: str, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> StuckReport:
    """What a scan found while somebody held the settlements, and Temporal was down."""
    monkeypatch.setattr("models.stuck._SECONDS", 1)
    plant = Planter(owner_url, scope)
    plant.message("late", HOUR)
    plant.payment(blocked_reason="unknown_outcome")
    plant.effect(f"attempt/ref-{plant.payment('started')}/start", "claimed", HOUR)
    with psycopg.connect(owner_url) as holder:
        holder.execute("lock table settlements in access exclusive mode")
        return await scan(TemporalLink(no_temporal), database, scope, QUICK)


def of(gauge: object, kind: StuckKind) -> float:
    return float(gauge.labels(kind)._value.get())  # type: ignore[attr-defined]


async def test_a_slow_kind_hides_no_other(half_read: StuckReport) -> None:
    assert half_read.counts == {K.MESSAGE_UNDELIVERED: 1, K.CALL_UNSETTLED: 1}
    assert set(half_read.unread) == {K.BLOCKED, *OF_PROCESSES} and not half_read.complete


async def test_what_was_not_read_keeps_its_number(half_read: StuckReport) -> None:
    now = datetime.now(UTC)
    blocked = Stuck(
        kind=K.BLOCKED, subject="pay_1", tenant_id=None, mode=None, since=now - timedelta(hours=2), code=None,
        attempts=None, why="", do="", workflow_id=None,
    )  # fmt: skip
    before = StuckReport(
        at=now, findings=(blocked,), counts={K.BLOCKED: 3, K.WEBHOOK_UNPROCESSED: 2}, examined=0, complete=True,
        temporal="up",
    )  # fmt: skip
    publish(before)
    publish(half_read)
    assert (of(STUCK, K.BLOCKED), of(OLDEST, K.BLOCKED)) == (3, 7200)
    assert of(STUCK, K.WEBHOOK_UNPROCESSED) == 0, "that was read: there is none any more"
    assert of(STUCK, K.MESSAGE_UNDELIVERED) == 1
    assert {kind for kind in K if of(UNREAD, kind)} == {K.BLOCKED, *OF_PROCESSES}
    assert COMPLETE._value.get() == 0
    publish(before)
    assert not any(of(UNREAD, kind) for kind in K)


@pytest.mark.parametrize("temporal", ["up", "down"])
async def test_the_command_names_what_it_could_not_read(half_read: StuckReport, temporal: str) -> None:
    console = Console(record=True, width=200)
    show(half_read.model_copy(update={"findings": (), "counts": {}, "temporal": temporal}), console)
    text = console.export_text()
    assert "Nothing is known to be stuck" not in text
    assert "blocked" in text and "overdue" in text
