"""When a run may be declared and calculated, and what a schedule may be."""

from datetime import date, timedelta

import pytest

from domain.campaign import CampaignStatus
from domain.distribution import InvalidTerms
from domain.distribution_run import CalculateOn, check_declaration, check_profit_until, check_schedule
from domain.errors import InvalidRequest

TODAY = date(2027, 4, 1)


def test_a_record_date_is_over_before_a_run_is_declared_by_hand() -> None:
    check_declaration(CampaignStatus.FUNDED, record_date=TODAY - timedelta(days=1), today=TODAY, scheduled=False)
    with pytest.raises(InvalidTerms) as error:
        check_declaration(CampaignStatus.FUNDED, record_date=TODAY, today=TODAY, scheduled=False)
    assert error.value.field == "record_date"


def test_a_schedule_waits_for_its_record_date() -> None:
    check_declaration(CampaignStatus.FUNDED, record_date=TODAY, today=TODAY, scheduled=True)


def test_nothing_is_promised_for_a_day_that_no_calendar_has_a_morrow_of() -> None:
    farthest = TODAY + timedelta(days=3_650)
    check_declaration(CampaignStatus.FUNDED, record_date=farthest, today=TODAY, scheduled=True)
    check_profit_until(farthest, TODAY)
    for day in (farthest + timedelta(days=1), date.max):
        with pytest.raises(InvalidTerms) as refused:
            check_declaration(CampaignStatus.FUNDED, record_date=day, today=TODAY, scheduled=True)
        assert refused.value.field == "record_date"
    for day in (TODAY, farthest + timedelta(days=1), date.max):
        with pytest.raises(InvalidRequest) as error:
            check_profit_until(day, TODAY)
        assert (error.value.code, error.value.field) == ("invalid_profit_until", "profit_until")


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
