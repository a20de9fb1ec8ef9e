"""A walk through virtual time: taken up again after any number of deaths, given up soon when work holds it up."""

import dataclasses
from datetime import UTC, datetime

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.clock import STUCK_ATTEMPTS, ClockActivities
from contracts.base import Scope
from contracts.clock import AdvanceInput, AdvanceProgress
from infra.database import Database
from workflows.options import CLOCK


class _HeldUp(ClockActivities):
    """Work that never comes to rest, without the minute until that is known."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def _walk(self, task: AdvanceInput) -> AdvanceProgress:
        raise ApplicationError("work that is due does not come to rest", type="clock_stuck")


@pytest.mark.parametrize("attempt", [1, STUCK_ATTEMPTS - 1, STUCK_ATTEMPTS, STUCK_ATTEMPTS + 1])
async def test_a_walk_that_work_holds_up_is_given_up(database: Database, scope: Scope, attempt: int) -> None:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, attempt=attempt)
    task = AdvanceInput(scope=scope, target=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(ApplicationError) as stuck:
        await environment.run(_HeldUp(database).advance_clock, task)
    assert (stuck.value.type, stuck.value.non_retryable) == ("clock_stuck", attempt >= STUCK_ATTEMPTS)


def test_deaths_do_not_use_up_the_attempts() -> None:
    """A walk dies with its worker, which is struck fifteen times in one round of the fault matrix."""
    assert CLOCK["retry_policy"].maximum_attempts > 15 + STUCK_ATTEMPTS
