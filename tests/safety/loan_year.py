"""A year of a loan, until there are loans: twelve instalments on the same day of the month, by business time."""

from datetime import datetime, timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from contracts.base import Message
    from workflows.business_time import BusinessTime

MONTHS = 12


class Loan(Message):
    name: str
    as_of: datetime


class Instalment(Message):
    name: str
    number: int
    at: datetime


def due(start: datetime, number: int) -> datetime:
    """The same day `number` months on."""
    years, month = divmod(start.month - 1 + number, 12)
    return start.replace(year=start.year + years, month=month + 1)


@workflow.defn
class LoanYearWorkflow:
    @workflow.init
    def __init__(self, loan: Loan) -> None:
        self._time = BusinessTime(loan.as_of)

    @workflow.run
    async def run(self, loan: Loan) -> datetime:
        for number in range(1, MONTHS + 1):
            await workflow.sleep(self._time.until(due(loan.as_of, number)))
            paid = Instalment(name=loan.name, number=number, at=self._time.now())
            await workflow.execute_activity("collect", paid, start_to_close_timeout=timedelta(seconds=30))
        return self._time.now()


class Collections:
    """What was collected, and when by business time."""

    def __init__(self) -> None:
        self.taken: list[Instalment] = []

    @activity.defn
    async def collect(self, instalment: Instalment) -> None:
        self.taken.append(instalment)
