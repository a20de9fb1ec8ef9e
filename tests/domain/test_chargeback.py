"""Whose a returned unit is when a bank took some of its holder's pledges back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts import escrow
from domain.allocation import split
from domain.chargeback import Part, divide, pledge_charged_back
from domain.money import Money

PARTS = st.lists(st.tuples(st.integers(1, 10**9), st.booleans()), min_size=1, max_size=6).map(
    lambda drawn: [Part(f"inv_{n}", "stripe", amount, back) for n, (amount, back) in enumerate(drawn)]
)


@given(st.integers(0, 10**12), PARTS)
def test_each_unit_is_the_holders_or_a_providers(share: int, parts: list[Part]) -> None:
    kept, lost = divide(share, parts)
    shares = split(share, {each.investment_id: each.amount_minor for each in parts})
    assert kept + sum(minor for _, minor in lost) == share
    assert kept == sum(shares[each.investment_id] for each in parts if not each.charged_back)
    assert {each.investment_id: minor for each, minor in lost} == {
        each.investment_id: shares[each.investment_id]
        for each in parts
        if each.charged_back and shares[each.investment_id]
    }


@pytest.mark.parametrize(("provider", "account"), [("stripe", "provider:stripe:NGN"), ("wallet", "suspense:NGN")])
def test_it_leaves_against_whoever_lost_it(provider: str, account: str) -> None:
    posting = pledge_charged_back(
        "k", source=escrow("cmp_1", "NGN"), provider=provider, amount=Money(700, "NGN"), as_of=datetime.now(UTC)
    )
    assert [(leg.account.code, leg.amount_minor) for leg in posting.legs] == [
        ("escrow:cmp_1:NGN", 700),
        (account, -700),
    ]
