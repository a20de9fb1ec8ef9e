"""What follows what in a payout and a beneficiary, who approves, and when a name is somebody's."""

import itertools
from datetime import UTC, datetime

import pytest

from domain.accounts import Phase, wallet
from domain.beneficiary import BENEFICIARY, BeneficiaryStatus, check_payable, names_match
from domain.errors import Conflict, Forbidden
from domain.money import Money
from domain.payout import (
    CANCELABLE,
    ENDED,
    LOOKED_UP,
    PAYOUT,
    PayoutStatus,
    check_cancelable,
    check_decision,
    first_status,
)
from domain.payout_postings import payout_fee, payout_released, payout_requested, payout_returned, payout_sent

P, B = PayoutStatus, BeneficiaryStatus
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOVES = {
    P.AWAITING_APPROVAL: {P.APPROVED, P.REJECTED, P.CANCELED},
    P.APPROVED: {P.SENDING, P.FAILED, P.CANCELED},
    P.SENDING: {P.APPROVED, P.UNKNOWN, P.PENDING, P.SUCCEEDED, P.FAILED, P.RETURNED},
    P.UNKNOWN: {P.APPROVED, P.PENDING, P.SUCCEEDED, P.FAILED, P.RETURNED},
    P.PENDING: {P.SUCCEEDED, P.FAILED, P.RETURNED},
    P.SUCCEEDED: {P.RETURNED},
}


def test_the_table_of_states() -> None:
    for source, target in itertools.product(P, P):
        assert PAYOUT.allows(source, target) == (target in MOVES.get(source, set())), (source, target)


def test_what_may_have_been_sent_is_neither_canceled_nor_rejected() -> None:
    for target in (P.CANCELED, P.REJECTED):
        assert {*PAYOUT.sources(target)} <= CANCELABLE
    assert not CANCELABLE & LOOKED_UP and not CANCELABLE & ENDED
    assert not {P.APPROVED, P.SENDING, P.UNKNOWN} & LOOKED_UP, "these may still have to be sent"


def test_only_the_bank_undoes_what_was_sent() -> None:
    assert {each for each in ENDED if not PAYOUT.is_terminal(each)} == {P.SUCCEEDED}
    for status in P:
        if status in CANCELABLE:
            check_cancelable(status)
        else:
            with pytest.raises(Conflict, match="on its way"):
                check_cancelable(status)


@pytest.mark.parametrize(
    ("amount", "lately", "limit", "status"),
    [
        (99, 0, 100, P.APPROVED),
        (100, 0, 100, P.AWAITING_APPROVAL),
        (1, 99, 100, P.AWAITING_APPROVAL),
        (1, 98, 100, P.APPROVED),
        (1, 0, 0, P.AWAITING_APPROVAL),
    ],
)
def test_who_must_approve(amount: int, lately: int, limit: int, status: PayoutStatus) -> None:
    assert first_status(amount_minor=amount, left_lately_minor=lately, approval_minor=limit) is status


@pytest.mark.parametrize(("requested", "owner"), [("usr_me", "usr_2"), ("usr_2", "usr_me"), ("usr_me", "usr_me")])
def test_nobody_decides_about_his_own(requested: str, owner: str) -> None:
    for status in P:
        with pytest.raises(Forbidden) as refused:
            check_decision(status, requested_by=requested, owner_id=owner, decided_by="usr_me")
        assert refused.value.code == "cannot_approve_own"


def test_only_what_waits_is_decided() -> None:
    for status in {*P} - {P.AWAITING_APPROVAL}:
        with pytest.raises(Conflict) as refused:
            check_decision(status, requested_by="usr_1", owner_id="usr_1", decided_by="usr_me")
        assert refused.value.code == "not_awaiting_approval"
    check_decision(P.AWAITING_APPROVAL, requested_by="usr_1", owner_id="usr_1", decided_by="usr_me")


@pytest.mark.parametrize(
    ("given", "holder", "same"),
    [
        ("Ada Okafor", "OKAFOR ADA", True),
        ("Ada Okafor", "OKAFOR, ADA CHIOMA", True),
        ("Adá-Chioma Okáfor", "ADA OKAFOR", True),
        ("Ada", "ADA", True),
        ("Ada", "ADA OKAFOR", False),
        ("Ada Okafor", "ADA BELLO", False),
        ("Ada Okafor", "ADAOKAFOR", False),
        ("Ada Okafor", "", False),
        ("", "ADA OKAFOR", False),
        ("Ada Okafor Bello", "ADA OKAFOR EZE", False),
    ],
)
def test_names(given: str, holder: str, same: bool) -> None:
    assert names_match(given, holder) is same
    assert names_match(holder, given) is same


def test_money_goes_to_verified_accounts_only() -> None:
    for status in B:
        if status is B.VERIFIED:
            check_payable(status)
        else:
            with pytest.raises(Conflict, match="not verified"):
                check_payable(status)
    assert BENEFICIARY.is_terminal(B.REJECTED) and BENEFICIARY.is_terminal(B.DISABLED)
    assert not BENEFICIARY.allows(B.DISABLED, B.VERIFIED)


def test_what_a_payout_books() -> None:
    amount = Money(500, "NGN")
    hold = payout_requested("pyo_1", source=wallet("usr_1", "NGN"), provider="paystack", amount=amount, as_of=NOW)
    assert hold.phase is Phase.PENDING
    assert {leg.account.code: leg.amount_minor for leg in hold.legs} == {
        "wallet:usr_1:NGN": 500,
        "provider:paystack:NGN": -500,
    }
    sent, released, returned = (each("pyo_1", as_of=NOW) for each in (payout_sent, payout_released, payout_returned))
    assert (sent.phase, sent.target) == (Phase.POST, hold.key)
    assert (released.phase, released.target) == (Phase.VOID, hold.key)
    assert (returned.phase, returned.target) == (Phase.REVERSAL, sent.key)
    fee = payout_fee("pyo_1", provider="paystack", fee=Money(10, "NGN"), as_of=NOW)
    assert {leg.account.code: leg.amount_minor for leg in fee.legs} == {
        "provider_fees:NGN": 10,
        "provider:paystack:NGN": -10,
    }
