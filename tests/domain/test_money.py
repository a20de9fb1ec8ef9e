"""Money refuses what is not money; splits sum, stay within one unit of exact, and match the published figures."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import CURRENCIES, MAX_AMOUNT, InvalidMoney, Money, allocate, exponent, format_money

FIGURES = Path(__file__).parent.parent / "reference" / "allocation"


def figures(name: str) -> list[dict]:
    """Cases copied with their sources from the reference data (dinero.js, moneyphp; `derived` are exact rationals)."""
    return json.loads((FIGURES / f"{name}.json").read_text())["cases"]


@pytest.mark.parametrize("case", figures("ratio") + figures("profit_distribution_derived"), ids=lambda case: case["id"])
def test_published_splits(case: dict) -> None:
    assert allocate(case["input"]["minor_units"], case["input"]["ratios"]) == case["expected"]


@pytest.mark.parametrize("case", figures("error"), ids=lambda case: case["id"])
def test_published_refusals(case: dict) -> None:
    with pytest.raises(InvalidMoney):
        allocate(case["input"]["minor_units"], case["input"]["ratios"])


weights = st.lists(st.integers(0, 10**12), min_size=1, max_size=60).filter(any)


@given(st.integers(-(10**18), 10**18), weights)
def test_a_split_adds_up_and_is_within_one_unit(total: int, weights: list[int]) -> None:
    shares = allocate(total, weights)
    assert sum(shares) == total
    whole = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, whole)) < 1
        assert weight or not share


@given(st.integers(0, 10**15), weights, st.randoms())
def test_a_split_is_the_same_in_any_order(total: int, weights: list[int], random) -> None:
    shuffled = random.sample(weights, len(weights))
    assert sorted(zip(weights, allocate(total, weights), strict=True)) == sorted(
        zip(shuffled, allocate(total, shuffled), strict=True)
    )


def test_a_hundred_thousand_shares() -> None:
    weights = [1 + (i * 7919) % 1000 for i in range(100_000)]
    assert sum(allocate(123_456_789_012_347, weights)) == 123_456_789_012_347


@pytest.mark.parametrize("bad", [[], [0, 0], [1, -1], [True], [1.0]])
def test_weights_that_are_none(bad: list) -> None:
    with pytest.raises(InvalidMoney):
        allocate(10, bad)


def test_a_total_that_is_no_integer() -> None:
    with pytest.raises(InvalidMoney):
        allocate(10.0, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [1.0, True, "1", None, MAX_AMOUNT + 1, -MAX_AMOUNT - 1])
def test_amounts_that_are_not_money(amount: object) -> None:
    with pytest.raises(InvalidMoney):
        Money(amount, "NGN")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["", "ngn", "XXX", "XTS", "XAU", "DEM", "BTC", "ZZZ", None, 566])
def test_currencies_that_are_none(currency: object) -> None:
    with pytest.raises(InvalidMoney):
        Money(1, currency)  # type: ignore[arg-type]


def test_currencies_do_not_mix() -> None:
    for mix in (Money.__add__, Money.__sub__, Money.__lt__, Money.__le__, Money.__gt__, Money.__ge__):
        with pytest.raises(InvalidMoney):
            mix(Money(1, "NGN"), Money(1, "KES"))
    assert Money(1, "NGN") != Money(1, "KES")


def test_arithmetic() -> None:
    assert Money(5, "NGN") + Money(7, "NGN") == Money(12, "NGN")
    assert Money(5, "NGN") - Money(7, "NGN") == -Money(2, "NGN")
    assert Money(5, "NGN") < Money(7, "NGN") <= Money(7, "NGN") and Money(8, "NGN") > Money(7, "NGN") >= Money(7, "NGN")
    with pytest.raises(InvalidMoney):
        Money(MAX_AMOUNT, "NGN") + Money(1, "NGN")


def test_exponents() -> None:
    assert [exponent(code) for code in ("JPY", "XOF", "NGN", "KES", "USD", "KWD", "TND")] == [0, 0, 2, 2, 2, 3, 3]
    assert {exponent(code) for code in CURRENCIES} == {0, 2, 3}
    with pytest.raises(InvalidMoney):
        exponent("XXX")


def test_what_a_person_reads() -> None:
    assert format_money(500_000, "NGN") == "NGN5,000.00"
    assert format_money(500_000, "NGN", locale="en_NG") == "₦5,000.00"
    assert format_money(500, "JPY") == "¥500"
    assert format_money(-1_234_567, "KWD") == "-KWD1,234.567"
    assert format_money(123_456, "EUR", locale="de") == "1.234,56\u00a0€"
    assert format_money(MAX_AMOUNT, "NGN", locale="en_NG") == "₦90,071,992,547,409.91"
    assert str(Money(5, "KWD")) == "KWD 0.005"
