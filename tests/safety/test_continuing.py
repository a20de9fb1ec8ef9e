"""A long run continues as new and loses nothing on the way: no signal, no ruling, no open line (RELIABILITY D3, D6).

The workflows are ours; their activities only count, so that thousands of messages take seconds. Runs continue after 200
events instead of 2,500. `CHAMA_TEST_SIGNALS=5000` sends the nightly number.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from contracts.base import Mode, Scope
from contracts.campaign import (
    CampaignInput,
    CampaignProgress,
    CampaignTask,
    SettlementInput,
    SettlementProgress,
    SettlementRange,
    SettlementTask,
)
from contracts.distribution import DistributionInput, DistributionProgress, DistributionStep, DistributionTask
from contracts.ids import workflow_id
from contracts.inbox import INBOX, InboxInput, InboxProgress, NotificationTask
from contracts.outbox import OutboxKind, OutboxMessage
from contracts.payment import PaymentInput, PaymentProgress, PaymentTask, Ruling, RulingOutcome, RulingTask
from domain.campaign import CampaignStatus
from domain.distribution import DistributionStatus
from domain.payment import PaymentStatus, PaymentStep
from infra.delivery import deliver
from infra.settings import Settings
from tests.fixtures.replay import history_of, replayer
from worker import WORKFLOWS
from workflows import continuing, options

SIGNALS = int(os.environ.get("CHAMA_TEST_SIGNALS", "400"))
AT_ONCE = 40
RULINGS = 60
LATER = timedelta(days=300)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuing, "EVENTS", 200)


class Counters:
    """Stands in for every activity: what was written before a signal is `noted`; what a step then saw is `seen`."""

    def __init__(self) -> None:
        self.scope = Scope(tenant_id=uuid4(), mode=Mode.TEST)
        self.noted, self.seen = set[str](), set[str]()
        self.runs = set[str]()
        self.open_lines = 30
        self.enough = False
        self.told = set[str]()
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.drained = InboxProgress(processed=0)
        self.settlement: str | None = None
        self.looks = 0

    def look(self) -> int:
        """As a step reads rows: everything committed so far. How many of them are news."""
        self.runs.add(activity.info().workflow_run_id or "")
        news = self.noted - self.seen
        self.seen |= news
        return len(news)

    @activity.defn
    async def send_notifications(self, task: NotificationTask) -> None:
        self.runs.add(activity.info().workflow_run_id or "")
        self.told.add(task.subject_id)
        await self._happens()

    @activity.defn
    async def drain_inbox(self, task: InboxInput) -> InboxProgress:
        return self.drained.model_copy(update={"processed": self.look()})

    @activity.defn
    async def advance_campaign(self, task: CampaignTask) -> CampaignProgress:
        self.look()
        if self.settlement is not None:
            settled = self.open_lines <= 0
            return CampaignProgress(
                status=CampaignStatus.SETTLING, settlement_id=self.settlement, settlement_lines=1, finished=settled
            )
        return CampaignProgress(
            status=CampaignStatus.LIVE,
            next_action_at=task.as_of + LATER,
            finished=self.enough and self.seen == self.noted,
        )

    @activity.defn
    async def advance_distribution(self, task: DistributionTask) -> DistributionProgress:
        self.looks += 1
        await self._happens()
        return DistributionProgress(
            status=DistributionStatus.PAID, step=DistributionStep.DONE, lines=0, as_of=task.as_of
        )

    async def _happens(self) -> None:
        if (happens := self.meanwhile) is not None:
            self.meanwhile = None
            await happens()

    def _progress(self, task: PaymentTask | RulingTask) -> PaymentProgress:
        step = PaymentStep.DONE if self.enough and self.seen == self.noted else PaymentStep.WAIT
        return PaymentProgress(status=PaymentStatus.PROCESSING, step=step, next_action_at=task.as_of + LATER)

    @activity.defn
    async def start_attempt(self, task: PaymentTask) -> PaymentProgress:
        return self._progress(task)

    @activity.defn
    async def load_payment(self, task: PaymentTask) -> PaymentProgress:
        return self._progress(task)

    @activity.defn
    async def check_attempt(self, task: PaymentTask) -> PaymentProgress:
        self.look()
        return self._progress(task)

    @activity.defn
    async def apply_ruling(self, task: RulingTask) -> PaymentProgress:
        self.runs.add(activity.info().workflow_run_id or "")
        self.seen.add(task.ruling.reason)
        return self._progress(task)

    @activity.defn
    async def settle_range(self, task: SettlementRange) -> None:
        self.open_lines -= 1

    @activity.defn
    async def settlement_progress(self, task: SettlementTask) -> SettlementProgress:
        self.runs.add(activity.info().workflow_run_id or "")
        soon = task.as_of + timedelta(milliseconds=1)
        return SettlementProgress(open=self.open_lines, done=30 - self.open_lines, failed=0, next_action_at=soon)

    @property
    def activities(self) -> list[object]:
        names = [name for name, each in vars(Counters).items() if hasattr(each, "__temporal_activity_definition")]
        return [getattr(self, name) for name in names]

    async def caught_up(self, what: str, seconds: float = 60) -> None:
        """Wait until everything noted was seen: a wake-up that got lost would leave something unseen for ever."""
        for _ in range(int(seconds / 0.02)):
            if self.seen >= self.noted:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{what}: never seen: {len(self.noted - self.seen)} of {len(self.noted)}")


@asynccontextmanager
async def counting(client: Client) -> AsyncIterator[tuple[Counters, str]]:
    """The counters, and the queue their worker polls."""
    counters, queue = Counters(), f"continuing-{secrets.token_hex(4)}"
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, activities=counters.activities):  # type: ignore[arg-type]
        yield counters, queue


async def signal_in_waves(counters: Counters, send: "Send") -> None:
    """Note, then signal; after each wave everything must be seen, so that no later signal makes up for a lost one."""
    sent = 0
    while sent < SIGNALS:
        wave = [f"{sent + i}" for i in range(min(AT_ONCE, SIGNALS - sent))]

        async def one(each: str) -> None:
            counters.noted.add(each)
            await send(int(each))

        await asyncio.gather(*(one(each) for each in wave))
        sent += len(wave)
        await counters.caught_up(f"after {sent} signals")
    assert counters.seen == counters.noted and len(counters.seen) == SIGNALS


class Send:
    """Delivers signals the way the outbox does."""

    def __init__(self, client: Client, kind: OutboxKind, id: str, signal: str, **start: object) -> None:
        self._client, self._kind, self._id, self._signal, self._start = client, kind, id, signal, start

    async def __call__(self, number: int) -> None:
        message = OutboxMessage(
            id=number, scope=Scope(tenant_id=uuid4(), mode=Mode.TEST), order_key=self._id, kind=self._kind,
            workflow_id=self._id, signal_name=self._signal, request_id="req_test", **self._start,  # type: ignore[arg-type]
        )  # fmt: skip
        while True:
            try:
                return await deliver(self._client, message)
            except RPCError as error:
                # "The workflow is closing" to continue as new: the relay keeps such a message and sends it again.
                if error.status is not RPCStatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.05)


async def test_the_inbox_loses_no_signal(client: Client) -> None:
    async with counting(client) as (counters, queue):
        id = workflow_id("inbox", counters.scope, INBOX)
        start = {"workflow_type": "InboxWorkflow", "task_queue": queue}
        payload = InboxInput(scope=counters.scope).model_dump(mode="json")
        await signal_in_waves(
            counters, Send(client, OutboxKind.SIGNAL_WITH_START, id, "event_received", payload=payload, **start)
        )
        await client.get_workflow_handle(id).result()
    assert len(counters.runs) > 2


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_pass_whose_answer_was_lost_still_tells(client: Client, waiting: bool) -> None:
    """The pass that queued the message died after its work: the one that repeats it finds nothing to process."""
    async with counting(client) as (counters, queue):
        counters.drained = InboxProgress(processed=0, notices=waiting)
        id = workflow_id("inbox", counters.scope, INBOX)
        input = InboxInput(scope=counters.scope)
        await (await client.start_workflow("InboxWorkflow", input, id=id, task_queue=queue)).result()
    assert counters.told == ({INBOX} if waiting else set())


async def test_a_campaign_loses_no_signal(client: Client, settings: Settings) -> None:
    async with counting(client) as (counters, queue):
        id = workflow_id("campaign", counters.scope, "cmp_1")
        input = CampaignInput(scope=counters.scope, campaign_id="cmp_1", as_of=datetime.now(UTC))
        handle = await client.start_workflow("CampaignWorkflow", input, id=id, task_queue=queue)
        send = Send(client, OutboxKind.SIGNAL, id, "funding_changed")
        await signal_in_waves(counters, send)
        counters.enough = True
        await send(SIGNALS)
        await handle.result()
        first = await history_of(client, id, handle.first_execution_run_id)
        await replayer(settings).replay_workflow(first)
    assert first.events[-1].HasField("workflow_execution_continued_as_new_event_attributes")
    assert len(first.events) < 200 + 4 * AT_ONCE, "a run ends soon after its limit, however many signals come"
    assert len(counters.runs) > 2


async def test_a_payment_loses_no_report_and_no_ruling(client: Client) -> None:
    """A ruling carries a fact; those that come while a run continues must reach the next one."""
    async with counting(client) as (counters, queue):
        id = workflow_id("payment", counters.scope, "pay_1")
        input = PaymentInput(scope=counters.scope, payment_id="pay_1", as_of=datetime.now(UTC))
        handle = await client.start_workflow("PaymentWorkflow", input, id=id, task_queue=queue)
        wake = Send(client, OutboxKind.SIGNAL, id, "provider_reported")
        ruled = set[str]()
        for number in range(RULINGS):
            ruled.add(f"reason {number}")
            ruling = Ruling(outcome=RulingOutcome.CHARGED, operator_id="usr_1", reason=f"reason {number}")
            await asyncio.gather(
                *(wake(1_000_000 + number * 10 + i) for i in range(3)), handle.signal("outcome_ruled", ruling)
            )
            counters.noted.add(f"reason {number}")
            await counters.caught_up(f"after ruling {number}")
        counters.enough = True
        await wake(2_000_000)
        await handle.result()
    assert counters.seen == ruled
    assert len(counters.runs) > 2


async def test_a_settlement_goes_on_until_no_line_is_open(client: Client) -> None:
    async with counting(client) as (counters, queue):
        id = workflow_id("settlement", counters.scope, "set_1")
        input = SettlementInput(scope=counters.scope, settlement_id="set_1", lines=30, as_of=datetime.now(UTC))
        await client.execute_workflow("SettlementWorkflow", input, id=id, task_queue=queue)
    assert counters.open_lines == 0
    assert len(counters.runs) > 1


async def test_a_settlement_hears_of_lines_put_back_while_it_ends(client: Client, settings: Settings) -> None:
    """Its last messages take a while, and an operator is quick: nobody else would ever take these lines up."""
    async with counting(client) as (counters, queue):
        id = workflow_id("settlement", counters.scope, "set_1")
        input = SettlementInput(scope=counters.scope, settlement_id="set_1", lines=1, as_of=datetime.now(UTC))

        async def put_back() -> None:
            counters.open_lines = 1
            await client.get_workflow_handle(id).signal("line_reported")

        counters.open_lines, counters.meanwhile = 1, put_back
        await client.execute_workflow("SettlementWorkflow", input, id=id, task_queue=queue)
        await replayer(settings).replay_workflow(await history_of(client, id))
    assert counters.open_lines == 0


async def test_a_distribution_hears_of_lines_put_back_while_it_ends(client: Client, settings: Settings) -> None:
    """An admin retries as soon as the run is seen as paid; its process is still there, and nobody starts another."""
    async with counting(client) as (counters, queue):
        id = workflow_id("distribution", counters.scope, "dst_1")
        input = DistributionInput(scope=counters.scope, distribution_id="dst_1", as_of=datetime.now(UTC))

        async def put_back() -> None:
            await client.get_workflow_handle(id).signal("changed")

        counters.meanwhile = put_back
        await client.execute_workflow("DistributionWorkflow", input, id=id, task_queue=queue)
        await replayer(settings).replay_workflow(await history_of(client, id))
    assert counters.looks == 2


async def test_a_campaign_outlives_a_settlement_that_was_started_anew(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines put back before the campaign's process looked at their end: their settlement runs, and not as its child."""
    monkeypatch.setattr(options, "WAIT_FOR_THE_OTHER", timedelta(milliseconds=50))
    async with counting(client) as (counters, queue):
        counters.settlement, now = "set_1", datetime.now(UTC)
        lines = SettlementInput(scope=counters.scope, settlement_id="set_1", lines=1, as_of=now)
        settlement_id = workflow_id("settlement", counters.scope, "set_1")
        settling = await client.start_workflow("SettlementWorkflow", lines, id=settlement_id, task_queue=queue)
        id = workflow_id("campaign", counters.scope, "cmp_1")
        input = CampaignInput(scope=counters.scope, campaign_id="cmp_1", as_of=now)
        await client.execute_workflow("CampaignWorkflow", input, id=id, task_queue=queue)
        await settling.result()
        await replayer(settings).replay_workflow(await history_of(client, id))
    assert counters.open_lines == 0
