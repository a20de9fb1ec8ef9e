"""A run's lines are exact, whatever the terms, and nothing that is not paid is lost from one run to the next."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.distribution import (
    Calculation,
    DistributionTerms,
    Holding,
    InvalidTerms,
    Line,
    ShareRule,
    calculate,
    weight,
)
from domain.errors import Conflict
from domain.money import MAX_AMOUNT, InvalidMoney, Rounding, portion

START, END = date(2027, 1, 1), date(2027, 3, 31)
LAGOS = ZoneInfo("Africa/Lagos")


def terms(**changes: object) -> DistributionTerms:
    """A plain quarter: everything declared is shared by amount, nothing is taken of it."""
    plain = DistributionTerms(
        currency="NGN", declared_profit_minor=1_000, profit_share_bps=10_000, share_rounding=Rounding.FLOOR,
        rule=ShareRule.BY_AMOUNT, period_start=START, period_end=END, record_date=END, zone="Africa/Lagos",
        tax_bps=0, tax_rounding=Rounding.HALF_EVEN, platform_fee_bps=0, platform_fee_rounding=Rounding.FLOOR,
        provider_fee_minor=0, minimum_payout_minor=0,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def local(day: date, hour: int = 12, minute: int = 0, zone: ZoneInfo = LAGOS) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)


def held(holder: str, amount: int, since: date = START, until: date | None = None) -> Holding:
    return Holding(holder, amount, local(since), local(until) if until else None)


def shares(run: Calculation) -> dict[str, int]:
    return {line.holder_id: line.share_minor for line in run.lines}


# Rates


@pytest.mark.parametrize(
    ("amount", "bps", "floor", "half_even"),
    [
        (100, 5_000, 50, 50), (1, 5_000, 0, 0), (3, 5_000, 1, 2), (5, 5_000, 2, 2), (7, 5_000, 3, 4),
        (150, 3_333, 49, 50), (149, 3_333, 49, 50), (1, 4_999, 0, 0), (1, 5_001, 0, 1), (0, 9_999, 0, 0),
        (7, 0, 0, 0), (7, 10_000, 7, 7), (-1, 5_000, -1, 0), (-3, 5_000, -2, -2), (-150, 3_333, -50, -50),
        (MAX_AMOUNT, 9_999, 9_006_298_534_815_516, 9_006_298_534_815_517),
    ],
)  # fmt: skip
def test_portions(amount: int, bps: int, floor: int, half_even: int) -> None:
    assert portion(amount, bps, Rounding.FLOOR) == floor
    assert portion(amount, bps, Rounding.HALF_EVEN) == half_even


@given(st.integers(-(10**18), 10**18), st.integers(0, 10_000))
def test_a_portion_is_python_s_own_rounding(amount: int, bps: int) -> None:
    exact = Fraction(amount * bps, 10_000)
    assert portion(amount, bps, Rounding.HALF_EVEN) == round(exact)
    assert portion(amount, bps, Rounding.FLOOR) == exact // 1


@pytest.mark.parametrize(("rounding", "pot"), [(Rounding.FLOOR, 49), (Rounding.HALF_EVEN, 50)])
def test_the_distributable_amount(rounding: Rounding, pot: int) -> None:
    run = terms(declared_profit_minor=150, profit_share_bps=3_333, share_rounding=rounding)
    assert run.distributable_minor == calculate(run, [held("a", 1)]).totals.share_minor == pot


# Who holds what at the record date


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (START - timedelta(days=400), None, 90),
        (START, None, 90),
        (START + timedelta(days=1), None, 89),
        (END, None, 1),
        (END + timedelta(days=1), None, None),
        (START, END, None),
        (START, START, None),
        (START, END + timedelta(days=1), 90),
    ],
)
def test_days_held_up_to_the_record_date(since: date, until: date | None, days: int | None) -> None:
    holding = held("a", 1_000, since, until)
    assert weight(terms(rule=ShareRule.BY_AMOUNT_DAYS), holding) == (None if days is None else 1_000 * days)
    assert weight(terms(), holding) == (None if days is None else 1_000)


@pytest.mark.parametrize(
    ("record_date", "since", "days"),
    [
        (END - timedelta(days=10), START, 80),
        (END + timedelta(days=10), START, 90),
        (END + timedelta(days=10), END + timedelta(days=5), 0),
        (START, START, 1),
    ],
)
def test_a_record_date_beside_the_period_s_end(record_date: date, since: date, days: int) -> None:
    run = terms(rule=ShareRule.BY_AMOUNT_DAYS, record_date=record_date)
    assert weight(run, held("a", 7, since)) == 7 * days


@given(st.dates(START - timedelta(days=50), START + timedelta(days=400)), st.integers(1, 300), st.integers(1, 300))
def test_no_day_is_counted_in_two_periods_and_none_is_lost(since: date, first: int, second: int) -> None:
    """Two periods in a row are one long one."""
    middle, end = START + timedelta(days=first), START + timedelta(days=first + second)
    rule = ShareRule.BY_AMOUNT_DAYS
    parts = (
        terms(rule=rule, period_end=middle - timedelta(days=1), record_date=middle - timedelta(days=1)),
        terms(rule=rule, period_start=middle, period_end=end, record_date=end),
    )
    whole = terms(rule=rule, period_end=end, record_date=end)
    assert sum(weight(each, held("a", 3, since)) or 0 for each in parts) == (weight(whole, held("a", 3, since)) or 0)


def test_a_day_is_one_of_the_tenants_zone() -> None:
    """23:30 UTC on the record date is the next day in Lagos and the same day in New York, in summer as in winter."""
    late = datetime(END.year, END.month, END.day, 23, 30, tzinfo=UTC)
    assert weight(terms(), Holding("a", 5, late)) is None
    assert weight(terms(zone="America/New_York"), Holding("a", 5, late)) == 5
    assert weight(terms(), Holding("a", 5, local(START), late)) == 5, "given back on the day after"
    assert weight(terms(zone="UTC"), Holding("a", 5, local(START), late)) is None
    by_days = terms(zone="America/New_York", rule=ShareRule.BY_AMOUNT_DAYS)
    winter, summer = datetime(2027, 2, 1, 4, 30, tzinfo=UTC), datetime(2027, 3, 20, 3, 30, tzinfo=UTC)
    assert weight(by_days, Holding("a", 1, winter)) == (END - date(2027, 1, 31)).days + 1
    assert weight(by_days, Holding("a", 1, summer)) == (END - date(2027, 3, 19)).days + 1


def test_holdings_of_one_holder_count_together() -> None:
    run = terms(rule=ShareRule.BY_AMOUNT_DAYS, declared_profit_minor=270)
    holdings = [held("a", 1), held("a", 1, END - timedelta(days=44)), held("b", 1, END - timedelta(days=44))]
    assert shares(calculate(run, holdings)) == {"a": 203, "b": 67}, "135 to 45: 202.5 and 67.5, the tie to the lower id"
    holdings.append(held("c", 100, END + timedelta(days=1)))
    assert "c" not in shares(calculate(run, holdings))


# Lines

TAXED = terms(
    declared_profit_minor=100_000, tax_bps=1_000, platform_fee_bps=250, provider_fee_minor=50, minimum_payout_minor=500
)


def one(run: DistributionTerms, *, carried_in: int = 0, adjustment: int = 0) -> Line:
    """The line of a run's only holder."""
    [line] = calculate(run, [held("a", 1)], carried_in={"a": carried_in}, adjustments={"a": adjustment}).lines
    return line


