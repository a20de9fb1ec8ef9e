"""A plan of release sums exactly; a tranche moves only as its table says; a vote is decided once it cannot be turned."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.campaign import CAMPAIGN, CampaignStatus
from domain.distribution_run import check_declaration
from domain.errors import Conflict, DomainError, InvalidRequest
from domain.milestone import (
    GRACE,
    SETTLED,
    TRANCHE,
    MilestoneTerm,
    TrancheStatus,
    VoteChoice,
    check_asked_for,
    check_completable,
    check_evidence,
    check_milestones,
    check_review,
    check_vote,
    decided_at_close,
    decided_early,
    plan_tranches,
)

T, V, C = TrancheStatus, VoteChoice, CampaignStatus
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=10)


def terms(*shares: int, **each: Any) -> list[MilestoneTerm]:
    return [MilestoneTerm(f"Part {n}", share, **({"due_days": 10 * n} | each)) for n, share in enumerate(shares, 1)]


def test_without_milestones_there_is_one_tranche() -> None:
    (only,) = plan_tranches(999, [], fee_bps=150, funded_at=NOW)
    assert (only.amount_minor, only.fee_minor, only.share_bps, only.due_at) == (999, 14, 10_000, None)


def test_units_left_over_go_to_the_largest_remainders() -> None:
    parts = plan_tranches(1_000_001, terms(3_333, 3_333, 3_334), fee_bps=100, funded_at=NOW)
    assert [each.amount_minor for each in parts] == [333_300, 333_300, 333_401]
    assert [each.due_at for each in parts] == [NOW + timedelta(days=days) for days in (10, 20, 30)]
    assert [each.amount_minor for each in plan_tranches(3, terms(5_000, 5_000), fee_bps=0, funded_at=NOW)] == [2, 1]


def test_a_date_before_the_funding_is_due_with_it() -> None:
    early = terms(5_000, 5_000, due_days=None, due_at=NOW - timedelta(days=5))
    assert {each.due_at for each in plan_tranches(10, early, fee_bps=0, funded_at=NOW)} == {NOW}


@given(st.integers(1, 2**53 - 1), st.lists(st.integers(1, 5_000), min_size=2, max_size=20), st.integers(0, 5_000))
def test_tranches_sum_exactly(captured: int, weights: list[int], fee_bps: int) -> None:
    shares = [each * 10_000 // sum(weights) for each in weights]
    shares[0] += 10_000 - sum(shares)
    parts = plan_tranches(captured, terms(*shares), fee_bps=fee_bps, funded_at=NOW)
    assert sum(each.amount_minor for each in parts) == captured
    assert all(0 <= each.fee_minor * 10_000 <= each.amount_minor * fee_bps for each in parts)
    assert all(abs(each.amount_minor * 10_000 - captured * each.share_bps) < 10_000 for each in parts)


@pytest.mark.parametrize(
    "offered",
    [
        terms(10_000),
        terms(5_000, 4_999),
        terms(5_000, 5_001),
        terms(*[500] * 21),
        terms(5_000, 5_000, due_days=None),
        terms(5_000, 5_000, due_at=LATER),
        terms(5_000, 5_000, due_days=None, due_at=NOW),
        terms(5_000, 5_000, due_days=None, due_at=NOW + timedelta(days=1_825, microseconds=1)),
        terms(5_000, 5_000, due_days=None, due_at=datetime.max.replace(tzinfo=UTC)),
    ],
    ids=[
        "one",
        "too little",
        "too much",
        "too many",
        "never due",
        "due twice",
        "due at the deadline",
        "due late",
        "the end",
    ],
)
def test_what_is_no_plan(offered: list[MilestoneTerm]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_milestones(offered, deadline_at=NOW)
    assert refused.value.code == "invalid_milestones"


def test_plans() -> None:
    check_milestones(terms(*[500] * 20), deadline_at=NOW)
    check_milestones(terms(5_000, 5_000, due_days=None, due_at=LATER), deadline_at=NOW)
    check_milestones(terms(5_000, 5_000, due_days=None, due_at=NOW + timedelta(days=1_825)), deadline_at=NOW)


def test_what_a_tranche_may_not() -> None:
    assert {each for each in T if TRANCHE.is_terminal(each)} == SETTLED, "what is released or returned stays so"
    assert set(TRANCHE.sources(T.RELEASED)) == {T.OPEN, T.SUBMITTED}, "never one that was missed or goes back"
    assert TRANCHE.sources(T.MISSED) == (T.OPEN,), "evidence under review is not missed"
    assert TRANCHE.sources(T.RETURNED) == (T.RETURNING,)
    assert CAMPAIGN.sources(C.COMPLETED) == (C.FUNDED,) and CAMPAIGN.is_terminal(C.COMPLETED)


@pytest.mark.parametrize(
    ("extend", "refund", "electorate", "early", "at_close"),
    [
        (0, 0, 100, None, V.EXTEND),
        (0, 50, 100, None, V.EXTEND),
        (0, 51, 100, V.REFUND, V.REFUND),
        (49, 0, 100, None, V.EXTEND),
        (50, 0, 100, V.EXTEND, V.EXTEND),
        (49, 51, 100, V.REFUND, V.REFUND),
        (0, 1, 1, V.REFUND, V.REFUND),
        (1, 0, 1, V.EXTEND, V.EXTEND),
        (0, 0, 0, None, V.EXTEND),
        (0, 509, 1_000, None, V.EXTEND),
        (0, 510, 1_000, V.REFUND, V.REFUND),
    ],
)
def test_a_vote(extend: int, refund: int, electorate: int, early: V | None, at_close: V) -> None:
    count = {"extend_minor": extend, "refund_minor": refund, "electorate_minor": electorate}
    assert (decided_early(**count), decided_at_close(**count)) == (early, at_close)


@given(st.integers(1, 10**6), st.data())
def test_who_has_not_voted_cannot_turn_an_early_decision(electorate: int, data: st.DataObject) -> None:
    extend = data.draw(st.integers(0, electorate))
    refund = data.draw(st.integers(0, electorate - extend))
    early = decided_early(extend_minor=extend, refund_minor=refund, electorate_minor=electorate)
    rest = electorate - extend - refund
    for more in (0, rest):
        after = {"extend_minor": extend + more, "refund_minor": refund + rest - more, "electorate_minor": electorate}
        assert early in (None, decided_at_close(**after))


def code_of(check: Any, *args: Any, **kwargs: Any) -> str | None:
    try:
        check(*args, **kwargs)
    except DomainError as refused:
        return refused.code
    return None


@pytest.mark.parametrize("status", list(T))
def test_when_evidence_is_taken_and_judged(status: T) -> None:
    assert code_of(check_evidence, status, due_at=NOW, as_of=NOW) == (
        None if status is T.OPEN else "milestone_not_open"
    )
    assert code_of(check_evidence, status, due_at=NOW, as_of=NOW + GRACE) == "milestone_not_open", "it is missed"
    assert code_of(check_evidence, status, due_at=None, as_of=NOW) == "milestone_not_open"
    judged = code_of(check_review, status, reviewer="usr_2", owner="usr_1", submitted_by="usr_1")
    assert judged == (None if status is T.SUBMITTED else "milestone_not_submitted")
    for reviewer in ("usr_1", "usr_3"):
        assert (
            code_of(check_review, status, reviewer=reviewer, owner="usr_1", submitted_by="usr_3")
            == "cannot_approve_own"
        )


@pytest.mark.parametrize(
    ("status", "due_at", "sent", "code"),
    [
        (T.OPEN, None, False, None),
        (T.OPEN, NOW, False, "milestone_not_approved"),
        (T.SUBMITTED, NOW, False, "milestone_not_approved"),
        (T.MISSED, NOW, False, "milestone_not_approved"),
        (T.RELEASED, NOW, False, None),
        (T.RELEASED, None, False, None),
        (T.RELEASED, NOW, True, "tranche_released"),
        (T.RELEASED, None, True, "tranche_released"),
        (T.RETURNING, NOW, False, "tranche_released"),
        (T.RETURNED, NOW, False, "tranche_released"),
    ],
)
def test_what_an_owner_may_ask_for(status: T, due_at: datetime | None, sent: bool, code: str | None) -> None:
    assert code_of(check_asked_for, status, due_at=due_at, sent=sent) == code


def test_a_vote_is_over_when_it_is_decided_or_its_time_is() -> None:
    assert code_of(check_vote, None, closes_at=LATER, as_of=NOW) is None
    assert code_of(check_vote, None, closes_at=NOW, as_of=NOW) == "vote_closed"
    assert code_of(check_vote, V.EXTEND, closes_at=LATER, as_of=NOW) == "vote_closed"


TODAY = date(2027, 3, 1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"status": C.COMPLETED}, "campaign_completed"),
        ({"status": C.LIVE}, "campaign_not_funded"),
        ({"unsettled": 1, "distributing": 1}, "tranche_open"),
        ({"distributing": 1}, "distribution_open"),
        ({"profit_until": TODAY}, "profit_period_open"),
        ({"profit_until": TODAY, "by_owner": False}, None),
        ({"profit_until": TODAY - timedelta(days=1)}, None),
    ],
)
def test_when_a_campaign_is_completed(changes: dict[str, Any], code: str | None) -> None:
    facts: dict[str, Any] = {"status": C.FUNDED, "unsettled": 0, "distributing": 0, "profit_until": None, "today": TODAY,
                             "by_owner": True}  # fmt: skip
    facts |= changes
    assert code_of(check_completable, facts.pop("status"), **facts) == code


def test_a_completed_campaign_declares_no_profit() -> None:
    with pytest.raises(Conflict) as refused:
        check_declaration(C.COMPLETED, record_date=TODAY - timedelta(days=1), today=TODAY, scheduled=False)
    assert refused.value.code == "campaign_completed"
