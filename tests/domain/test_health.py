"""When a campaign's owner is warned, and that no look between two that were named would have seen anything else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.campaign import CampaignStatus
from domain.health import Health, HealthWarning, is_watched, next_look, warnings

C, W = CampaignStatus, HealthWarning
BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALIVE = Health(
    status=C.LIVE, goal_minor=1_000, raised_minor=500, began_at=BEGAN, deadline_at=BEGAN + 40 * DAY,
    active_at=BEGAN + 19 * DAY, told_at=BEGAN + 10 * DAY,
)  # fmt: skip


@pytest.mark.parametrize(
    ("day", "changes", "expected"),
    [
        (19.9, {}, set()),
        (20, {}, set()),  # half the time, half the goal
        (20.1, {}, {W.LOW_RATE}),
        (20.1, {"raised_minor": 510}, set()),
        (5, {"raised_minor": 0, "active_at": BEGAN}, set()),  # a quarter of the time is not over
        (10.1, {"raised_minor": 0, "active_at": BEGAN + 9 * DAY}, {W.LOW_RATE}),
        (7, {"raised_minor": 0, "active_at": BEGAN}, {W.NO_ACTIVITY}),
        (26, {"raised_minor": 999}, {W.NO_ACTIVITY}),
        (26, {"raised_minor": 1_000}, set()),  # who has reached the goal need not hurry
        (36.9, {"raised_minor": 990, "active_at": BEGAN + 36 * DAY}, set()),
        (37, {"raised_minor": 990, "active_at": BEGAN + 36 * DAY}, {W.NEARLY_DUE}),
        (39, {"raised_minor": 1_200}, set()),
        (39.9, {"raised_minor": 0}, {W.NEARLY_DUE, W.LOW_RATE, W.NO_ACTIVITY}),
        (40, {"raised_minor": 0, "told_at": BEGAN}, set()),  # it is decided now
        (30, {"told_at": BEGAN, "raised_minor": 2_000}, {W.UPDATE_OVERDUE}),
        (39, {"status": C.PAUSED}, {W.NEARLY_DUE}),
        (39, {"status": C.WAITING_FUNDS}, set()),
        (99.9, {"status": C.FUNDED}, set()),
        (100, {"status": C.FUNDED}, {W.UPDATE_OVERDUE}),
        (100, {"status": C.SETTLING}, {W.UPDATE_OVERDUE}),
        (500, {"status": C.CLOSED_FAILED}, set()),
        (500, {"status": C.DRAFT}, set()),
    ],
)
def test_what_is_wrong_on_which_day(day: float, changes: dict[str, Any], expected: set[HealthWarning]) -> None:
    assert warnings(replace(ALIVE, **changes), as_of=BEGAN + day * DAY) == expected


def test_only_what_can_be_wrong_is_watched() -> None:
    for status in C:
        late = replace(ALIVE, status=status, raised_minor=0, deadline_at=BEGAN + 400 * DAY)
        assert is_watched(status) == bool(warnings(late, as_of=BEGAN + 399 * DAY)), status


minutes = st.integers(0, 60 * 24 * 150)


@given(
    status=st.sampled_from(C), goal=st.integers(1, 10**15), raised=st.integers(0, 2 * 10**15), lasts=minutes,
    active=minutes, told=minutes, now=minutes, part=st.integers(0, 999),
)  # fmt: skip
def test_nothing_changes_before_the_next_look(
    status: CampaignStatus, goal: int, raised: int, lasts: int, active: int, told: int, now: int, part: int
) -> None:
    def at(minute: int) -> datetime:
        return BEGAN + timedelta(minutes=minute)

    health = Health(status, goal, raised, BEGAN, at(lasts), at(active), at(told))
    as_of = at(now)
    look = next_look(health, as_of=as_of)
    later = as_of + (look - as_of) * part / 1000 if look else as_of + 300 * DAY * part / 1000
    assert look is None or look > as_of
    assert warnings(health, as_of=later) == warnings(health, as_of=as_of)