def figures(line: Line) -> tuple[int, ...]:
    """gross, tax, platform fee, provider fee, net, carried out; recovered, added."""
    return (
        line.gross_minor, line.tax_minor, line.platform_fee_minor, line.provider_fee_minor, line.net_minor,
        line.carried_out_minor, line.recovered_minor, line.added_minor,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("profit", "carried_in", "adjustment", "expected"),
    [
        (100_000, 0, 0, (100_000, 10_000, 2_500, 50, 87_450, 0, 0, 0)),
        (100_000, 1_000, 0, (101_000, 10_100, 2_525, 50, 88_325, 0, 0, 0)),
        (100_000, 0, -30_000, (70_000, 7_000, 1_750, 50, 61_200, 0, 30_000, 0)),
        (100_000, 0, 5_000, (105_000, 10_500, 2_625, 50, 91_825, 0, 0, 5_000)),
        (629, 0, 0, (629, 63, 15, 50, 501, 0, 0, 0)),
        (628, 0, 0, (628, 63, 15, 50, 500, 0, 0, 0)),
        (627, 0, 0, (0, 0, 0, 0, 0, 627, 0, 0)),
        (10, 618, 0, (628, 63, 15, 50, 500, 0, 0, 0)),
        (10, 617, 0, (0, 0, 0, 0, 0, 627, 0, 0)),
        (700, 0, -700, (0, 0, 0, 0, 0, 0, 700, 0)),
        (700, 0, -1_000, (0, 0, 0, 0, 0, -300, 700, 0)),
        (10_000, -300, 0, (9_700, 970, 242, 50, 8_438, 0, 300, 0)),
        (10_000, -300, 300, (10_000, 1_000, 250, 50, 8_700, 0, 0, 0)),
        (100, 400, -450, (0, 0, 0, 0, 0, 50, 450, 0)),
        (100, -50, 30, (0, 0, 0, 0, 0, 80, 20, 0)),
        (100, -500, 30, (0, 0, 0, 0, 0, -370, 100, 0)),
    ],
)
def test_one_line(profit: int, carried_in: int, adjustment: int, expected: tuple[int, ...]) -> None:
    line = one(dataclasses.replace(TAXED, declared_profit_minor=profit), carried_in=carried_in, adjustment=adjustment)
    assert figures(line) == expected
    assert line.carried_forward == (line.net_minor == 0)


