"""What is claimed in batches comes in batches, whatever plan the database chooses."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contracts.base import Scope
from infra.database import Database, Tx
from models.notification import claim_queued
from models.webhook import due_events
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import as_owner

MANY, LIMIT = 60, 25
_MESSAGES = """
insert into notifications (tenant_id, mode, id, subject_id, user_id, template, params, status, created_at)
select %(tenant)s, %(mode)s, 'ntf_' || n, 'pay_1', %(user)s, 'receipt', '{}', 'queued', now() from generate_series(1, %(n)s) n
"""
_EVENTS = """
insert into webhook_inbox (tenant_id, mode, account_id, provider, event_id, kind, raw, status)
select %(tenant)s, %(mode)s, 'acc_1', 'stripe', 'evt_' || n, 'x', '', 'received' from generate_series(1, %(n)s) n
"""
ONE_BY_ONE = [
    f"set local enable_{each} = off" for each in ("hashjoin", "mergejoin", "material", "memoize", "hashagg", "sort")
]
"""What makes a plan that looks each row up by itself look cheap."""
Claim = Callable[[Tx], Awaitable[list[Any]]]


@pytest.fixture
def waiting(database: Database, owner_url: str, scope: Scope) -> None:
    values = {"tenant": scope.tenant_id, "mode": str(scope.mode), "user": add_user(owner_url, scope), "n": MANY}
    with as_owner(owner_url) as connection:
        set_scope(connection, scope)
        for statement in (_MESSAGES, _EVENTS):
            connection.execute(statement, values)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("settings", [[], ONE_BY_ONE], ids=["as it likes", "one by one"])
@pytest.mark.parametrize(
    "claim", [lambda tx: claim_queued(tx, "pay_1", LIMIT), lambda tx: due_events(tx, LIMIT)], ids=["messages", "events"]
)
async def test_no_more_than_the_limit(database: Database, scope: Scope, claim: Claim, settings: list[str]) -> None:
    """`id in (select … limit n for update skip locked)` may run its subquery once a row, and then claims everything."""
    async with database.transaction(scope) as tx:
        for each in settings:
            await tx.execute(each)
        claimed = await claim(tx)
    assert len(claimed) == LIMIT


@pytest.mark.usefixtures("waiting")
async def test_events_come_oldest_first(database: Database, scope: Scope) -> None:
    async with database.transaction(scope) as tx:
        ids = [each.id for each in await due_events(tx, LIMIT)]
        later = [each.id for each in await due_events(tx, LIMIT)]
    assert (len(ids), len(later)) == (LIMIT, LIMIT)
    assert [*ids, *later] == sorted([*ids, *later], key=lambda each: each or 0)
