"""Transfers move what the legs move: per account and currency, no more and no less."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts import AccountKind, AccountSpec, InvalidPosting, Leg
from domain.transfers import pair_up


def account(name: str, currency: str) -> AccountSpec:
    return AccountSpec(f"{name}:{currency}", currency, AccountKind.LIABILITY, bounded=False)


@st.composite
def balanced(draw: st.DrawFn) -> list[Leg]:
    """Legs of one to three currencies, debits on `a…`, credits on `b…`, in any order."""
    legs = []
    for currency in draw(st.sets(st.sampled_from(("NGN", "KES", "USD")), min_size=1)):
        debits = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
        total = sum(debits)
        cuts = sorted(draw(st.sets(st.integers(1, total - 1), max_size=4))) if total > 1 else []
        credits = [high - low for low, high in zip([0, *cuts], [*cuts, total], strict=True)]
        legs += [Leg(account(f"a_{'xyz'[n % 3]}", currency), each) for n, each in enumerate(debits)]
        legs += [Leg(account(f"b_{'xyz'[n % 3]}", currency), -each) for n, each in enumerate(credits)]
    return draw(st.permutations(legs))


@given(legs=balanced())
def test_each_account_gets_its_legs(legs: list[Leg]) -> None:
    transfers = pair_up(legs)
    asked, moved = Counter[str](), Counter[str]()
    for leg in legs:
        asked[leg.account.code] += leg.amount_minor
    for debit, credit, amount in transfers:
        assert amount > 0 and debit.currency == credit.currency
        moved[debit.code] += amount
        moved[credit.code] -= amount
    assert moved == asked
    assert len(transfers) < len(legs)
    assert pair_up(legs) == transfers


@given(legs=balanced(), by=st.integers(1, 5))
def test_what_is_left_over_is_refused(legs: list[Leg], by: int) -> None:
    first = legs[0]
    crooked = [Leg(first.account, first.amount_minor + (by if first.amount_minor > 0 else -by)), *legs[1:]]
    with pytest.raises(InvalidPosting):
        pair_up(crooked)