def test_half_units_of_tax_and_fee_go_by_their_own_rule() -> None:
    halves = {"declared_profit_minor": 30, "tax_bps": 1_500, "platform_fee_bps": 500}
    even = one(terms(**halves, tax_rounding=Rounding.HALF_EVEN, platform_fee_rounding=Rounding.FLOOR))
    down = one(terms(**halves, tax_rounding=Rounding.FLOOR, platform_fee_rounding=Rounding.HALF_EVEN))
    assert (even.tax_minor, even.platform_fee_minor, even.net_minor) == (4, 1, 25), "4.5 and 1.5"
    assert (down.tax_minor, down.platform_fee_minor, down.net_minor) == (4, 2, 24)


def test_what_rounds_away_entirely_is_carried_even_without_a_minimum() -> None:
    line = one(terms(declared_profit_minor=3, tax_bps=5_000, platform_fee_bps=4_999,
                     platform_fee_rounding=Rounding.HALF_EVEN))  # fmt: skip
    assert (line.gross_minor, line.tax_minor, line.carried_out_minor) == (0, 0, 3)


BPS = st.integers(0, 10_000)
AMOUNT = st.integers(0, 10**6) | st.integers(0, 10**14)
SIGNED = st.integers(-(10**6), 10**6)
HOLDERS = st.sampled_from([f"holder_{n}" for n in range(8)])
HOLDINGS = st.lists(
    st.builds(
        held,
        HOLDERS,
        st.integers(1, 5) | st.integers(1, 10**12),
        st.dates(START - timedelta(days=20), END + timedelta(days=5)),
        st.none() | st.dates(END - timedelta(days=5), END + timedelta(days=5)),
    ),
    max_size=12,
)
EARLIER = st.dictionaries(HOLDERS, SIGNED, max_size=4)


