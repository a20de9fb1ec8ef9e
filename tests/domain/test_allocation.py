"""A split among ids is exact, takes no notice of order, and gives nobody less for holding more."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.allocation import RemainderRule, split
from domain.money import InvalidMoney

FIGURES = Path(__file__).parent.parent / "reference" / "allocation"
POTS = st.integers(-(10**15), 10**15)
WEIGHTS = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 10**12), min_size=1, max_size=60).filter(
    lambda weights: any(weights.values())
)
CROWDED = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 3), min_size=1, max_size=60).filter(
    lambda weights: any(weights.values())
)
"""Few different weights: nearly every remainder is a tie."""


def figures(name: str) -> list[dict]:
    return json.loads((FIGURES / f"{name}.json").read_text())["cases"]


def by_position(ratios: list[int]) -> dict[str, int]:
    """The reference breaks ties by position: ids in the same order."""
    return {f"{position:03}": ratio for position, ratio in enumerate(ratios)}


@pytest.mark.parametrize("case", figures("ratio") + figures("profit_distribution_derived"), ids=lambda case: case["id"])
def test_published_splits(case: dict) -> None:
    assert list(split(case["input"]["minor_units"], by_position(case["input"]["ratios"])).values()) == case["expected"]


@pytest.mark.parametrize("case", figures("error"), ids=lambda case: case["id"])
def test_published_refusals(case: dict) -> None:
    with pytest.raises(InvalidMoney):
        split(case["input"]["minor_units"], by_position(case["input"]["ratios"]))


def test_all_zero_is_refused() -> None:
    with pytest.raises(InvalidMoney):
        split(10, {"a": 0, "b": 0})


@given(POTS, WEIGHTS | CROWDED)
def test_sums_exactly_and_is_within_one_unit(pot: int, weights: dict[str, int]) -> None:
    shares = split(pot, weights)
    assert sum(shares.values()) == pot and shares.keys() == weights.keys()
    whole = sum(weights.values())
    for each, weight in weights.items():
        assert abs(shares[each] - Fraction(pot * weight, whole)) < 1
        assert weight or not shares[each]


@given(POTS, WEIGHTS | CROWDED, st.randoms())
def test_order_does_not_matter(pot: int, weights: dict[str, int], random) -> None:
    """Each id gets the same, not only the same shares to somebody."""
    shuffled = dict(random.sample(list(weights.items()), len(weights)))
    assert list(split(pot, weights).items()) == list(split(pot, shuffled).items())


@given(POTS, CROWDED)
def test_more_weight_is_never_less_share(pot: int, weights: dict[str, int]) -> None:
    shares = split(pot, weights)
    by_weight = sorted(weights, key=lambda each: weights[each])
    direction = -1 if pot < 0 else 1
    for lighter, heavier in pairwise(by_weight):
        if weights[lighter] < weights[heavier]:
            assert direction * shares[lighter] <= direction * shares[heavier]


def test_ties_go_to_the_lower_id() -> None:
    assert RemainderRule.LARGEST_REMAINDER_BY_ID == "largest_remainder_by_id"
    assert split(5, {"c": 1, "a": 1, "b": 1}) == {"a": 2, "b": 2, "c": 1}
    assert split(-5, {"c": 1, "a": 1, "b": 1}) == {"a": -1, "b": -2, "c": -2}
    assert split(1, {"Z": 1, "a": 1}) == {"Z": 1, "a": 0}, "by code point: capitals come first"


@settings(max_examples=12, deadline=None)
@given(POTS, st.integers(1, 100_000), st.integers(1, 10**12), st.randoms(use_true_random=False))
def test_up_to_a_hundred_thousand_shares(pot: int, count: int, most: int, random: Random) -> None:
    """Any pot over any number of holders: exact, and the same to each in whatever order they come."""
    weights = {f"inv_{n:06}": random.randint(0, most) for n in range(count)} | {"inv": most}
    shares = split(pot, weights)
    assert sum(shares.values()) == pot
    others = list(weights.items())
    random.shuffle(others)
    assert split(pot, dict(others)) == shares


@pytest.mark.parametrize("pot", [123_456_789_012_347, -99_999])
def test_a_hundred_thousand_shares(pot: int) -> None:
    weights = {f"inv_{n:06}": (n * 7919) % 1000 for n in range(100_000)}
    shares = split(pot, weights)
    assert sum(shares.values()) == pot
    assert all(weights[each] or not share for each, share in shares.items())


@given(POTS, st.integers(0, 10**12).filter(bool))
def test_one_holder_gets_all_of_it(pot: int, weight: int) -> None:
    assert split(pot, {"only": weight}) == {"only": pot}
