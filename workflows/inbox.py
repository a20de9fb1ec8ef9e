"""InboxWorkflow (`inbox/<tenant>/<mode>/webhooks`): works through stored webhooks that no running process waits for.

Late events, events about finished payments, refunds, settlement lines, and orphans that came before their payment. It is
started by the webhook endpoint's signal, drains in batches, and ends when nothing is left to wait for.
"""

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.inbox import InboxActivities
    from contracts.inbox import INBOX, InboxInput, InboxProgress
    from workflows.continuing import is_full
    from workflows.notices import tell
    from workflows.options import BATCH
    from workflows.visibility import show

# Patches: continuing.CONTINUE_WHEN_FULL.

MAX_PASSES = 500


@workflow.defn(name="InboxWorkflow")
class InboxWorkflow:
    """Every stored event is processed, or expires visibly; none is dropped."""

    @workflow.init
    def __init__(self, input: InboxInput) -> None:
        self._input = input
        self._woken = True

    @workflow.run
    async def run(self, input: InboxInput) -> None:
        """Drain, wait for the next retry or a wake-up, drain again."""
        for _ in range(MAX_PASSES):
            self._woken = False
            progress = await self._drain()
            if progress.wait_seconds is None and not self._woken:
                return
            if not self._woken and progress.wait_seconds:
                show("waiting", line=f"next retry in {progress.wait_seconds} s")
                await self._pause(timedelta(seconds=progress.wait_seconds))
            if is_full():
                break
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(input)

    async def _drain(self) -> InboxProgress:
        show("draining")
        progress = await workflow.execute_activity_method(
            InboxActivities.drain_inbox, self._input, summary="process stored webhooks", **BATCH
        )
        if progress.processed if progress.notices is None else progress.notices:
            await tell(self._input.scope, INBOX)
        return progress

    async def _pause(self, duration: timedelta) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=duration, timeout_summary="next retry")

    @workflow.signal
    def event_received(self) -> None:
        """Something new is in the inbox."""
        self._woken = True
