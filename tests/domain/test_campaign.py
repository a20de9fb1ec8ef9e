"""When a campaign takes money, and what it becomes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.campaign import (
    CAMPAIGN,
    CampaignKind,
    CampaignStatus,
    Funding,
    check_open,
    decide_after_capture,
    decide_at_deadline,
)
from domain.errors import Conflict, InvalidRequest
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
        (C.SUBMITTED, DEADLINE - WINDOW, "campaign_not_verified"),
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
