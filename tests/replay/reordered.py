"""Today's workflows with two commands in another order: what an innocent edit looks like to a running process."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.investment import InvestmentInput, InvestmentResult
    from contracts.payment import PaymentInput, PaymentProgress, PaymentResult
    from domain.investment import InvestmentStatus
    from workflows.investment import InvestmentWorkflow
    from workflows.notices import tell
    from workflows.payment import PaymentWorkflow


@workflow.defn(name="PaymentWorkflow")
class LooksUpBeforeItStarts(PaymentWorkflow):
    """The same steps, but the look-up comes before the first call."""

    @workflow.init
    def __init__(self, input: PaymentInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: PaymentInput) -> PaymentResult:
        return await super().run(input)

    async def _start(self) -> PaymentProgress:
        return await super()._check()

    async def _check(self) -> PaymentProgress:
        return await super()._start()


@workflow.defn(name="InvestmentWorkflow")
class TellsBeforeItCollects(InvestmentWorkflow):
    """The investor is told before the payment is collected."""

    @workflow.init
    def __init__(self, input: InvestmentInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: InvestmentInput) -> InvestmentResult:
        await tell(input.scope, input.investment_id)
        await self._collect()
        return InvestmentResult(status=InvestmentStatus.CAPTURED)
