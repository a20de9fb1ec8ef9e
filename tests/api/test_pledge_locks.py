"""A pledge from a wallet and a card's money meet in one campaign, in the worst order: neither is the other's deadlock.

Both touch the stripe of the escrow's balance that their backends share, and both move the campaign's counters. The command is
run without its retries: what a deadlock broke, and a second try mended, would not be seen.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psycopg
import pytest

from api.auth import Principal
from api.commands import Unit
from api.investing import InvestRequest, invest
from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from domain import accounts
from domain.accounts import HOT_STRIPES, InsufficientFunds
from domain.campaign import CampaignKind
from domain.errors import Conflict, NotFound
from domain.money import Money
from infra.database import Database
from models import ledger
from models.user import Role
from tests.activities.test_payment_facts import captured, posted, tell
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import NGN, NOW, TICKET, Pledge, add_pledge, add_user
from tests.fixtures.postgres import role_url

WAIT_SECONDS = 20


@pytest.fixture
async def twins(owner_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two connections whose backends write to the same stripe."""
    found: dict[int, Database] = {}
    async with AsyncExitStack() as opened:
        while True:
            each = Database(role_url(owner_url, "chama_app"), name="test", max_size=1)
            await each.open()
            opened.push_async_callback(each.close)
            async with each.transaction() as tx:
                row = await (await tx.execute("select pg_backend_pid() as pid")).fetchone()
            assert row is not None
            stripe = row["pid"] % HOT_STRIPES
            if stripe in found:
                yield found[stripe], each
                return
            found[stripe] = each


async def pledge_from_wallet(db: Database, scope: Scope, user_id: str, campaign_id: str, amount: int = TICKET) -> None:
    async with db.transaction(scope) as tx:
        principal = Principal(user_id, Role.INVESTOR, scope)
        unit = Unit(tx, scope, principal, "campaign.invest", f"key-{user_id}", "", "req_1", NOW)
        await invest(unit, campaign_id, InvestRequest(amount=amount, currency=NGN, provider="wallet"))


async def fill(db: Database, scope: Scope, user_id: str, minor: int) -> None:
    posting = accounts.deposit_captured(
        f"in/{user_id}", provider="cash", user_id=user_id, amount=Money(minor, NGN), as_of=NOW
    )
    async with db.transaction(scope) as tx:
        await ledger.post(tx, posting)


def of_kind(owner_url: str, scope: Scope, pledge: Pledge, kind: CampaignKind) -> None:
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, scope)
        for guard in ("disable", "enable"):
            owner.execute(f"alter table campaigns {guard} trigger user".encode())
            if guard == "disable":
                owner.execute("update campaigns set kind = %s where id = %s", (str(kind), pledge.campaign.id))


@pytest.mark.parametrize("kind", list(CampaignKind))
async def test_a_wallet_pledge_waits_for_the_campaign_as_a_cards_money_does(
    twins: tuple[Database, Database], scope: Scope, owner_url: str, postgres: EmbeddedPostgres, kind: CampaignKind
) -> None:
    """The pledge is first in the row's queue; the card's money has booked, or wants to, and comes behind it."""
    wallet, card = twins
    pledge, ada = await add_pledge(card, scope, owner_url), add_user(owner_url, scope)
    of_kind(owner_url, scope, pledge, kind)
    early = add_user(owner_url, scope)
    for each in (early, ada):
        await fill(wallet, scope, each, TICKET)
    await pledge_from_wallet(wallet, scope, early, pledge.campaign.id)  # the first opens the escrow's account
    with psycopg.connect(postgres.url(owner_url.rpartition("/")[2]), autocommit=True) as watch:

        async def waiting(tasks: int) -> None:
            query = (
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            async with asyncio.timeout(WAIT_SECONDS):
                while watch.execute(query).fetchone() != (tasks,):  # noqa: ASYNC110 - other processes wait
                    await asyncio.sleep(0.02)

        with psycopg.connect(owner_url) as owner:
            set_scope(owner, scope)
            owner.execute("select 1 from campaigns where id = %s for update", (pledge.campaign.id,))
            first = asyncio.create_task(pledge_from_wallet(wallet, scope, ada, pledge.campaign.id))
            await waiting(1)
            second = asyncio.create_task(tell(card, scope, pledge, captured()))
            await waiting(2)
    assert await asyncio.gather(first, second, return_exceptions=True) == [None, None]
    taken = 2 * TICKET if kind is CampaignKind.KEEP_WHAT_YOU_RAISE else 0
    assert await posted(wallet, scope, f"escrow:{pledge.campaign.id}:NGN") == TICKET + taken


async def test_a_refusal_names_the_campaigns_rule_before_the_wallets(
    database: Database, scope: Scope, owner_url: str
) -> None:
    """Though the money is held before the campaign's row is: and nothing of the hold is left behind."""
    pledge, ada = await add_pledge(database, scope, owner_url), add_user(owner_url, scope)
    campaign = pledge.campaign.id
    with pytest.raises(NotFound):
        await pledge_from_wallet(database, scope, ada, "cmp_none")
    for amount, code in ((1, "below_minimum"), (10**9, "over_cap")):
        with pytest.raises(Exception) as refused:
            await pledge_from_wallet(database, scope, ada, campaign, amount)
        assert getattr(refused.value, "code", None) == code
    with pytest.raises(InsufficientFunds):
        await pledge_from_wallet(database, scope, ada, campaign)
    await fill(database, scope, ada, TICKET)
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, scope)
        owner.execute("update campaigns set status = 'paused' where id = %s", (campaign,))
    with pytest.raises(Conflict) as closed:
        await pledge_from_wallet(database, scope, ada, campaign)
    assert closed.value.code == "campaign_paused"
    assert await posted(database, scope, f"wallet:{ada}:NGN") == TICKET


async def test_a_campaign_that_closes_while_its_row_is_waited_for_keeps_no_hold(
    database: Database, scope: Scope, owner_url: str
) -> None:
    pledge, ada = await add_pledge(database, scope, owner_url), add_user(owner_url, scope)
    await fill(database, scope, ada, TICKET)
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, scope)
        owner.execute("update campaigns set status = 'paused' where id = %s", (pledge.campaign.id,))
        task = asyncio.create_task(pledge_from_wallet(database, scope, ada, pledge.campaign.id))
        await asyncio.sleep(0.3)
        assert not task.done(), "it has read the campaign as live, and waits for its row"
    with pytest.raises(Conflict) as refused:
        await task
    assert refused.value.code == "campaign_paused"
    async with database.transaction(scope) as tx:
        found = await ledger.balance(tx, f"wallet:{ada}:NGN")
    assert (found.posted_minor, found.pending_out_minor) == (TICKET, 0)
