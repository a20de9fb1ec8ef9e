"""A run and its lines move only as their tables say: once approved never calculated again, never paid before it is funded."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from domain.distribution import DISTRIBUTION, LINE, DistributionStatus, LineStatus
from domain.distribution_run import FUNDING_AGAIN, look_again_at

D, L = DistributionStatus, LineStatus


def test_a_run_from_draft_to_paid() -> None:
    way = [D.DRAFT, D.CALCULATING, D.CALCULATED, D.CALCULATING, D.CALCULATED, D.PENDING_APPROVAL, D.CALCULATED,
           D.PENDING_APPROVAL, D.APPROVED, D.FUNDING, D.PAYING, D.PARTIALLY_PAID, D.PAYING, D.PARTIALLY_PAID, D.PAID]  # fmt: skip
    assert all(DISTRIBUTION.allows(a, b) for a, b in pairwise(way))


def test_what_a_run_may_not() -> None:
    assert {state for state in D if DISTRIBUTION.is_terminal(state)} == {D.REJECTED, D.CANCELED}
    assert DISTRIBUTION.moves[D.PAID] == {D.PARTIALLY_PAID, D.PAYING}, "for a line that its bank returned"
    assert set(DISTRIBUTION.sources(D.CALCULATING)) == {D.DRAFT, D.CALCULATED}, "once approved, never calculated again"
    before_paying = {D.DRAFT, D.CALCULATING, D.CALCULATED, D.PENDING_APPROVAL, D.APPROVED, D.FUNDING}
    assert set(DISTRIBUTION.sources(D.CANCELED)) == before_paying
    assert DISTRIBUTION.sources(D.APPROVED) == (D.PENDING_APPROVAL,)
    assert set(DISTRIBUTION.sources(D.PAYING)) == {D.FUNDING, D.PARTIALLY_PAID, D.PAID}, "funded before paid"


def test_what_a_line_may_not() -> None:
    terminal = {L.CARRIED_FORWARD, L.CREDITED_TO_WALLET, L.UNCLAIMED}
    assert {state for state in L if LINE.is_terminal(state)} == terminal
    assert LINE.sources(L.SENDING) == (L.QUEUED, L.UNKNOWN), "only a queued line is sent"
    assert set(LINE.sources(L.QUEUED)) == {L.CALCULATED, L.HELD, L.FAILED, L.RETURNED}, "never a paid or unknown one"
    assert LINE.moves[L.PAID] == {L.RETURNED}
    assert LINE.moves[L.UNKNOWN] == {L.SENDING, L.PAID, L.FAILED}, "unknown is resolved, not set aside"
    assert LINE.allows(L.RETURNED, L.QUEUED)


@pytest.mark.parametrize("machine", [DISTRIBUTION, LINE], ids=lambda machine: machine.noun)
def test_every_state_can_be_reached(machine) -> None:
    first, *_ = machine.moves
    reached, frontier = {first}, [first]
    while frontier:
        for following in machine.moves.get(frontier.pop(), ()):
            if following not in reached:
                reached.add(following)
                frontier.append(following)
    assert reached == set(type(first))


def test_a_look_between_two_moves_neither() -> None:
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    first = look_again_at(None, now)
    assert first == now + FUNDING_AGAIN
    assert look_again_at(first, now + timedelta(hours=1)) == first
    assert look_again_at(first, first) == first + FUNDING_AGAIN
