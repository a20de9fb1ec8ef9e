"""Investing at the edge, without Temporal: limits hold though every request has passed the door before one commits."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from domain.campaign import CampaignKind
from infra.database import Database
from models import ledger
from models.campaign import Campaign
from models.user import Role, User
from tests.api.test_webhooks import add_account
from tests.fixtures.api import Edge, assert_problem, set_scope
from tests.fixtures.hostile import fill_wallet
from tests.fixtures.pledges import TICKET, add_campaign
from tests.fixtures.postgres import add_tenant

RIVALS = 6


@pytest.fixture(autouse=True)
def account(edge: Edge) -> None:
    """A tenant with a Stripe account and one place to send payers back to."""
    edge.scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=edge.scope.mode)
    add_account(edge, "stripe", edge.scope)
    edge.sql("update tenant_settings set return_urls = %s", ["https://app.demo.test/done"])


async def open_campaign(edge: Edge, database: Database, **changes: object) -> Campaign:
    owner = edge.user(Role.BUSINESS_OWNER)
    deadline = datetime.now(UTC) + timedelta(days=30)
    kind = CampaignKind.ALL_OR_NOTHING
    return await add_campaign(database, edge.scope, owner.id, deadline_at=deadline, kind=kind, **changes)


async def invest(edge: Edge, user: User, campaign: Campaign, **changes: object) -> httpx.Response:
    body = {"amount": TICKET, "currency": "NGN", "provider": "stripe"} | changes
    headers = edge.headers(user, uuid4().hex)
    return await edge.http.post(f"/v1/campaigns/{campaign.id}/invest", json=body, headers=headers)


@dataclass(frozen=True)
class Queue:
    """A campaign's row taken by somebody else, and a superuser's eye on who waits for it."""

    edge: Edge
    watch: psycopg.Connection[Any]

    async def race(self, campaign: Campaign, users: list[User]) -> Counter[str]:
        """The outcomes of one investment each. Nobody goes on before all wait: who reads without waiting reads stale."""
        with psycopg.connect(self.edge.owner_url) as owner:
            set_scope(owner, self.edge.scope)
            owner.execute("select 1 from campaigns where id = %s for update", (campaign.id,))
            rivals = [asyncio.create_task(invest(self.edge, user, campaign)) for user in users]
            async with asyncio.timeout(20):
                while self._waiting() < len(users):  # noqa: ASYNC110 - other processes wait: there is no event
                    await asyncio.sleep(0.02)
        answers = await asyncio.gather(*rivals)
        return Counter("" if each.is_success else str(each.json()["code"]) for each in answers)

    def _waiting(self) -> int:
        query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        return int(self.watch.execute(query).fetchone()[0])


@pytest.fixture
def queue(edge: Edge, postgres: EmbeddedPostgres) -> Iterator[Queue]:
    with psycopg.connect(postgres.url(edge.owner_url.rpartition("/")[2]), autocommit=True) as watch:
        yield Queue(edge, watch)


async def test_one_investor_at_his_limit_many_times_at_once(edge: Edge, database: Database, queue: Queue) -> None:
    campaign = await open_campaign(edge, database, max_per_investor_minor=TICKET)
    assert await queue.race(campaign, [edge.user()] * RIVALS) == {"": 1, "investor_limit": RIVALS - 1}
    assert edge.count("investments", "campaign_id = %s", campaign.id) == 1


async def test_many_investors_at_the_last_places(edge: Edge, database: Database, queue: Queue) -> None:
    campaign = await open_campaign(edge, database, goal_minor=2 * TICKET, cap_minor=2 * TICKET)
    outcomes = await queue.race(campaign, [edge.user() for _ in range(RIVALS)])
    assert outcomes == {"": 2, "campaign_full": RIVALS - 2}
    [counted] = edge.sql("select pledged_minor from campaigns where id = %s", campaign.id)
    assert counted == (2 * TICKET,)


async def test_what_was_charged_back_counts_no_more(edge: Edge, database: Database) -> None:
    """Before its deadline: neither for the goal, nor in the escrow; and no refund of it is to be chosen."""
    ada, admin = edge.user(), edge.user(Role.ADMIN)
    owner, deadline = edge.user(Role.BUSINESS_OWNER), datetime.now(UTC) + timedelta(days=30)
    campaign = await add_campaign(database, edge.scope, owner.id, deadline_at=deadline)
    await fill_wallet(edge, ada, 2 * TICKET)
    made = [(await invest(edge, ada, campaign, provider="wallet")).json()["data"]["id"] for _ in range(2)]

    async def act(who: User, path: str, body: dict[str, str]) -> httpx.Response:
        return await edge.http.post(path, json=body, headers=edge.headers(who, uuid4().hex))

    charge_back, choose = f"/v1/admin/investments/{made[0]}/charge-back", f"/v1/investments/{made[0]}/refund-to"
    assert (await act(ada, choose, {"to": "wallet"})).status_code == 200
    assert (await act(admin, charge_back, {"reason": "Stolen card."})).status_code == 200
    assert_problem(await act(admin, charge_back, {"reason": "Stolen card."}), 409, "not_charged_back")
    assert_problem(await act(ada, choose, {"to": "source"}), 409, "refund_decided")
    assert (await act(ada, choose.replace(made[0], made[1]), {"to": "source"})).status_code == 200
    assert edge.sql("select captured_minor from campaigns where id = %s", campaign.id) == [(TICKET,)]
    async with database.transaction(edge.scope) as tx:
        [escrow] = await ledger.accounts(tx, f"escrow:{campaign.id}:")
    assert escrow.available_minor == TICKET


async def test_a_payer_is_sent_back_to_listed_places_only(edge: Edge, database: Database) -> None:
    campaign = await open_campaign(edge, database)
    for url in ("https://evil.test/done", "https://app.demo.test/donexyz"):
        refused = await invest(edge, edge.user(), campaign, return_url=url)
        assert_problem(refused, 422, "return_url_not_allowed")
    assert edge.count("payments") == 0
    assert (await invest(edge, edge.user(), campaign, return_url="https://app.demo.test/done")).status_code == 202


async def test_a_stranger_sees_no_investment_of_another(edge: Edge, database: Database) -> None:
    campaign, ada = await open_campaign(edge, database), edge.user()
    made = (await invest(edge, ada, campaign)).json()["data"]["id"]
    path = f"/v1/investments/{made}"
    assert (await edge.http.get(path, headers=edge.headers(ada))).status_code == 200
    for stranger in (edge.user(), edge.user(Role.BUSINESS_OWNER)):
        assert_problem(await edge.http.get(path, headers=edge.headers(stranger)), 404, "not_found")
