"""What the monitor makes of a running workflow, and how long each preset may retry."""

from datetime import UTC, datetime, timedelta

import pytest

from api.stuck import judge
from domain.stuck import FAILED_TASKS, STEPS, StuckKind
from infra.stuck import OpenWorkflow, PendingActivity, PendingTask, Waiting
from tests.architecture.source import functions, of
from workflows import options
from workflows.options import BATCH, CLOCK, GATEWAY, LEDGER, NOTIFY, Preset, patience

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
PRESETS = {"LEDGER": LEDGER, "GATEWAY": GATEWAY, "BATCH": BATCH, "NOTIFY": NOTIFY, "CLOCK": CLOCK}


def workflow(*, due: timedelta | None = None, kind: str = "PaymentWorkflow") -> OpenWorkflow:
    return OpenWorkflow("payment/t/test/p", "run", kind, "t", "test", "pay_1", NOW + due if due else None, NOW - HOUR)


def task(attempt: int, *, taken: bool = True, age: timedelta = SECOND) -> PendingTask:
    return PendingTask(attempt, taken, NOW - age, "unhandled_failure")


def activity(
    attempt: int, preset: Preset = LEDGER, *, age: timedelta = SECOND, taken: bool = True, failed_with: str = "X"
) -> PendingActivity:
    heartbeat = preset.get("heartbeat_timeout", timedelta(0))
    return PendingActivity(
        "check_attempt", attempt, taken, NOW - age, preset["start_to_close_timeout"], heartbeat, failed_with
    )


def kind_of(found: OpenWorkflow, waiting: Waiting, business_now: datetime | None = NOW) -> StuckKind | None:
    stuck = judge(found, waiting, NOW, business_now)
    return stuck.kind if stuck else None


@pytest.mark.parametrize(
    ("waiting", "due", "expected"),
    [
        (Waiting(None, ()), HOUR, None),
        (Waiting(None, ()), None, None),
        (Waiting(task(FAILED_TASKS), ()), None, None),
        (Waiting(task(FAILED_TASKS + 1), ()), None, StuckKind.TASK_FAILING),
        (Waiting(task(1, taken=False, age=59 * SECOND), ()), None, None),
        (Waiting(task(1, taken=False, age=61 * SECOND), ()), None, StuckKind.UNCLAIMED),
        (Waiting(None, (activity(1, taken=False, age=61 * SECOND),)), None, StuckKind.UNCLAIMED),
        (Waiting(None, (activity(1, BATCH, age=HOUR),)), HOUR, None),
        (Waiting(None, ()), -2 * timedelta(minutes=1), None),
        (Waiting(None, ()), -4 * timedelta(minutes=1), StuckKind.OVERDUE),
        (Waiting(None, (activity(9),)), -HOUR, StuckKind.ACTIVITY_RETRYING),
        (Waiting(task(9), (activity(9),)), -HOUR, StuckKind.TASK_FAILING),
    ],
)
def test_the_worst_of_a_workflow(waiting: Waiting, due: timedelta | None, expected: StuckKind | None) -> None:
    assert kind_of(workflow(due=due), waiting) is expected


def test_nobody_is_late_while_the_clock_moves_and_a_settlement_may_be_long() -> None:
    late, nothing = workflow(due=-4 * timedelta(minutes=1)), Waiting(None, ())
    assert kind_of(late, nothing, None) is None
    assert kind_of(late, nothing, NOW - HOUR) is None, "its tenant's clock stands before that"
    assert kind_of(workflow(due=-4 * timedelta(minutes=1), kind="SettlementWorkflow"), nothing) is None


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_has_a_patience_of_its_own(name: str) -> None:
    """At the limit it is patient; one attempt more, or too long after a first failure, is reported."""
    preset = PRESETS[name]
    allowed = patience(preset["start_to_close_timeout"], preset.get("heartbeat_timeout", timedelta(0)))
    assert allowed in [found for mine, found in options._PATIENCE if mine is preset]
    for attempt, age, expected in [
        (allowed.attempts, SECOND, None),
        (allowed.attempts + 1, SECOND, StuckKind.ACTIVITY_RETRYING),
        (2, allowed.lasting - SECOND, None),
        (2, allowed.lasting + SECOND, StuckKind.ACTIVITY_RETRYING),
        (1, allowed.lasting + SECOND, None),
    ]:
        waiting = Waiting(None, (activity(attempt, preset, age=age),))
        assert kind_of(workflow(), waiting) is expected, (name, attempt, age)


def test_no_two_presets_look_alike_to_the_monitor() -> None:
    keys = [(preset["start_to_close_timeout"], preset.get("heartbeat_timeout")) for preset in PRESETS.values()]
    assert len(set(keys)) == len(keys)
    declared = {name for name, value in vars(options).items() if isinstance(value, dict) and name.isupper()}
    assert declared == set(PRESETS), "a preset this test does not know has no patience"
    assert len(options._PATIENCE) == len(PRESETS)


def test_every_activity_is_described_in_plain_words() -> None:
    named = {
        each.name
        for source in of("activities")
        for each in functions(source.tree)
        if any("activity.defn" in ast_text for ast_text in map(_text, each.decorator_list))
    }
    assert named == set(STEPS)


def _text(node: object) -> str:
    import ast

    assert isinstance(node, ast.AST)
    return ast.unparse(node)
