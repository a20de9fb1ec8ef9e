"""When an investment's money moved, by its timeline."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.base import Scope
from infra.database import Database
from models import timeline
from models.investment import MONEY_MOVED
from tests.fixtures.distributions import Holders

AT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("events", "moved"),
    [
        (["investment_pledged", "investment_held", "investment_captured"], [-500]),
        (["investment_captured", "investment_refunding", "investment_refunded"], [-500, 500]),
        (["investment_captured", "investment_refunding", "investment_captured"], [-500]),
        (["investment_captured", "investment_refunding", "investment_captured", "investment_refunded"], [-500, 500]),
        (["investment_captured", "investment_charged_back"], [-500, 500]),
        (["investment_pledged", "investment_canceled"], []),
    ],
)
async def test_a_refund_that_failed_moves_nothing(
    database: Database, scope: Scope, owner_url: str, events: list[str], moved: list[int]
) -> None:
    holders = await Holders.make(database, scope, owner_url, 500)
    ((holder, investment),) = holders.pledges.items()
    async with database.transaction(scope) as tx:
        for number, event in enumerate(events):
            await timeline.record(tx, scope, [investment], event, AT + timedelta(days=number))
        params: dict[str, Any] = {"holder": holder}
        rows = await (await tx.execute(f"select * from ({MONEY_MOVED}) m order by seq", params)).fetchall()
    assert [row["minor"] for row in rows] == moved
