"""When a campaign takes money, and what it becomes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.campaign import (
    CAMPAIGN,
    MAX_DURATION,
    MAX_EXTENSIONS,
    MIN_NOTICE,
    CampaignKind,
    CampaignStatus,
    Funding,
    check_deadline,
    check_editable,
    check_open,
    decide_after_capture,
    decide_at_deadline,
)
from domain.errors import Conflict, DomainError, InvalidRequest
from domain.investment import COMMITTED, INVESTMENT, InvestmentStatus, bucket, check_ticket

C = CampaignStatus
DEADLINE = datetime(2027, 3, 1, tzinfo=UTC)
WINDOW = timedelta(days=3)
AON, FLEX = CampaignKind.ALL_OR_NOTHING, CampaignKind.KEEP_WHAT_YOU_RAISE


def funding(kind: CampaignKind = AON, pledged: int = 0, held: int = 0, captured: int = 0, floor: int = 9000) -> Funding:
    return Funding(kind, 1000, pledged, held, captured, floor)


@pytest.mark.parametrize(
    ("facts", "after", "outcome"),
    [
        (funding(held=600, captured=400), timedelta(0), C.SUCCESSFUL),
        (funding(held=999), timedelta(0), C.FAILED),
        (funding(held=600, pledged=400), timedelta(0), C.WAITING_FUNDS),
        (funding(held=600, pledged=399), timedelta(0), C.FAILED),
        (funding(held=600, pledged=400), WINDOW, C.FAILED),
        (funding(held=1000, pledged=50), timedelta(0), C.WAITING_FUNDS),
        (funding(held=1000, pledged=50), WINDOW, C.SUCCESSFUL),
        (funding(FLEX, captured=1), timedelta(0), C.SUCCESSFUL),
        (funding(FLEX), timedelta(0), C.FAILED),
        (funding(FLEX, pledged=1), timedelta(0), C.WAITING_FUNDS),
        (funding(FLEX, pledged=1), WINDOW, C.FAILED),
    ],
)
def test_at_the_deadline(facts: Funding, after: timedelta, outcome: CampaignStatus) -> None:
    assert decide_at_deadline(facts, as_of=DEADLINE + after, deadline_at=DEADLINE, waiting=WINDOW) is outcome


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (funding(captured=1000), C.FUNDED),
        (funding(captured=900), C.FUNDED),
        (funding(captured=899), C.FAILED),
        (funding(captured=1, floor=0), C.FUNDED),
        (funding(captured=0, floor=0), C.FAILED),
        (funding(captured=999, floor=10_000), C.FAILED),
        (funding(FLEX, captured=1), C.FUNDED),
    ],
)
def test_the_rule_for_captures_that_fail(facts: Funding, outcome: CampaignStatus) -> None:
    assert decide_after_capture(facts) is outcome


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000), st.sampled_from(list(CampaignKind)))
def test_the_window_is_never_waited_out_twice(pledged: int, held: int, captured: int, kind: CampaignKind) -> None:
    """Whatever the money, once the window is over the campaign is decided."""
    facts = funding(kind, pledged, held, captured)
    outcome = decide_at_deadline(facts, as_of=DEADLINE + WINDOW, deadline_at=DEADLINE, waiting=WINDOW)
    assert outcome in (C.SUCCESSFUL, C.FAILED)
    assert CAMPAIGN.allows(C.LIVE, outcome) and CAMPAIGN.allows(C.WAITING_FUNDS, outcome)


@pytest.mark.parametrize(
    ("status", "as_of", "code"),
    [
        (C.DRAFT, DEADLINE - WINDOW, "campaign_not_verified"),
        (C.SUBMITTED, DEADLINE - WINDOW, "campaign_not_verified"),
        (C.CHANGES_REQUESTED, DEADLINE - WINDOW, "campaign_not_verified"),
        (C.APPROVED, DEADLINE - WINDOW, "campaign_not_live"),
        (C.SCHEDULED, DEADLINE - WINDOW, "campaign_not_live"),
        (C.PAUSED, DEADLINE - WINDOW, "campaign_paused"),
        (C.PAUSED, DEADLINE, "campaign_closed"),
        (C.LIVE, DEADLINE, "campaign_closed"),
        (C.WAITING_FUNDS, DEADLINE - WINDOW, "campaign_closed"),
        (C.FUNDED, DEADLINE - WINDOW, "campaign_closed"),
        (C.REJECTED, DEADLINE - WINDOW, "campaign_closed"),
    ],
)
def test_closed_to_pledges(status: CampaignStatus, as_of: datetime, code: str) -> None:
    with pytest.raises(Conflict) as refused:
        check_open(status, deadline_at=DEADLINE, as_of=as_of)
    assert refused.value.code == code


MOVES = {
    C.DRAFT: {C.SUBMITTED},
    C.SUBMITTED: {C.CHANGES_REQUESTED, C.APPROVED, C.REJECTED, C.CANCELED},
    C.CHANGES_REQUESTED: {C.SUBMITTED, C.REJECTED, C.CANCELED},
    C.APPROVED: {C.SCHEDULED, C.LIVE, C.CANCELED},
    C.SCHEDULED: {C.LIVE, C.CANCELED},
    C.LIVE: {C.PAUSED, C.WAITING_FUNDS, C.SUCCESSFUL, C.FAILED, C.CANCELED},
    C.PAUSED: {C.LIVE, C.WAITING_FUNDS, C.SUCCESSFUL, C.FAILED, C.CANCELED},
    C.WAITING_FUNDS: {C.SUCCESSFUL, C.FAILED, C.CANCELED},
    C.SUCCESSFUL: {C.SETTLING},
    C.SETTLING: {C.FUNDED, C.FAILED},
    C.FUNDED: {C.COMPLETED},
    C.FAILED: {C.REFUNDING},
    C.CANCELED: {C.REFUNDING},
    C.REFUNDING: {C.CLOSED_FAILED},
}


def test_what_may_follow_what() -> None:
    for source in C:
        assert {target for target in C if CAMPAIGN.allows(source, target)} == MOVES.get(source, set()), source
    assert {state for state in C if CAMPAIGN.is_terminal(state)} == {C.REJECTED, C.COMPLETED, C.CLOSED_FAILED}


@pytest.mark.parametrize("status", C)
def test_each_state_is_editable_in_everything_in_texts_or_not_at_all(status: CampaignStatus) -> None:
    def code(*, money_terms: bool) -> str:
        try:
            check_editable(status, money_terms=money_terms)
        except Conflict as refused:
            return refused.code
        return ""

    expected = ("campaign_decided", "campaign_decided")
    if status in (C.DRAFT, C.CHANGES_REQUESTED):
        expected = ("", "")
    elif status is C.SUBMITTED:
        expected = ("campaign_under_review", "campaign_under_review")
    elif status in (C.APPROVED, C.SCHEDULED, C.LIVE, C.PAUSED):
        expected = ("", "terms_are_fixed")
    assert (code(money_terms=False), code(money_terms=True)) == expected


DAY = timedelta(days=1)
BEGAN = DEADLINE - 30 * DAY


@pytest.mark.parametrize(
    ("wanted", "changes", "code"),
    [
        (DEADLINE + DAY, {}, ""),
        (DEADLINE + DAY, {"status": C.PAUSED}, ""),
        (BEGAN + MAX_DURATION, {"extensions": MAX_EXTENSIONS - 1}, ""),
        (BEGAN + MAX_DURATION + timedelta(seconds=1), {}, "deadline_past_policy"),
        (DEADLINE + DAY, {"extensions": MAX_EXTENSIONS}, "too_many_extensions"),
        (DEADLINE - DAY, {"extensions": MAX_EXTENSIONS}, ""),
        (DEADLINE, {}, "deadline_unchanged"),
        (BEGAN + 10 * DAY + MIN_NOTICE, {}, ""),
        (BEGAN + 10 * DAY + MIN_NOTICE - timedelta(seconds=1), {}, "deadline_too_soon"),
        (BEGAN - DAY, {}, "deadline_too_soon"),
        (BEGAN + DAY, {"status": C.SCHEDULED, "as_of": BEGAN - DAY}, ""),
        (BEGAN + DAY / 2, {"status": C.SCHEDULED, "as_of": BEGAN - DAY}, "deadline_too_soon"),
        (DEADLINE + DAY, {"as_of": DEADLINE}, "deadline_passed"),
        (DEADLINE + DAY, {"status": C.WAITING_FUNDS}, "deadline_passed"),
        (DEADLINE + DAY, {"status": C.SUBMITTED}, "campaign_not_verified"),
        (DEADLINE + DAY, {"status": C.REJECTED}, "campaign_decided"),
        (DEADLINE + DAY, {"status": C.SETTLING}, "campaign_decided"),
    ],
)
def test_where_a_deadline_may_be_moved(wanted: datetime, changes: dict[str, Any], code: str) -> None:
    facts: dict[str, Any] = {"status": C.LIVE, "extensions": 0, "as_of": BEGAN + 10 * DAY, **changes}
    status = facts.pop("status")
    try:
        check_deadline(status, deadline_at=DEADLINE, wanted_at=wanted, began_at=BEGAN, **facts)
    except DomainError as refused:
        assert refused.code == code
    else:
        assert code == ""


@pytest.mark.parametrize(
    ("facts", "reached"),
    [
        (funding(held=600, captured=400), True),
        (funding(held=600, captured=399, pledged=1000), False),
        (funding(FLEX, captured=999), False),
        (funding(FLEX, captured=1000), True),
    ],
)
def test_only_certain_money_closes_a_campaign_early(facts: Funding, reached: bool) -> None:
    assert facts.reaches_goal_early() is reached


def ticket(**changes: object) -> None:
    terms = {
        "amount_minor": 100,
        "currency": "NGN",
        "campaign_currency": "NGN",
        "min_ticket_minor": 50,
        "max_per_investor_minor": 300,
        "already_committed_minor": 0,
        "cap_minor": 1000,
        "committed_minor": 0,
    }
    check_ticket(**{**terms, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"currency": "USD"}, InvalidRequest, "currency_mismatch"),
        ({"amount_minor": 49}, InvalidRequest, "below_minimum"),
        ({"already_committed_minor": 201}, Conflict, "investor_limit"),
        ({"committed_minor": 1000}, Conflict, "campaign_full"),
        ({"committed_minor": 901}, Conflict, "over_cap"),
    ],
)
def test_tickets_that_are_refused(changes: dict[str, object], kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as refused:
        ticket(**changes)
    assert refused.value.code == code  # type: ignore[attr-defined]


def test_the_last_place_fits_exactly() -> None:
    ticket(committed_minor=900, already_committed_minor=200)


def test_every_committed_state_is_counted_and_no_other() -> None:
    assert {each for each in InvestmentStatus if bucket(each) is not None} == set(COMMITTED)
    assert not INVESTMENT.allows(InvestmentStatus.CAPTURED, InvestmentStatus.CANCELED)
