"""Every template balances, names the right accounts on the right sides, and refuses what makes no sense."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import accounts
from domain.accounts import AccountKind, AccountSpec, InvalidPosting, Leg, Phase, Posting
from domain.money import MAX_AMOUNT, Money

DAY = datetime(2030, 1, 1, tzinfo=UTC)
TEN = Money(10, "NGN")
ESCROW, WALLET = accounts.escrow("cmp_1", "NGN"), accounts.wallet("usr_1", "NGN")
PROVIDER, SUSPENSE = accounts.provider_clearing("stripe", "NGN"), accounts.suspense("NGN")


def every_movement(amount: Money) -> dict[str, tuple[Posting, Phase, AccountSpec, AccountSpec]]:
    """Template → (posting, phase, debited, credited)."""
    common = {"amount": amount, "as_of": DAY}
    rail, pending, single = {"provider": "stripe"}, Phase.PENDING, Phase.SINGLE
    return {
        "authorized": (accounts.payment_authorized("k", into=ESCROW, **rail, **common), pending, PROVIDER, ESCROW),
        "charged": (accounts.payment_charged("k", into=WALLET, **rail, **common), single, PROVIDER, WALLET),
        "deposit": (accounts.deposit_captured("k", user_id="usr_1", **rail, **common), single, PROVIDER, WALLET),
        "pledged": (
            accounts.wallet_pledged("k", user_id="usr_1", campaign_id="cmp_1", **common),
            pending,
            WALLET,
            ESCROW,
        ),
        "returned": (accounts.pledge_returned("k", user_id="usr_1", source=ESCROW, **common), pending, ESCROW, WALLET),
        "refund": (accounts.refund_requested("k", source=ESCROW, **rail, **common), pending, ESCROW, PROVIDER),
        "unexpected": (accounts.unexpected_money("k", **rail, **common), single, PROVIDER, SUSPENSE),
        "attached": (accounts.suspense_attached("k", into=ESCROW, **common), single, SUSPENSE, ESCROW),
    }


@pytest.mark.parametrize("name", every_movement(TEN))
def test_what_each_template_debits_and_credits(name: str) -> None:
    posting, phase, debit, credit = every_movement(TEN)[name]
    assert posting.phase is phase
    assert posting.legs == (Leg(debit, 10), Leg(credit, -10))


@given(st.integers(1, MAX_AMOUNT))
def test_every_template_balances(amount: int) -> None:
    for posting, *_ in every_movement(Money(amount, "NGN")).values():
        assert sum(leg.amount_minor for leg in posting.legs) == 0


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_moves_nothing(amount: int) -> None:
    with pytest.raises(InvalidPosting):
        every_movement(Money(amount, "NGN"))


def test_each_resolution_names_its_hold_and_phase() -> None:
    times = {"hold": "h", "as_of": DAY}
    phases = {
        accounts.payment_captured: Phase.POST,
        accounts.pledge_captured: Phase.POST,
        accounts.refund_succeeded: Phase.POST,
        accounts.authorization_voided: Phase.VOID,
        accounts.pledge_voided: Phase.VOID,
        accounts.refund_failed: Phase.VOID,
        accounts.authorization_expired: Phase.EXPIRE,
        accounts.pledge_expired: Phase.EXPIRE,
    }
    for template, phase in phases.items():
        posting = template("k", **times)
        assert (posting.phase, posting.target, posting.legs, posting.event) == (phase, "h", (), template.__name__)
    assert accounts.payment_captured("k", amount=TEN, **times).amount == TEN
    for template in (accounts.reversal, accounts.refund_returned):
        assert template("k", target="t", as_of=DAY).phase is Phase.REVERSAL


def test_the_chart() -> None:
    chart = [(spec.code, spec.kind, spec.bounded, spec.stripes) for spec in (PROVIDER, WALLET, ESCROW, SUSPENSE)]
    assert chart == [
        ("provider:stripe:NGN", AccountKind.ASSET, False, 16),
        ("wallet:usr_1:NGN", AccountKind.LIABILITY, True, 1),
        ("escrow:cmp_1:NGN", AccountKind.LIABILITY, True, 16),
        ("suspense:NGN", AccountKind.SUSPENSE, True, 1),
    ]
    assert [kind for kind in AccountKind if kind.debit_normal] == [AccountKind.ASSET, AccountKind.EXPENSE]


@pytest.mark.parametrize(
    ("code", "currency"),
    [("wallet:u:NGN", "KES"), ("wallet:u", "NGN"), ('wallet:"u:NGN', "NGN"), ("wallet:u,v:NGN", "NGN"),
     ("wallet:{}:NGN", "NGN"), ("wallet:u\n:NGN", "NGN"), ("wallet::NGN", "NGN"), ("wallet:u:XXX", "XXX")],
)  # fmt: skip
def test_codes_that_are_none(code: str, currency: str) -> None:
    with pytest.raises(InvalidPosting):
        AccountSpec(code, currency, AccountKind.LIABILITY, bounded=True)


def test_currencies_do_not_mix() -> None:
    with pytest.raises(InvalidPosting):
        accounts.payment_charged("k", provider="stripe", into=accounts.wallet("u", "KES"), amount=TEN, as_of=DAY)


LEGS = (Leg(PROVIDER, 10), Leg(WALLET, -10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""}, {"key": "a b"}, {"key": "a\n"}, {"key": "é"}, {"key": "a" * 301},
        {"effective_at": DAY.replace(tzinfo=None)},
        {"expires_at": DAY},
        {"legs": ()}, {"legs": LEGS[:1]}, {"legs": (Leg(PROVIDER, 10), Leg(WALLET, -9))},
        {"legs": (Leg(PROVIDER, 0), Leg(WALLET, 0))}, {"legs": (Leg(PROVIDER, True), Leg(WALLET, -1))},
        {"legs": (Leg(PROVIDER, 10), Leg(accounts.wallet("u", "KES"), -10))},
        {"legs": (Leg(PROVIDER, MAX_AMOUNT + 1), Leg(WALLET, -MAX_AMOUNT - 1))},
        {"target": "t"}, {"amount": TEN},
        {"phase": Phase.POST, "target": "t"}, {"phase": Phase.POST, "legs": ()},
        {"phase": Phase.VOID, "legs": (), "target": "t", "amount": TEN},
        {"phase": Phase.POST, "legs": (), "target": "t", "amount": Money(0, "NGN")},
        {"phase": Phase.VOID, "legs": (), "target": "t", "expires_at": DAY},
    ],
)  # fmt: skip
def test_postings_that_are_none(wrong: dict) -> None:
    right = Posting("k", "e", Phase.SINGLE, DAY, LEGS)
    with pytest.raises(InvalidPosting):
        dataclasses.replace(right, **wrong)


def test_the_payload_is_what_moves_money() -> None:
    posting = Posting("k", "e", Phase.SINGLE, DAY, LEGS)
    same = [
        dataclasses.replace(posting, legs=LEGS[::-1]),
        dataclasses.replace(posting, effective_at=DAY.replace(year=2031)),
        dataclasses.replace(posting, key="other"),
    ]
    assert {each.payload_hash for each in same} == {posting.payload_hash} and len(posting.payload_hash) == 32
    others = [
        dataclasses.replace(posting, event="f"),
        dataclasses.replace(posting, phase=Phase.PENDING),
        dataclasses.replace(posting, legs=(Leg(PROVIDER, 11), Leg(WALLET, -11))),
        dataclasses.replace(posting, legs=(Leg(PROVIDER, 10), Leg(ESCROW, -10))),
        accounts.payment_captured("k", hold="h", as_of=DAY),
        accounts.payment_captured("k", hold="i", as_of=DAY),
        accounts.payment_captured("k", hold="h", as_of=DAY, amount=TEN),
        accounts.payment_captured("k", hold="h", as_of=DAY, amount=Money(10, "KES")),
    ]
    assert len({each.payload_hash for each in [posting, *others]}) == 1 + len(others)
