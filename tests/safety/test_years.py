"""A hundred loan-years of timers pass in virtual time, each on its day, side by side on the real server."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client
from temporalio.testing import TimeSkipper, TimeSkippingConfig
from temporalio.worker import Worker

from infra.settings import Settings
from tests.fixtures.replay import replayer
from tests.safety.loan_year import MONTHS, Collections, Loan, LoanYearWorkflow, due

LOANS = 100
START = datetime(2027, 1, 15, 9, tzinfo=UTC)
LATE_AT_MOST = timedelta(minutes=1)


@pytest.mark.timeout(300)
async def test_a_hundred_loan_years(client: Client, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    skipping = TimeSkipper(client, config=TimeSkippingConfig(enabled=True, max_session_skip_count=1_000_000)).client
    collections = Collections()
    began = time.perf_counter()
    async with Worker(client, task_queue="loans", workflows=[LoanYearWorkflow], activities=[collections.collect]):
        handles = [
            await skipping.start_workflow(
                LoanYearWorkflow.run, Loan(name=f"loan {i}", as_of=START), id=f"loan-year/{i}", task_queue="loans"
            )
            for i in range(LOANS)
        ]
        ends = await asyncio.gather(*(handle.result() for handle in handles))
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n{LOANS} loan-years, {len(collections.taken)} instalments in virtual time: {seconds:.1f} s")

    assert Counter(each.name for each in collections.taken) == {f"loan {i}": MONTHS for i in range(LOANS)}
    for each in collections.taken:
        late = each.at - due(START, each.number)
        assert timedelta() <= late <= LATE_AT_MOST, f"{each} is {late} late"
    assert all(due(START, MONTHS) <= end <= due(START, MONTHS) + LATE_AT_MOST for end in ends)
    await replayer(settings, [LoanYearWorkflow]).replay_workflow(await handles[0].fetch_history())
