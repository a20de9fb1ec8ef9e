"""ClockWorkflow (`clock/<tenant>/test/<n>`): one advance of a tenant's test clock (DESIGN §2.18).

It has no virtual time itself: it drives the others, in business order, through one resumable activity.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.clock import ClockActivities
    from contracts.clock import AdvanceInput, AdvanceProgress
    from workflows.options import CLOCK
    from workflows.visibility import show

# Patches: none yet.


@workflow.defn(name="ClockWorkflow")
class ClockWorkflow:
    """The clock only moves forward, and stops exactly at its target."""

    @workflow.run
    async def run(self, input: AdvanceInput) -> AdvanceProgress:
        """Walk to the target."""
        show("advancing", line=f"advancing to {input.target:%Y-%m-%d %H:%M} UTC")
        progress = await workflow.execute_activity_method(
            ClockActivities.advance_clock, input, summary="walk every workflow to its next action", **CLOCK
        )
        show("ready")
        return progress
