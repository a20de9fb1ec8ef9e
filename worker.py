"""The worker process: builds what activities need, registers everything, runs until told to stop. Imported by nobody."""

import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import uvloop
from temporalio.client import Client
from temporalio.worker import Worker

from activities.beneficiaries import BeneficiaryActivities
from activities.bulk_effects import BulkEffects
from activities.bulk_settlements import BulkSettlements
from activities.campaigns import CampaignActivities
from activities.clock import ClockActivities
from activities.distribution_payouts import DistributionPayoutActivities
from activities.distributions import DistributionActivities
from activities.effects import Effects
from activities.inbox import InboxActivities
from activities.milestones import MilestoneActivities
from activities.notifications import NotificationActivities, last_answers
from activities.payment_steps import PaymentSteps
from activities.payments import PaymentActivities
from activities.payout_steps import PayoutSteps
from activities.payouts import PayoutActivities
from activities.rails import Rails
from activities.refund_steps import RefundSteps
from activities.refunds import RefundActivities
from activities.renewals import Renewals
from activities.settlements import SettlementActivities
from contracts.visibility import TaskQueue
from infra import logging
from infra.crypto import Vault
from infra.database import Database
from infra.outgoing import http_client
from infra.settings import Settings
from infra.temporal import connect
from workflows.beneficiary import BeneficiaryWorkflow
from workflows.campaign import CampaignWorkflow
from workflows.clock import ClockWorkflow
from workflows.distribution import DistributionWorkflow
from workflows.inbox import InboxWorkflow
from workflows.investment import InvestmentWorkflow
from workflows.milestone import MilestoneWorkflow
from workflows.notices import NoticesWorkflow
from workflows.payment import PaymentWorkflow
from workflows.payout import PayoutWorkflow
from workflows.refund import RefundWorkflow
from workflows.settlement import SettlementWorkflow

WORKFLOWS: list[type] = [
    BeneficiaryWorkflow,
    CampaignWorkflow,
    ClockWorkflow,
    DistributionWorkflow,
    InboxWorkflow,
    InvestmentWorkflow,
    MilestoneWorkflow,
    NoticesWorkflow,
    PaymentWorkflow,
    PayoutWorkflow,
    RefundWorkflow,
    SettlementWorkflow,
]


def activities(settings: Settings, db: Database, http: httpx.AsyncClient, client: Client) -> list[Callable[..., Any]]:
    """Every activity, bound to what it needs."""
    vault = Vault.from_settings(settings)
    rails = Rails(vault, http, timeout_seconds=settings.provider_timeout_seconds)
    effects = Effects(db)
    steps = PaymentSteps(db, rails, effects)
    refunds = RefundSteps(db, rails, effects)
    renewals = Renewals(db, rails, effects, steps)
    notifications = NotificationActivities(db, settings)
    payments = PaymentActivities(steps, notifications)
    bulk = BulkSettlements(db, rails, BulkEffects(db))
    settlements = SettlementActivities(db, steps, refunds, renewals, bulk)
    distributions = DistributionActivities(db)
    milestones = MilestoneActivities(db)
    payouts = PayoutSteps(db, rails, effects)
    outside = DistributionPayoutActivities(db, rails, BulkEffects(db), payouts)
    bound: list[Callable[..., Any]] = [
        payments.start_attempt,
        payments.check_attempt,
        payments.capture_attempt,
        payments.void_attempt,
        payments.load_payment,
        payments.apply_ruling,
        RefundActivities(refunds).advance_refund,
        PayoutActivities(payouts).advance_payout,
        BeneficiaryActivities(db, rails, vault).verify_beneficiary,
        CampaignActivities(db).advance_campaign,
        settlements.settle_range,
        settlements.settlement_progress,
        distributions.advance_distribution,
        distributions.calculate_distribution,
        distributions.begin_distribution,
        distributions.pay_distribution_range,
        distributions.finish_distribution,
        milestones.advance_milestones,
        milestones.return_escrow_range,
        outside.send_distribution_range,
        outside.check_distribution_payouts,
        InboxActivities(db, rails).drain_inbox,
        notifications.send_notifications,
    ]
    if settings.test_clock:
        bound.append(ClockActivities(db, client, rails, http, settings.test_clock_url).advance_clock)
    return bound


def build_worker(settings: Settings, client: Client, db: Database, http: httpx.AsyncClient) -> Worker:
    """The worker, ready to run. Slots stay below the pool: an activity holds a connection only for its transactions."""
    return Worker(
        client,
        task_queue=TaskQueue.MAIN,
        workflows=WORKFLOWS,
        activities=activities(settings, db, http, client),
        max_concurrent_activities=40,
        build_id=settings.worker_build_id,
        graceful_shutdown_timeout=timedelta(seconds=10),
        # How long a workflow's next task waits for the worker that has it cached, before any other may take it: after a
        # crash this is added to the recovery. A miss costs a replay of a short history.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=3),
    )


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; activities in flight get ten seconds to finish."""
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    db = Database(settings.app_url, name="chama-worker", max_size=settings.database_pool_max)
    await db.open()
    try:
        async with http_client() as http:
            client = await connect(settings)
            async with build_worker(settings, client, db, http):
                await stop.wait()
            await last_answers()
    finally:
        await db.close()


def main() -> None:
    """Entry point of `chama worker`."""
    settings = Settings()
    logging.configure(settings.log_level)
    # The same event loop as the API's.
    uvloop.run(run(settings))


if __name__ == "__main__":
    main()
