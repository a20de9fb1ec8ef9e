"""Money does not wait for mail: what cannot be sent in a moment is another process's work, which sends it in the end."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.notifications import NotificationActivities
from contracts.base import Scope
from contracts.campaign import SettlementInput
from contracts.ids import workflow_id
from contracts.inbox import INBOX, InboxInput, InboxProgress
from contracts.outbox import OutboxKind
from infra.database import Database
from infra.delivery import deliver
from infra.settings import Settings
from models import outbox
from models.notification import notify
from tests.activities.test_notifications import PARAMS
from tests.fixtures.mail import Exchange
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import free_port
from tests.safety.test_continuing import Counters
from worker import WORKFLOWS

MOMENT = 30
"""Far more than the moment it may take on a busy machine, and far less than the hour a mail server may be away."""


async def queued(database: Database, owner_url: str, scope: Scope, subject: str) -> None:
    payer = add_user(owner_url, scope)
    async with database.transaction(scope) as tx:
        await notify(
            tx, scope, subject_id=subject, user_id=payer, template="receipt", params=PARAMS, as_of=datetime.now(UTC)
        )


async def handed_over(database: Database, scope: Scope) -> list[outbox.Leased]:
    async with database.transaction(scope) as tx:
        return await outbox.claim(tx, 10, timedelta(minutes=1))


@pytest.mark.parametrize("process", ["SettlementWorkflow", "InboxWorkflow"])
async def test_a_dead_mail_server_holds_up_no_money(
    client: Client, database: Database, owner_url: str, scope: Scope, process: str
) -> None:
    counters, queue, port = Counters(), f"telling-{secrets.token_hex(4)}", free_port()
    counters.open_lines, counters.drained = 1, InboxProgress(processed=1, notices=True)
    real = NotificationActivities(database, Settings(smtp_port=port)).send_notifications
    activities = [*(each for each in counters.activities if each.__name__ != real.__name__), real]  # type: ignore[attr-defined]
    settlement = SettlementInput(scope=scope, settlement_id="set_1", lines=1, as_of=datetime.now(UTC))
    noun, subject, input = {
        "SettlementWorkflow": ("settlement", "set_1", settlement),
        "InboxWorkflow": ("inbox", INBOX, InboxInput(scope=scope)),
    }[process]
    await queued(database, owner_url, scope, subject)
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, activities=activities):  # type: ignore[arg-type]
        id = workflow_id(noun, scope, subject)
        handle = await client.start_workflow(process, input, id=id, task_queue=queue)
        await asyncio.wait_for(handle.result(), MOMENT)
        ((message, _),) = await handed_over(database, scope)
        assert (message.kind, message.workflow_type) == (OutboxKind.START, "NoticesWorkflow")
        await deliver(client, message.model_copy(update={"task_queue": queue}))
        exchange = Exchange(8, politely=True)
        async with exchange.open(port):
            sent = await asyncio.wait_for(client.get_workflow_handle(message.workflow_id).result(), 2 * MOMENT)
    assert sent == len(exchange.taken) == 1
