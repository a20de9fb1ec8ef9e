"""What flows amount to. The yearly returns themselves: test_returns.py."""

from datetime import date, timedelta
from decimal import Decimal

from domain.dashboard import MAX_DAYS, Flow, performance

BEGAN, TODAY = date(2026, 1, 1), date(2027, 1, 1)


def flow(amount: int, *, on: date = BEGAN, capital: bool = True) -> Flow:
    return Flow("cmp_1", "NGN", on, amount, capital)


def test_what_is_invested_counts_as_given_back_today() -> None:
    found = performance([flow(-1_000), flow(100, on=TODAY, capital=False)], today=TODAY)
    assert (found.paid_in_minor, found.given_back_minor, found.earned_minor, found.invested_minor) == (
        1_000,
        0,
        100,
        1_000,
    )
    assert (found.multiple, found.total_return) == (Decimal("1.1"), Decimal("0.1"))
    assert found.yearly == Decimal("0.1"), "365 days"


def test_what_was_given_back_is_no_gain() -> None:
    found = performance([flow(-1_000), flow(1_000, on=TODAY)], today=TODAY)
    assert (found.given_back_minor, found.invested_minor, found.earned_minor) == (1_000, 0, 0)
    assert found.total_return == found.yearly == 0


def test_a_figure_that_does_not_exist_is_none() -> None:
    nothing = performance([], today=TODAY)
    assert (nothing.paid_in_minor, nothing.multiple, nothing.total_return, nothing.yearly) == (0, None, None, None)
    assert performance([flow(-1_000, on=TODAY)], today=TODAY).yearly is None, "no day between"
    lost = performance([flow(-1_000), flow(-500, on=BEGAN + timedelta(days=9))], today=BEGAN)
    assert lost.multiple == 1


def test_one_day_in_and_out_is_both() -> None:
    """Taken and given back on the same day: the sums are kept apart, or nothing would have been paid in."""
    earned = flow(130, on=TODAY, capital=False)
    found = performance([flow(-1_000), flow(1_000), flow(-300), earned], today=TODAY)
    assert (found.paid_in_minor, found.given_back_minor, found.invested_minor) == (1_300, 1_000, 300)
    assert found.multiple == Decimal("1.1"), "130 for 1,300 put in, not for 300"


def test_very_many_days_have_no_yearly_return() -> None:
    days = [flow(-1, on=BEGAN + timedelta(days=n)) for n in range(MAX_DAYS + 1)]
    assert performance(days, today=TODAY + timedelta(days=MAX_DAYS)).yearly is None
