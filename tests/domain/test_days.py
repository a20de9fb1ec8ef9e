"""Days of a time zone, as instants."""

from datetime import UTC, date, datetime

import pytest

from domain.days import begins_at, is_over_at


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


def test_a_day_begins_when_the_one_before_it_is_over() -> None:
    assert begins_at(date(2027, 3, 29), "Europe/Berlin") == is_over_at(date(2027, 3, 28), "Europe/Berlin")