@st.composite
def any_terms(draw: st.DrawFn) -> DistributionTerms:
    tax = draw(st.integers(0, 9_999))
    return terms(
        declared_profit_minor=draw(AMOUNT), profit_share_bps=draw(BPS), share_rounding=draw(st.sampled_from(Rounding)),
        rule=draw(st.sampled_from(ShareRule)), tax_bps=tax, tax_rounding=draw(st.sampled_from(Rounding)),
        platform_fee_bps=draw(st.integers(0, 9_999 - tax)), platform_fee_rounding=draw(st.sampled_from(Rounding)),
        provider_fee_minor=draw(st.integers(0, 500)), minimum_payout_minor=draw(st.integers(0, 5_000)),
    )  # fmt: skip


def calculated(run: DistributionTerms, holdings: list[Holding], **earlier: dict[str, int]) -> Calculation | None:
    try:
        return calculate(run, holdings, **earlier)
    except Conflict as refusal:
        assert refusal.code in ("no_holders", "nothing_to_distribute")
        return None


@given(any_terms(), HOLDINGS, EARLIER, EARLIER)
def test_every_figure_adds_up(run: DistributionTerms, holdings: list, carried_in: dict, adjustments: dict) -> None:
    found = calculated(run, holdings, carried_in=carried_in, adjustments=adjustments)
    if found is None:
        return
    for line in [*found.lines, found.totals]:
        assert line.gross_minor == (line.net_minor + line.tax_minor + line.platform_fee_minor + line.provider_fee_minor)
        assert line.share_minor + line.carried_in_minor + line.adjustment_minor == (
            line.gross_minor + line.carried_out_minor
        )
    for line in found.lines:
        assert min(figures(line)[:5]) >= 0 and min(line.kept_minor, line.recovered_minor, line.added_minor) >= 0
        assert line.net_minor == 0 or line.net_minor >= max(1, run.minimum_payout_minor)
        assert line.gross_minor == 0 or line.carried_out_minor == 0
        assert not (line.recovered_minor and line.added_minor)
        assert max(0, line.carried_in_minor) + line.share_minor + line.added_minor == (
            line.gross_minor + line.kept_minor + line.recovered_minor
        )
    assert found.totals.share_minor == run.distributable_minor
    assert found.totals.to_fund_minor == run.distributable_minor + found.totals.added_minor
    assert [line.holder_id for line in found.lines] == sorted({line.holder_id for line in found.lines})
    assert set(carried_in) | set(adjustments) <= {line.holder_id for line in found.lines}


@given(any_terms(), HOLDINGS, EARLIER, st.randoms())
def test_order_does_not_matter(run: DistributionTerms, holdings: list, carried_in: dict, random) -> None:
    shuffled = random.sample(holdings, len(holdings))
    back = dict(reversed(carried_in.items()))
    assert calculated(run, holdings, carried_in=carried_in) == calculated(run, shuffled, carried_in=back)


@given(st.lists(st.tuples(any_terms(), HOLDINGS, EARLIER), min_size=2, max_size=6))
def test_nothing_is_lost_from_run_to_run(runs: list) -> None:
    """Over any chain of runs: the payable account holds what its lines carry, and every unit has gone one way."""
    payable = put_in = recovered = paid = 0
    carried: dict[str, int] = {}
    for run, holdings, adjustments in runs:
        found = calculated(run, holdings, carried_in=carried, adjustments=adjustments)
        if found is None:
            continue
        totals = found.totals
        put_in += totals.to_fund_minor
        paid += totals.gross_minor
        recovered += totals.recovered_minor
        payable += totals.to_fund_minor - totals.gross_minor - totals.recovered_minor
        carried = found.carried_out()
        assert payable == sum(amount for amount in carried.values() if amount > 0) == totals.kept_minor
    assert put_in == paid + recovered + payable


def test_a_chargeback_after_the_record_date_is_taken_back_over_the_next_runs() -> None:
    """The story of one holder: paid 500 too much, recovered from shares of 300 each, then paid again."""
    run = terms(declared_profit_minor=300, tax_bps=1_000)
    first = calculate(run, [held("a", 1)], adjustments={"a": -500})
    second = calculate(run, [held("a", 1)], carried_in=first.carried_out())
    third = calculate(run, [held("a", 1)], carried_in=second.carried_out())
    assert [figures(each.lines[0]) for each in (first, second, third)] == [
        (0, 0, 0, 0, 0, -200, 300, 0),
        (100, 10, 0, 0, 90, 0, 200, 0),
        (300, 30, 0, 0, 270, 0, 0, 0),
    ]


