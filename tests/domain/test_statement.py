"""Periods, balances, and the PDF that is drawn of them."""

import zlib
from datetime import UTC, date, datetime

import pytest

from api.statement_pdf import render
from domain.errors import InvalidRequest
from domain.statement import Holding, Movement, Period, Statement, Trade, said

Q1 = Period(date(2027, 1, 1), date(2027, 3, 31), "Africa/Lagos")
AT = datetime(2027, 2, 1, 9, tzinfo=UTC)


def statement(lines: int = 2) -> Statement:
    movements = [Movement(AT, "deposit_captured", f"attempt/{n}/capture", 500_000) for n in range(lines - 1)]
    return Statement(
        holder="Ọlájídé Ṣóyínká",
        institution="Ẹgbẹ́ Savers",
        currency="NGN",
        period=Q1,
        opening_minor=100,
        movements=[*movements, Movement(AT, "pledge_captured", "attempt/x/capture", -200_050)],
        trades=[Trade(AT, "investment_captured", "inv_1", "Mama Kemi Bakery", -200_050)],
        holdings=[Holding("cmp_1", "Mama Kemi Bakery", 200_050)],
    )


def test_a_period_is_whole_days_of_its_zone() -> None:
    assert Q1.begins_at.astimezone(UTC) == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert Q1.ends_at.astimezone(UTC) == datetime(2027, 3, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        (date(2027, 1, 2), date(2027, 1, 1), "to"),
        (date(2027, 1, 1), date(2028, 1, 2), "to"),
        (date(1960, 1, 1), date(1960, 2, 1), "from"),
        (date(9999, 12, 1), date(9999, 12, 31), "from"),
    ],
)
def test_a_period_has_bounds(first: date, last: date, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Period(first, last, "UTC")
    assert (refused.value.code, refused.value.field) == ("invalid_period", field)


def test_a_leap_year_and_its_next_day_fit() -> None:
    assert Period(date(2028, 1, 1), date(2028, 12, 31), "UTC").last == date(2028, 12, 31)


def test_the_closing_balance_is_the_last() -> None:
    found = statement(3)
    assert found.balances == [500_100, 1_000_100, 800_050]
    assert found.closing_minor == found.balances[-1]
    assert found.invested_minor == 200_050
    assert (said("pledge_captured"), said("pledge_returned")) == ("Investment", "Pledge returned")


def test_the_pdf_has_its_pages_and_embeds_its_fonts() -> None:
    short, long = (render(statement(lines), made_at=AT) for lines in (2, 200))
    assert short.startswith(b"%PDF-") and short.rstrip().endswith(b"%%EOF")
    assert short.count(b"/Type /Page\n") == 1 < long.count(b"/Type /Page\n")
    assert b"Roboto" in short and b"/FontFile2" in short
    assert render(statement(), made_at=AT) == short, "the same statement is the same file"
    assert zlib.crc32(long) != zlib.crc32(short)
