"""When a run may be declared and calculated, and what a schedule may be."""

from datetime import UTC, date, datetime

import pytest

from domain.campaign import CampaignStatus
from domain.distribution import InvalidTerms
from domain.distribution_run import CalculateOn, check_declaration, check_schedule, is_over_at

TODAY = date(2027, 4, 1)


@pytest.mark.parametrize(
    ("day", "zone", "over"),
    [
        (date(2027, 3, 31), "Africa/Lagos", datetime(2027, 3, 31, 23, tzinfo=UTC)),
        (date(2027, 3, 31), "UTC", datetime(2027, 4, 1, tzinfo=UTC)),
        (date(2027, 3, 27), "Europe/Berlin", datetime(2027, 3, 27, 23, tzinfo=UTC)),
        (date(2027, 3, 28), "Europe/Berlin", datetime(2027, 3, 28, 22, tzinfo=UTC)),
    ],
    ids=["Lagos", "UTC", "Berlin, winter", "Berlin, the day summer time begins"],
)
def test_a_day_is_over_at_midnight_of_its_zone(day: date, zone: str, over: datetime) -> None:
    assert is_over_at(day, zone) == over


@pytest.mark.parametrize(("day", "scheduled", "refused"), [(31, False, False), (1, False, True), (1, True, False)])
def test_only_a_schedule_waits_for_its_record_date(day: int, *, scheduled: bool, refused: bool) -> None:
    record_date = TODAY.replace(day=1) if day == 1 else date(2027, 3, 31)
    if refused:
        with pytest.raises(InvalidTerms) as error:
            check_declaration(CampaignStatus.FUNDED, record_date=record_date, today=TODAY, scheduled=scheduled)
        assert error.value.field == "record_date"
    else:
        check_declaration(CampaignStatus.FUNDED, record_date=record_date, today=TODAY, scheduled=scheduled)


@pytest.mark.parametrize(
    ("on", "milestone", "dry_run", "field"),
    [
        (None, None, True, None),
        (CalculateOn.RECORD_DATE, None, False, None),
        (CalculateOn.MILESTONE, 2, False, None),
        (CalculateOn.RECORD_DATE, None, True, "schedule"),
        (CalculateOn.MILESTONE, 1, True, "schedule"),
        (CalculateOn.MILESTONE, None, False, "schedule.milestone"),
        (CalculateOn.RECORD_DATE, 1, False, "schedule.milestone"),
        (CalculateOn.MILESTONE, 3, False, "schedule.milestone"),
    ],
)
def test_a_schedule_comes(on: CalculateOn | None, milestone: int | None, field: str | None, *, dry_run: bool) -> None:
    if field is None:
        check_schedule(on, milestone, dry_run=dry_run, milestones=2)
        return
    with pytest.raises(InvalidTerms) as error:
        check_schedule(on, milestone, dry_run=dry_run, milestones=2)
    assert error.value.field == field
