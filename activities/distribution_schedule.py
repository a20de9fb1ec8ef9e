"""Runs that calculate themselves (`domain.distribution_run.CalculateOn`): when they are due, and what becomes of them then.

A run waits for the end of its record date, and one with a milestone then for that milestone's money to be released. Then
it is calculated, and handed in for whoever declared it. If the money goes back to the investors instead, it is canceled.
"""

from datetime import datetime
from typing import Any

from activities.book import send
from contracts.base import Scope
from contracts.distribution import DistributionStep
from contracts.inbox import NotificationTask
from contracts.outbox import OutboxKind
from domain.days import is_over_at
from domain.distribution import DistributionStatus
from domain.milestone import GOES_BACK, TrancheStatus
from infra.database import Tx
from models import milestone
from models.campaign import get_campaign
from models.distribution import Distribution, change_status, note, wake_waiting

_D = DistributionStatus


async def look(tx: Tx, scope: Scope, run: Distribution, as_of: datetime) -> DistributionStep:
    """What a scheduled draft wants next: to wait, to be calculated, or nothing more. The caller holds its row."""
    over_at = is_over_at(run.record_date, run.zone)
    if as_of < over_at:
        await note(tx, run, next_action_at=over_at)
        return DistributionStep.WAIT
    if run.milestone is not None:
        tranches = await milestone.tranches_of(tx, run.campaign_id)  # none, while a campaign is just funded
        status = next((each.status for each in tranches if each.number == run.milestone), None)
        if status in GOES_BACK:
            await _cancel(tx, scope, run, as_of)
            return DistributionStep.DONE
        if status is not TrancheStatus.RELEASED:
            await note(tx, run, next_action_at=None, blocked_reason="milestone")
            return DistributionStep.WAIT
    await change_status(tx, scope, run, _D.CALCULATING, as_of, next_action_at=None, blocked_reason=None)
    return DistributionStep.CALCULATE


async def hand_in(tx: Tx, scope: Scope, run: Distribution, as_of: datetime) -> None:
    """A scheduled run that was calculated for the first time waits for its second person. One without anything to pay is
    left to its owner, who is told."""
    if run.error_code is None:
        await change_status(tx, scope, run, _D.PENDING_APPROVAL, as_of, submitted_by=run.declared_by)
    template = "distribution_submitted_owner" if run.error_code is None else "distribution_empty_owner"
    await _tell_owner(tx, scope, run, template, as_of, amount_minor=run.net_minor)


async def tell_waiting(tx: Tx, scope: Scope, campaign_id: str, tranches: list[milestone.Tranche]) -> None:
    """Wake the runs that wait for a milestone of which it is known by now whether its money is released or goes back."""
    decided = [each.number for each in tranches if each.status is TrancheStatus.RELEASED or each.status in GOES_BACK]
    for run_id in await wake_waiting(tx, campaign_id, decided):
        await send(tx, scope, OutboxKind.SIGNAL, "distribution", run_id, signal="changed")


async def _cancel(tx: Tx, scope: Scope, run: Distribution, as_of: datetime) -> None:
    changes: dict[str, Any] = {"next_action_at": None, "blocked_reason": None}
    await change_status(tx, scope, run, _D.CANCELED, as_of, story={"reason": "milestone_returned"}, **changes)
    await _tell_owner(tx, scope, run, "distribution_unreleased_owner", as_of)


async def _tell_owner(tx: Tx, scope: Scope, run: Distribution, template: str, as_of: datetime, **params: Any) -> None:
    campaign = await get_campaign(tx, run.campaign_id)
    assert campaign is not None
    occasion = f"{run.id}/scheduled/{template}"
    period = f"{run.period_start} to {run.period_end}"
    await milestone.tell_owner(tx, scope, campaign, occasion, template, as_of, period=period, **params)
    await send(
        tx, scope, OutboxKind.START, "notices", occasion, workflow="NoticesWorkflow",
        input=NotificationTask(scope=scope, subject_id=occasion),
    )  # fmt: skip
