"""Every template of a distribution balances, names the right accounts on the right sides, and leaves nothing behind."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import accounts
from domain import distribution_postings as postings
from domain.accounts import AccountKind, AccountSpec, InvalidPosting, Leg, Phase, Posting
from domain.distribution import Calculation, DistributionTerms, Holding, Line, ShareRule, calculate
from domain.money import Money, Rounding

DAY = datetime(2030, 1, 1, tzinfo=UTC)
NGN = "NGN"
ESCROW, PAYABLE = accounts.escrow("cmp_1", NGN), postings.distribution_payable("cmp_1", NGN)
TAX, PLATFORM, PROVIDER = accounts.tax_withheld(NGN), accounts.platform_fees(NGN), accounts.provider_fees(NGN)
UNCLAIMED = postings.unclaimed(NGN)
LINE = Line("usr_1", 1, 100, 0, 0, gross_minor=100, tax_minor=10, platform_fee_minor=3, provider_fee_minor=2,
            net_minor=85, carried_out_minor=0)  # fmt: skip
CARRIED = Line("usr_1", 1, 100, 0, 0, 0, 0, 0, 0, 0, carried_out_minor=100)


def credited(line: Line) -> Posting:
    return postings.distribution_credited(
        "k", campaign_id="cmp_1", user_id=line.holder_id, currency=NGN, line=line, as_of=DAY
    )


def sending(line: Line) -> Posting:
    return postings.distribution_sending(
        "k", campaign_id="cmp_1", provider="paystack", currency=NGN, line=line, as_of=DAY
    )


def test_money_is_held_then_payable() -> None:
    held = postings.distribution_declared("k", funding=ESCROW, campaign_id="cmp_1", amount=Money(100, NGN), as_of=DAY)
    assert (held.phase, held.legs) == (Phase.PENDING, (Leg(ESCROW, 100), Leg(PAYABLE, -100)))


@pytest.mark.parametrize(
    ("template", "phase", "net_into"),
    [(credited, Phase.SINGLE, accounts.wallet("usr_1", NGN)),
     (sending, Phase.PENDING, accounts.provider_clearing("paystack", NGN))],
)  # fmt: skip
def test_a_line_has_a_leg_for_each_part(template, phase: Phase, net_into: AccountSpec) -> None:
    posting = template(LINE)
    assert (posting.phase, posting.event) == (phase, f"distribution_{template.__name__}")
    assert posting.legs == (Leg(PAYABLE, 100), Leg(net_into, -85), Leg(TAX, -10), Leg(PLATFORM, -3), Leg(PROVIDER, -2))


@pytest.mark.parametrize("template", [credited, sending])
def test_a_carried_line_moves_nothing(template) -> None:
    with pytest.raises(InvalidPosting):
        template(CARRIED)


def test_what_is_taken_back_and_what_nobody_claims() -> None:
    back = postings.distribution_recovered("k", campaign_id="cmp_1", funding=ESCROW, amount=Money(40, NGN), as_of=DAY)
    left = postings.distribution_unclaimed("k", campaign_id="cmp_1", amount=Money(7, NGN), as_of=DAY)
    assert (back.phase, back.legs) == (Phase.SINGLE, (Leg(PAYABLE, 40), Leg(ESCROW, -40)))
    assert (left.phase, left.legs) == (Phase.SINGLE, (Leg(PAYABLE, 7), Leg(UNCLAIMED, -7)))


def test_each_resolution_names_its_hold_and_phase() -> None:
    phases = {
        postings.distribution_funded: Phase.POST,
        postings.distribution_canceled: Phase.VOID,
    }
    for template, phase in phases.items():
        posting = template("k", hold="h", as_of=DAY)
        assert (posting.phase, posting.target, posting.legs, posting.event) == (phase, "h", (), template.__name__)


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_moves_nothing(amount: int) -> None:
    money = Money(amount, NGN)
    for template in (
        lambda: postings.distribution_declared("k", funding=ESCROW, campaign_id="cmp_1", amount=money, as_of=DAY),
        lambda: postings.distribution_recovered("k", campaign_id="cmp_1", funding=ESCROW, amount=money, as_of=DAY),
        lambda: postings.distribution_unclaimed("k", campaign_id="cmp_1", amount=money, as_of=DAY),
    ):
        with pytest.raises(InvalidPosting):
            template()


def test_currencies_do_not_mix() -> None:
    with pytest.raises(InvalidPosting):
        postings.distribution_declared("k", funding=ESCROW, campaign_id="cmp_1", amount=Money(1, "KES"), as_of=DAY)


def test_the_chart() -> None:
    chart = [
        (spec.code, spec.kind, spec.bounded, spec.stripes) for spec in (PAYABLE, UNCLAIMED, TAX, PLATFORM, PROVIDER)
    ]
    assert chart == [
        ("payable:cmp_1:NGN", AccountKind.LIABILITY, True, 1),
        ("unclaimed:NGN", AccountKind.LIABILITY, True, 1),
        ("tax_withheld:NGN", AccountKind.LIABILITY, False, 16),
        ("platform_fees:NGN", AccountKind.REVENUE, False, 16),
        ("provider_fees:NGN", AccountKind.EXPENSE, False, 16),
    ]


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=20),
    st.integers(0, 10**12),
    st.integers(0, 9_000),
    st.integers(0, 999),
    st.dictionaries(st.sampled_from(["usr_00", "usr_01", "gone"]), st.integers(-(10**6), 10**6)),
)
def test_after_a_run_the_payable_account_holds_what_its_lines_carry(
    amounts: list[int], profit: int, tax_bps: int, fee_bps: int, carried_in: dict[str, int]
) -> None:
    """The postings of a whole run, added up account by account."""
    terms = DistributionTerms(
        currency=NGN, declared_profit_minor=profit + 1, profit_share_bps=10_000, share_rounding=Rounding.FLOOR,
        rule=ShareRule.BY_AMOUNT, period_start=date(2029, 1, 1), period_end=date(2029, 12, 31),
        record_date=date(2029, 12, 31), zone="UTC", tax_bps=tax_bps, tax_rounding=Rounding.HALF_EVEN,
        platform_fee_bps=fee_bps, platform_fee_rounding=Rounding.FLOOR, provider_fee_minor=25, minimum_payout_minor=100,
    )  # fmt: skip
    run = calculate(terms, [Holding(f"usr_{n:02}", amount, datetime(2029, 1, 1, tzinfo=UTC))
                            for n, amount in enumerate(amounts)], carried_in=carried_in)  # fmt: skip
    before = sum(amount for amount in carried_in.values() if amount > 0)
    balances = {PAYABLE.code: -before}
    for posting in every_posting(run):
        assert sum(leg.amount_minor for leg in posting.legs) == 0
        for leg in posting.legs:
            balances[leg.account.code] = balances.get(leg.account.code, 0) + leg.amount_minor
    totals = run.totals
    assert -balances[PAYABLE.code] == totals.kept_minor
    assert balances[ESCROW.code] == totals.to_fund_minor - totals.recovered_minor
    assert -balances.get(TAX.code, 0) == totals.tax_minor
    assert -balances.get(PLATFORM.code, 0) == totals.platform_fee_minor
    assert -balances.get(PROVIDER.code, 0) == totals.provider_fee_minor
    assert sum(balances.values()) == -before


def every_posting(run: Calculation) -> list[Posting]:
    """What the run books, were the declared money posted and each line paid into its holder's wallet."""
    to_fund = Money(run.totals.to_fund_minor, NGN)
    declared = postings.distribution_declared("k", funding=ESCROW, campaign_id="cmp_1", amount=to_fund, as_of=DAY)
    paid = [credited(line) for line in run.lines if not line.carried_forward]
    back = [
        postings.distribution_recovered(
            "k", campaign_id="cmp_1", funding=ESCROW, amount=Money(line.recovered_minor, NGN), as_of=DAY
        )
        for line in run.lines
        if line.recovered_minor
    ]
    return [declared, *paid, *back]
