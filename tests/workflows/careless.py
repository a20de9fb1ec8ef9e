"""A workflow file as it must not be: it imports a heavy module outside the passthrough block."""

import httpx
from temporalio import workflow


@workflow.defn
class CarelessWorkflow:
    @workflow.run
    async def run(self) -> str:
        return httpx.__version__
