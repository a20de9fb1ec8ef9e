"""The bare process of the same shape as one card payment into a keep-what-you-raise campaign, written plainly: the same
workflows, children, signals and search attributes, an ordinary activity for each step, an inbox that every webhook wakes;
with constant results, no codec, no database and no provider. What ours saves of these steps is its own merit.

As its own process (`python -m benchmarks.bare_workflows <address> <namespace>`) it is the worker.
"""

import asyncio
import sys
from datetime import timedelta
from typing import Final

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.worker import Worker

TASK_QUEUE: Final = "bench-bare"
_STATUS: Final = SearchAttributeKey.for_keyword("ChamaStatus")
_LIMIT: Final = timedelta(seconds=30)


@activity.defn
async def call(step: str) -> str:
    """One step: nothing but its answer."""
    return step


async def _step(name: str) -> str:
    return await workflow.execute_activity(call, name, start_to_close_timeout=_LIMIT)


def _show(status: str) -> None:
    workflow.upsert_search_attributes([_STATUS.value_set(status)])


@workflow.defn
class BarePayment:
    """Start, capture, tell."""

    @workflow.run
    async def run(self, payment_id: str) -> str:
        """The last status."""
        await _step("start_attempt")
        _show("requires_capture")
        await _step("capture_attempt")
        _show("succeeded")
        await _step("send_notifications")
        return "succeeded"


@workflow.defn
class BareInvestment:
    """The payment as a child, then tell."""

    @workflow.run
    async def run(self, investment_id: str) -> str:
        """The last status."""
        _show("awaiting_payment")
        status = await workflow.execute_child_workflow(
            BarePayment.run, investment_id, id=f"bare-payment-{investment_id}"
        )
        _show("captured")
        await _step("send_notifications")
        return status


@workflow.defn
class BareInbox:
    """Drains until nobody has spoken: one run for many events that come together."""

    def __init__(self) -> None:
        self._events = 0

    @workflow.run
    async def run(self) -> None:
        """Ends when the inbox is empty."""
        while self._events:
            self._events = 0
            _show("draining")
            await _step("drain_inbox")
            await _step("send_notifications")

    @workflow.signal
    def event_received(self) -> None:
        """A webhook came."""
        self._events += 1


async def run(address: str, namespace: str) -> None:
    """Work until killed."""
    client = await Client.connect(address, namespace=namespace)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[BareInvestment, BarePayment, BareInbox],
        activities=[call],
        max_concurrent_activities=40,
        build_id="bench",
    )
    await worker.run()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