def test_who_holds_nothing_any_more_is_paid_what_was_carried() -> None:
    found = calculate(terms(), [held("a", 1)], carried_in={"gone": 250}, adjustments={"owing": -70})
    assert [(line.holder_id, line.weight, line.gross_minor, line.carried_out_minor) for line in found.lines] == [
        ("a", 1, 1_000, 0), ("gone", 0, 250, 0), ("owing", 0, 0, -70),
    ]  # fmt: skip


def test_a_run_for_what_was_carried_alone() -> None:
    found = calculate(terms(declared_profit_minor=0), [held("a", 1)], carried_in={"a": 90})
    assert (found.totals.share_minor, found.totals.to_fund_minor, found.totals.net_minor) == (0, 0, 90)


@pytest.mark.parametrize(
    ("run", "holdings", "code"),
    [
        (terms(), [], "no_holders"),
        (terms(), [held("a", 1, END + timedelta(days=1))], "no_holders"),
        (
            terms(rule=ShareRule.BY_AMOUNT_DAYS, record_date=END + timedelta(days=9)),
            [held("a", 1, END + timedelta(days=1))],
            "no_holders",
        ),
        (terms(declared_profit_minor=0), [held("a", 1)], "nothing_to_distribute"),
        (terms(profit_share_bps=9, declared_profit_minor=1_000), [held("a", 1)], "nothing_to_distribute"),
        (terms(declared_profit_minor=0), [], "nothing_to_distribute"),
    ],
)
def test_runs_that_are_none(run: DistributionTerms, holdings: list[Holding], code: str) -> None:
    with pytest.raises(Conflict) as refused:
        calculate(run, holdings)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"declared_profit_minor": -1}, "declared_profit_minor"),
        ({"profit_share_bps": 10_001}, "profit_share_bps"),
        ({"profit_share_bps": True}, "profit_share_bps"),
        ({"tax_bps": -1}, "tax_bps"),
        ({"tax_bps": 1.5}, "tax_bps"),
        ({"tax_bps": 6_000, "platform_fee_bps": 4_000}, "platform_fee_bps"),
        ({"provider_fee_minor": -1}, "provider_fee_minor"),
        ({"minimum_payout_minor": MAX_AMOUNT + 1}, "minimum_payout_minor"),
        ({"period_end": START - timedelta(days=1)}, "period_end"),
        ({"record_date": START - timedelta(days=1)}, "record_date"),
        ({"zone": "Africa/Nowhere"}, "zone"),
        ({"zone": "../etc"}, "zone"),
        ({"zone": ""}, "zone"),
    ],
)
def test_terms_that_are_none(wrong: dict, field: str) -> None:
    with pytest.raises(InvalidTerms) as refused:
        terms(**wrong)
    assert (refused.value.code, refused.value.field) == ("invalid_terms", field)


@pytest.mark.parametrize("wrong", [{"currency": "XXX"}, {"declared_profit_minor": 1.0}])
def test_profits_that_are_no_money(wrong: dict) -> None:
    with pytest.raises(InvalidMoney):
        terms(**wrong)


def test_a_hundred_thousand_holders() -> None:
    holdings = [held(f"usr_{n:06}", 1 + (n * 7919) % 100_000, START + timedelta(days=n % 120)) for n in range(100_000)]
    run = terms(
        rule=ShareRule.BY_AMOUNT_DAYS, declared_profit_minor=987_654_321_012, profit_share_bps=4_000,
        tax_bps=1_000, platform_fee_bps=150, provider_fee_minor=1_000, minimum_payout_minor=10_000,
    )  # fmt: skip
    totals = calculate(run, holdings).totals
    assert totals.share_minor == run.distributable_minor == 395_061_728_404
    assert totals.gross_minor + totals.carried_out_minor == totals.share_minor
