"""BeneficiaryWorkflow (`beneficiary/<tenant>/<mode>/<ben_id>`): one check of an account outside, before money goes there.

pending → verified | needs_review | rejected
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.beneficiaries import BeneficiaryActivities
    from contracts.payout import BeneficiaryInput
    from domain.beneficiary import BeneficiaryStatus
    from workflows.notices import tell
    from workflows.options import GATEWAY
    from workflows.visibility import show

# Patches: none yet.


@workflow.defn(name="BeneficiaryWorkflow")
class BeneficiaryWorkflow:
    """Asks until the provider answers; a person decides what a name cannot."""

    @workflow.run
    async def run(self, input: BeneficiaryInput) -> BeneficiaryStatus:
        """Check, record, tell the owner."""
        progress = await workflow.execute_activity_method(
            BeneficiaryActivities.verify_beneficiary, input, summary="ask the bank whose account it is", **GATEWAY
        )
        show(progress.status)
        await tell(input.scope, input.beneficiary_id)
        return progress.status
