"""What follows what, when to look, and what counts as the amount asked for."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from domain.payment import (
    AWAITS_PROVIDER,
    GIVE_UP_CHECKS,
    LATE_LOOKS,
    PAYMENT,
    RENEWAL_MARGIN,
    AttemptStatus,
    PaymentStatus,
    PaymentStep,
    matches_request,
    must_renew,
    next_check,
    next_late_look,
    next_step,
)

P, A, S = PaymentStatus, AttemptStatus, PaymentStep
FINAL = {P.SUCCEEDED, P.FAILED, P.CANCELED, P.EXPIRED}


def test_terminal_is_terminal() -> None:
    assert {each for each in P if PAYMENT.is_terminal(each)} == FINAL
    for source, target in itertools.product(FINAL, P):
        assert not PAYMENT.allows(source, target)
        assert source not in PAYMENT.sources(target)


@pytest.mark.parametrize("attempt", [A.UNKNOWN, A.STARTED])
@pytest.mark.parametrize("status", [each for each in P if each not in FINAL])
def test_an_unknown_outcome_is_only_looked_up(status: PaymentStatus, attempt: AttemptStatus) -> None:
    """Not captured, not voided, not started again: whatever was asked for meanwhile (DESIGN §2.4)."""
    for capture_now, cancel, lapsed in itertools.product((True, False), repeat=3):
        step = next_step(status=status, attempt=attempt, capture_now=capture_now, cancel=cancel, lapsed=lapsed)
        assert step is S.WAIT


@pytest.mark.parametrize(
    ("status", "attempt", "capture_now", "cancel", "lapsed", "step"),
    [
        (P.CREATED, None, True, False, False, S.START),
        (P.CREATED, None, True, True, False, S.VOID),
        (P.REQUIRES_ACTION, A.REQUIRES_ACTION, True, False, False, S.WAIT),
        (P.REQUIRES_ACTION, A.REQUIRES_ACTION, True, False, True, S.VOID),
        (P.PROCESSING, A.PENDING, True, True, False, S.VOID),
        (P.REQUIRES_CAPTURE, A.AUTHORIZED, True, False, False, S.CAPTURE),
        (P.REQUIRES_CAPTURE, A.AUTHORIZED, False, False, False, S.DONE),
        (P.REQUIRES_CAPTURE, A.AUTHORIZED, False, True, False, S.VOID),
        (P.IN_REVIEW, A.INTEGRITY_FAILURE, True, False, False, S.VOID),
        (P.FAILED, A.AUTHORIZED, True, False, False, S.VOID),
        (P.FAILED, A.DECLINED, True, True, True, S.DONE),
        (P.CANCELED, A.PENDING, True, True, False, S.WAIT),
        (P.EXPIRED, A.REQUIRES_ACTION, True, False, True, S.WAIT),
        (P.CANCELED, A.EXPIRED, True, True, False, S.DONE),
        (P.SUCCEEDED, A.CAPTURED, True, True, False, S.DONE),
    ],
)
def test_next_step(
    status: PaymentStatus,
    attempt: AttemptStatus | None,
    capture_now: bool,
    cancel: bool,
    lapsed: bool,
    step: PaymentStep,
) -> None:
    found = next_step(status=status, attempt=attempt, capture_now=capture_now, cancel=cancel, lapsed=lapsed)
    assert found is step


def test_look_ups_become_rarer_and_never_stop() -> None:
    waits = [next_check(n, unknown=True) for n in range(GIVE_UP_CHECKS + 20)]
    assert waits == sorted(waits)
    assert waits[0] <= timedelta(seconds=1)
    assert sum(waits[:GIVE_UP_CHECKS], timedelta()) < timedelta(hours=24)
    assert next_check(10**6, unknown=False) == timedelta(hours=3)


def test_late_money_is_looked_for_ever_more_rarely_and_not_for_ever() -> None:
    waits = [wait for n in range(LATE_LOOKS) if (wait := next_late_look(n)) is not None]
    assert waits == sorted(waits) and len(waits) == LATE_LOOKS
    assert timedelta(days=28) < sum(waits, timedelta()) < timedelta(days=31)
    assert next_late_look(LATE_LOOKS) is None


@pytest.mark.parametrize(
    ("got_minor", "got_currency", "same"),
    [
        (5000, "NGN", True),
        (5000, "ngn", True),
        (4999, "NGN", False),
        (5000, "USD", False),
        (None, "NGN", False),
        (5000, None, False),
    ],
)
def test_amount_integrity(got_minor: int | None, got_currency: str | None, same: bool) -> None:
    found = matches_request(asked_minor=5000, asked_currency="NGN", got_minor=got_minor, got_currency=got_currency)
    assert found is same


def test_an_authorization_is_renewed_only_if_it_lapses_before_the_deadline() -> None:
    lapse = datetime(2027, 1, 8, tzinfo=UTC)
    assert must_renew(authorized_until=lapse, deadline_at=lapse + timedelta(days=1))
    assert must_renew(authorized_until=lapse, deadline_at=lapse - RENEWAL_MARGIN + timedelta(seconds=1))
    assert not must_renew(authorized_until=lapse, deadline_at=lapse - RENEWAL_MARGIN)


def test_states_that_await_the_provider_are_not_terminal() -> None:
    assert not AWAITS_PROVIDER & FINAL
