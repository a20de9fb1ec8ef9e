"""Amounts in the providers' own units: one case per currency with a rule of its own, and nothing is ever rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.gateways import paystack_wire, stripe_wire
from activities.gateways.paystack_wire import PAYSTACK_CURRENCIES, paystack_amount
from activities.gateways.protocols import RailRejected
from activities.gateways.stripe_wire import STRIPE_UNITS, stripe_amount
from domain.money import exponent

ZERO_DECIMAL = ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
THREE_DECIMAL = ["BHD", "JOD", "KWD", "OMR", "TND"]
SEVEN_UNITS = {
    **dict.fromkeys(ZERO_DECIMAL, 7),
    **dict.fromkeys(THREE_DECIMAL, 7_000),
    **dict.fromkeys(["ISK", "UGX", "HUF", "TWD", "NGN", "USD", "EUR", "KES", "GHS", "ZAR"], 700),
}
"""Seven whole units of each currency, as Stripe counts them."""


@pytest.mark.parametrize("currency", SEVEN_UNITS)
def test_stripe_counts_seven_whole_units(currency: str) -> None:
    ours = 7 * 10 ** exponent(currency)
    assert stripe_amount(ours, currency) == SEVEN_UNITS[currency]
    assert stripe_wire.our_amount(SEVEN_UNITS[currency], currency) == ours


def test_every_rule_in_the_table_has_a_case() -> None:
    assert STRIPE_UNITS.keys() <= SEVEN_UNITS.keys()


@pytest.mark.parametrize("currency", THREE_DECIMAL)
def test_stripe_takes_three_decimals_only_in_tens(currency: str) -> None:
    assert stripe_amount(1_230, currency) == 1_230
    with pytest.raises(RailRejected, match="amount_not_expressible"):
        stripe_amount(1_234, currency)


@pytest.mark.parametrize("currency", ["ISK", "UGX"])
def test_stripe_takes_whole_units_only(currency: str) -> None:
    assert stripe_amount(5, currency) == 500
    assert stripe_wire.our_amount(550, currency) is None


@pytest.mark.parametrize("currency", sorted(PAYSTACK_CURRENCIES))
def test_paystack_counts_hundredths(currency: str) -> None:
    assert paystack_amount(7 * 10 ** exponent(currency), currency) == 700


def test_paystack_reads_a_franc_fraction_as_inexpressible() -> None:
    assert paystack_wire.our_amount(150, "XOF") is None
    assert paystack_wire.our_amount(100, "XOF") == 1


@pytest.mark.parametrize("convert", [stripe_amount, paystack_amount])
@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (0, "NGN", "amount_not_positive"),
        (-5, "NGN", "amount_not_positive"),
        (5, "QQQ", "currency_unsupported"),
        (5, "ngn", "currency_unsupported"),
    ],
)
def test_refuses_what_is_no_price(convert, amount: int, currency: str, code: str) -> None:
    with pytest.raises(RailRejected, match=code):
        convert(amount, currency)


def test_paystack_refuses_a_currency_it_does_not_settle() -> None:
    with pytest.raises(RailRejected, match="currency_unsupported"):
        paystack_amount(100, "EUR")


@given(st.integers(1, 2**53 - 1), st.sampled_from(sorted(SEVEN_UNITS)))
def test_there_and_back_is_the_same_or_refused(amount: int, currency: str) -> None:
    try:
        there = stripe_amount(amount, currency)
    except RailRejected as refused:
        assert refused.code == "amount_not_expressible"
        return
    assert stripe_wire.our_amount(there, currency) == amount
