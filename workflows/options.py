"""Named presets for every activity call: no workflow states a timeout or retry of its own (STYLE §3.10).

Beside them stands how long retrying under each is normal: beyond that the monitor (`api/stuck.py`) reports it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType

WAIT_FOR_THE_OTHER: Final = timedelta(seconds=5)
"""Between two looks at a child that somebody else started: a command overtook its parent."""


class Preset(TypedDict, total=False):
    """What a preset decides; the summary is the call's own."""

    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    cancellation_type: ActivityCancellationType


_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=1)
)
"""Transport faults only: a business refusal is raised non-retryable by `activities.errors`. Unlimited attempts within
schedule-to-close; after that the workflow parks visibly."""

LEDGER: Final = Preset(
    start_to_close_timeout=timedelta(seconds=10),
    schedule_to_close_timeout=timedelta(days=30),
    retry_policy=_RETRY,
)
"""Database only."""

GATEWAY: Final = Preset(
    start_to_close_timeout=timedelta(seconds=90),
    heartbeat_timeout=timedelta(seconds=5),
    schedule_to_close_timeout=timedelta(days=30),
    retry_policy=_RETRY,
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""One provider call, which may take a few exchanges of 10 s each. The heartbeat notices a dead worker within seconds."""

BATCH: Final = Preset(
    start_to_close_timeout=timedelta(minutes=10),
    heartbeat_timeout=timedelta(seconds=5),
    schedule_to_close_timeout=timedelta(days=30),
    retry_policy=_RETRY,
    cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
"""A range of lines, each idempotent: a retry skips what is final."""

NOTIFY: Final = Preset(
    start_to_close_timeout=timedelta(seconds=30),
    heartbeat_timeout=timedelta(seconds=5),
    schedule_to_close_timeout=timedelta(days=30),
    retry_policy=_RETRY,
)
"""Telling people what can be told in a moment, and handing over the rest, which takes the database only: money waits for no
mail server."""

CLOCK: Final = Preset(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=10),
    schedule_to_close_timeout=timedelta(hours=2),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=5), maximum_attempts=30
    ),
)
"""Walks a tenant's workflows through virtual time; safe to take up again where it stopped, however often workers die."""


@dataclass(frozen=True)
class Patience:
    """When retrying stops being normal: at a later attempt than `attempts`, or retrying for longer than `lasting`."""

    attempts: int
    lasting: timedelta


_PATIENCE: Final[tuple[tuple[Preset, Patience], ...]] = (
    # Eight attempts of the usual retry policy are 25 seconds: a restart of Postgres is over by then.
    (LEDGER, Patience(attempts=8, lasting=timedelta(minutes=1))),
    # A provider that asks for a minute between two tries makes few attempts: then the time counts.
    # Each try of a call costs seconds of its own, and all of it must be seen within a minute of the first.
    (GATEWAY, Patience(attempts=6, lasting=timedelta(minutes=1))),
    # One attempt may rightly take ten minutes, and a second one after a worker's crash as many again.
    (BATCH, Patience(attempts=8, lasting=timedelta(minutes=25))),
    (NOTIFY, Patience(attempts=8, lasting=timedelta(minutes=5))),
    (CLOCK, Patience(attempts=2, lasting=timedelta(hours=1))),
)
_OTHER: Final = Patience(attempts=10, lasting=timedelta(minutes=10))


def patience(start_to_close: timedelta, heartbeat: timedelta) -> Patience:
    """The patience of the preset with these two time-outs, which is how a pending activity shows what it was called with.

    A heartbeat of zero is none. An activity under no preset of ours has a common one.
    """
    for preset, found in _PATIENCE:
        if (preset["start_to_close_timeout"], preset.get("heartbeat_timeout", timedelta(0))) == (
            start_to_close,
            heartbeat,
        ):
            return found
    return _OTHER
