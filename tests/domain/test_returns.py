"""XIRR is what the published figures say, is a root of its own definition, and is refused where there is none."""

import json
from datetime import date, timedelta
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.returns import HIGHEST_GROWTH, CashFlow, UndefinedReturn, multiple, total_return, xirr

FIGURES = Path(__file__).parent.parent / "reference" / "portfolio" / "money_weighted_return_xirr.json"
DAY = date(2027, 1, 1)
SCALE = 10**14
"""The published amounts have up to 14 decimals; a rate does not depend on the unit."""


def flows(*pairs: tuple[int, int]) -> list[CashFlow]:
    """(day, amount) → flows."""
    return [CashFlow(DAY + timedelta(days=day), amount) for day, amount in pairs]


def years(*amounts: int) -> list[CashFlow]:
    """One flow every 365 days."""
    return flows(*((365 * n, amount) for n, amount in enumerate(amounts)))


@pytest.mark.parametrize("case", json.loads(FIGURES.read_text())["cases"], ids=lambda case: case["id"])
def test_published_rates(case: dict) -> None:
    assert case["input"]["day_count"] == "ACTUAL/365"
    given = [
        (date.fromisoformat(each["date"]), Decimal(each["amount"]) * SCALE) for each in case["input"]["cash_flows"]
    ]
    assert all(amount == int(amount) for _, amount in given)
    found = xirr(CashFlow(on, int(amount)) for on, amount in given)
    assert abs(found - Decimal(case["expected"]["annual_rate"])) <= Decimal(str(case["expected"]["tolerance"]))


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (years(-100, 110), "0.1"),
        (years(-100, 0, 121), "0.1"),
        (years(100, -110), "0.1"),
        (years(-100, 100), "0"),
        (years(-100, 60, 60), "0.130662386292"),
        (years(-100, 50), "-0.5"),
        (years(-1_000_000, 1), "-0.999999"),
        (years(-1, 1_000_000), "999999"),
        (flows((0, -1000), (1, 1001)), "0.440251313430"),
        (flows((0, -50), (0, -50), (365, 70), (365, 40)), "0.1"),
        (flows((0, -100), (100, 7), (100, -7), (365, 110)), "0.1"),
    ],
)  # fmt: skip
def test_rates_that_are_known(given: list[CashFlow], rate: str) -> None:
    assert xirr(given) == Decimal(rate)


def test_of_several_rates_the_one_nearest_to_zero() -> None:
    """(1.1 - g)(1.5 - g)(2 - g) of a growth g: three roots, 10 %, 50 % and 100 %."""
    assert xirr(years(-1000, 4600, -6850, 3300)) == Decimal("0.1")
    # (0.6 - g)(1.9 - g): minus 40 % and 90 %, and ln 1.9 is the longer way from zero than ln 0.6.
    assert xirr(years(-100, 250, -114)) == Decimal("-0.4")


@pytest.mark.parametrize(
    "none",
    [
        [],
        years(-100),
        years(-100, -100),
        years(0, 100),
        flows((0, -100), (0, 150)),
        flows((0, -100), (365, 100), (365, -100)),
        flows((0, -100), (1, 150)),
        years(-100, 120, -100),
    ],
)
def test_flows_without_a_rate(none: list[CashFlow]) -> None:
    with pytest.raises(UndefinedReturn) as refused:
        xirr(none)
    assert refused.value.code == "undefined_return"


PAYMENTS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 10**15)), min_size=1, max_size=8)
RETURNS = st.lists(st.tuples(st.integers(430, 6000), st.integers(1, 10**15)), min_size=1, max_size=8)


@given(PAYMENTS, RETURNS, st.randoms())
def test_a_rate_is_the_root_of_its_definition(paid: list, back: list, random) -> None:
    """Money in, later money out: one root. A little above it the worth has one sign, a little below it the other."""
    given = flows(*((day, -amount) for day, amount in paid), *back)
    try:
        rate = xirr(random.sample(given, len(given)))
    except UndefinedReturn:
        highest = _worth(given, HIGHEST_GROWTH - 1) > 0
        assert highest == (_worth(given, 1 / HIGHEST_GROWTH - 1) > 0), "there is a root, and it was not found"
        return
    step = Decimal("1e-12")
    assert _worth(given, rate + step) < 0 < _worth(given, rate - step)


def _worth(given: list[CashFlow], rate: Decimal) -> Decimal:
    """The definition, day by day, with nothing clever. A rate of -1 stands for one just above it."""
    first = min(flow.on for flow in given)
    with localcontext() as context:
        context.prec = 60
        growth = max(1 + rate, Decimal("1e-30"))
        return sum(
            (flow.amount_minor / growth ** (Decimal((flow.on - first).days) / 365) for flow in given), Decimal(0)
        )


@given(PAYMENTS, RETURNS, st.integers(2, 1000))
def test_the_unit_does_not_matter(paid: list, back: list, unit: int) -> None:
    given = flows(*((day, -amount) for day, amount in paid), *back)
    larger = [CashFlow(flow.on, flow.amount_minor * unit) for flow in given]
    assert _rate(given) == _rate(larger)
    assert multiple(given) == multiple(larger)


def _rate(given: list[CashFlow]) -> Decimal | None:
    try:
        return xirr(given)
    except UndefinedReturn:
        return None


def test_multiple_and_total_return() -> None:
    given = flows((0, -100), (30, -60), (400, 50), (800, 150))
    assert (multiple(given), total_return(given)) == (Decimal("1.25"), Decimal("0.25"))
    assert (multiple(years(-300)), total_return(years(-300))) == (0, -1)
    assert total_return(years(-3, 1)) == Decimal("-0.666666666667")
    for nothing in ([], years(5)):
        with pytest.raises(UndefinedReturn):
            multiple(nothing)
