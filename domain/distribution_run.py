"""When a run may be declared, and by whom it may be approved. Amounts and states: `domain/distribution.py`."""

from datetime import date, datetime, timedelta
from enum import StrEnum

from domain.campaign import CampaignStatus
from domain.distribution import DistributionStatus, InvalidTerms
from domain.errors import Conflict, Forbidden, InvalidRequest

_D = DistributionStatus
FUNDING_AGAIN = timedelta(hours=6)
"""How long after a vain look for its money a run looks again by itself; a word from its owner is heard at once."""
FARTHEST = timedelta(days=3_650)
"""How far ahead a profit may be promised: its period's last day from the campaign's deadline, a record date from today."""
OVER = frozenset({_D.REJECTED, _D.CANCELED})
"""Such a run counts for nothing: its period may be declared again."""
FUNDED = frozenset({_D.PAYING, _D.PARTIALLY_PAID, _D.PAID})
"""The run's money is the holders'."""


class CalculateOn(StrEnum):
    """When a run calculates and submits itself."""

    RECORD_DATE = "record_date"
    """Once its record date is over."""
    MILESTONE = "milestone"
    """Then, and once a milestone's money is released."""


def check_schedule(on: CalculateOn | None, milestone: int | None, *, dry_run: bool, milestones: int) -> None:
    """Refuse a schedule that never comes: a dry run's, or one by a milestone the campaign has not. Raises InvalidTerms."""
    if on is not None and dry_run:
        raise InvalidTerms("A dry run is calculated by hand.", field="schedule")
    if (on is CalculateOn.MILESTONE) != (milestone is not None):
        raise InvalidTerms("A schedule by milestone names one, and no other does.", field="schedule.milestone")
    if milestone is not None and milestone > milestones:
        raise InvalidTerms("The campaign has no such milestone.", field="schedule.milestone")


def check_profit_until(profit_until: date, deadline: date) -> None:
    """Refuse a period of profit that is over before the campaign is, or lies too far ahead.

    `deadline`: the campaign's last day. Raises InvalidRequest `invalid_profit_until`.
    """
    if not timedelta() < profit_until - deadline <= FARTHEST:
        text = f"The profit period ends after the campaign's deadline, at most {FARTHEST.days:,} days later."
        raise InvalidRequest("invalid_profit_until", text, field="profit_until")


def check_record_date(record_date: date, today: date) -> None:
    """Until the record date is over, who holds what may still change. Raises InvalidTerms."""
    if record_date >= today:
        raise InvalidTerms("The record date is over before a run is calculated.", field="record_date")


def check_declaration(status: CampaignStatus, *, record_date: date, today: date, scheduled: bool) -> None:
    """Refuse a run that cannot be calculated yet, and has no schedule. `today` is the tenant's business date.

    Raises Conflict `campaign_completed` and `campaign_not_funded`, what `check_record_date` raises, and
    InvalidTerms for a record date too far ahead.
    """
    if status is CampaignStatus.COMPLETED:
        raise Conflict("campaign_completed", "A completed campaign distributes nothing more.")
    if status is not CampaignStatus.FUNDED:
        raise Conflict("campaign_not_funded", "Only a funded campaign distributes a profit.")
    if not scheduled:
        check_record_date(record_date, today)
    elif record_date - today > FARTHEST:
        raise InvalidTerms(f"The record date is at most {FARTHEST.days:,} days from today.", field="record_date")


def look_again_at(planned_at: datetime | None, as_of: datetime) -> datetime:
    """When to look for a run's money after a vain look: a look between two that were planned anyway moves nothing."""
    return planned_at if planned_at is not None and planned_at > as_of else as_of + FUNDING_AGAIN


def check_submittable(status: DistributionStatus, *, dry_run: bool, error_code: str | None) -> None:
    """Refuse to hand in what nobody could approve.

    Raises Conflict `is_dry_run`, `distribution_not_calculated`, or the calculation's own refusal.
    """
    if dry_run:
        raise Conflict("is_dry_run", "A dry run is only looked at.")
    if status is not _D.CALCULATED:
        raise Conflict("distribution_not_calculated", "Only a calculated run can be submitted.")
    if error_code is not None:
        raise Conflict(error_code, "The calculation found nothing that could be paid.")


def check_second_person(approver: str, *others: str | None) -> None:
    """Whoever declared or submitted a run does not approve it. Raises Forbidden `cannot_approve_own`."""
    if approver in others:
        raise Forbidden("cannot_approve_own", "Somebody else than who declared or submitted it approves a run.")
