"""Many at once, round after round: pledges of all sizes at the cap, and pledge against deadline against cancel.

The real API, the real steps of the campaign's and the settlement's processes and the real Postgres, without the engine
between them, so that a thousand rounds take minutes: `CHAMA_TEST_RACES=1000`. With the engine: `tests/races`.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from activities.bulk_effects import BulkEffects
from activities.bulk_settlements import BulkSettlements
from activities.campaigns import CampaignActivities
from activities.effects import Effects
from activities.payment_steps import PaymentSteps
from activities.rails import Rails
from activities.refund_steps import RefundSteps
from activities.renewals import Renewals
from activities.settlements import SettlementActivities
from cli.audit import examine
from contracts.base import Mode, Scope
from contracts.campaign import CampaignTask, SettlementRange, SettlementTask
from domain.campaign import CampaignKind, CampaignStatus
from infra.database import Database
from models.user import Role, User
from tests.fixtures.api import Edge
from tests.fixtures.hostile import fill_wallet
from tests.fixtures.pledges import NGN, add_campaign
from tests.fixtures.postgres import add_tenant

ROUNDS = int(os.environ.get("CHAMA_TEST_RACES", "60"))
AT_ONCE, PLEDGES, CANCELS, PEOPLE = 5, 4, 2, 8
TICKET = 1_000
RICH = 1_000_000_000
ENDS = {"campaign_canceled", "campaign_successful", "campaign_failed"}


@dataclass
class Ring:
    """A tenant with an owner and investors, and the steps its processes would take."""

    edge: Edge
    database: Database
    http: httpx.AsyncClient
    scope: Scope
    owner: User
    investors: list[User] = field(default_factory=list)
    took: float = 0.0
    """Seconds a command takes here and now, lately."""

    def __post_init__(self) -> None:
        rails = Rails(self.edge.app.state.vault, self.http)
        effects = Effects(self.database)
        steps = PaymentSteps(self.database, rails, effects)
        refunds = RefundSteps(self.database, rails, effects)
        self._campaigns = CampaignActivities(self.database)
        bulk = BulkSettlements(self.database, rails, BulkEffects(self.database))
        renewals = Renewals(self.database, rails, effects, steps)
        self._settlements = SettlementActivities(self.database, steps, refunds, renewals, bulk)

    async def send(self, who: User, campaign: str, command: str, body: dict[str, Any]) -> str:
        """The command's outcome: `done`, or the code of its refusal."""
        headers, begun = self.edge.headers(who, uuid4().hex), time.monotonic()
        answer = await self.edge.http.post(f"/v1/campaigns/{campaign}/{command}", json=body, headers=headers)
        assert answer.status_code in (202, 409), answer.text
        self.took += (time.monotonic() - begun - self.took) / AT_ONCE
        return "done" if answer.is_success else str(answer.json()["code"])

    async def decide(self, campaign: str) -> None:
        """One step of the campaign's process, at this instant."""
        await self._campaigns.advance_campaign(self._task(campaign))

    async def finish(self, campaign: str) -> CampaignStatus:
        """Its further steps, and those of its settlement, until it has nothing more to do."""
        while not (progress := await self._campaigns.advance_campaign(self._task(campaign))).finished:
            assert progress.settlement_id is not None, progress
            now, settlement, last = datetime.now(UTC), progress.settlement_id, progress.settlement_lines
            reach = SettlementRange(scope=self.scope, settlement_id=settlement, first=1, last=last, as_of=now)
            await self._settlements.settle_range(reach)
            task = SettlementTask(scope=self.scope, settlement_id=settlement, as_of=now)
            assert (await self._settlements.settlement_progress(task)).open == 0
        return progress.status

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.edge.sql(statement, *params, scope=self.scope)

    def _task(self, campaign: str) -> CampaignTask:
        return CampaignTask(scope=self.scope, campaign_id=campaign, as_of=datetime.now(UTC))


@pytest.fixture
async def ring(edge: Edge, database: Database) -> AsyncIterator[Ring]:
    scope = Scope(tenant_id=add_tenant(edge.owner_url), mode=Mode.TEST)
    async with httpx.AsyncClient() as http:
        made = Ring(edge, database, http, scope, edge.user(Role.BUSINESS_OWNER, scope))
        theirs = Edge(edge.app, edge.http, edge.owner_url, scope, edge.settings)
        for _ in range(PEOPLE):
            investor = edge.user(Role.INVESTOR, scope)
            await fill_wallet(theirs, investor, RICH)
            made.investors.append(investor)
        yield made
    report = await examine(edge.settings)
    assert report["findings"] == [], "\n".join(report["findings"])


def pledge(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": NGN, "provider": "wallet"}


async def test_two_hundred_pledges_of_all_sizes_fill_the_cap_and_no_more(ring: Ring) -> None:
    chance, cap = random.Random(7), 150 * TICKET
    campaign = await add_campaign(
        ring.database, ring.scope, ring.owner.id, kind=CampaignKind.ALL_OR_NOTHING, goal_minor=cap, cap_minor=cap,
        deadline_at=datetime.now(UTC) + timedelta(hours=1), min_ticket_minor=1,
    )  # fmt: skip
    amounts = [chance.randint(1, 5) * TICKET + chance.randint(0, 9) for _ in range(200)]
    outcomes = await asyncio.gather(
        *(
            ring.send(ring.investors[number % PEOPLE], campaign.id, "invest", pledge(amount))
            for number, amount in enumerate(amounts)
        )
    )
    taken = [amount for amount, outcome in zip(amounts, outcomes, strict=True) if outcome == "done"]
    refused = [amount for amount, outcome in zip(amounts, outcomes, strict=True) if outcome != "done"]
    assert set(outcomes) <= {"done", "over_cap", "campaign_full"} and refused
    left = cap - sum(taken)
    assert left >= 0 and min(refused) > left, "nobody was refused who would have fitted"
    counters = ring.sql("select pledged_minor, held_minor, captured_minor from campaigns where id = %s", campaign.id)
    assert counters == [(0, sum(taken), 0)]
    rows = ring.sql("select amount_minor from investments where campaign_id = %s order by 1", campaign.id)
    assert [row[0] for row in rows] == sorted(taken)


@pytest.mark.timeout(120 + ROUNDS)
async def test_pledge_against_deadline_against_cancel_has_one_outcome_each(ring: Ring) -> None:
    places, ends, answers = asyncio.Semaphore(AT_ONCE), Counter[str](), Counter[str]()

    async def one(number: int) -> None:
        async with places:
            ended, seen = await _round(ring, number)
        ends[ended] += 1
        answers.update(seen)

    await asyncio.gather(*(one(number) for number in range(ROUNDS)))
    assert sum(ends.values()) == ROUNDS
    print(f"{ROUNDS} rounds: {dict(ends)}; commands: {dict(answers)}")
    assert min(ends[end] for end in ENDS) >= ROUNDS // 20, f"no race: {ends}"
    for code in ("done", "campaign_closed", "campaign_decided"):
        assert answers[code] >= ROUNDS // 20, f"no race: {answers}"
    captured = ring.sql("select coalesce(sum(captured_minor), 0)::bigint from campaigns")[0][0]
    wallets = [
        (await ring.edge.http.get("/v1/wallet", headers=ring.edge.headers(each))).json() for each in ring.investors
    ]
    assert sum(each["data"][0]["posted"] for each in wallets) == PEOPLE * RICH - captured
    assert {each["data"][0]["pending_out"] for each in wallets} == {0}


async def _round(ring: Ring, number: int) -> tuple[str, Counter[str]]:
    """One campaign whose deadline, cancels and pledges meet; how it ended, and each answer.

    A tenth of a second before the deadline the first ones come, on a slow machine earlier: there all would be late.
    """
    chance, beat = random.Random(number), max(0.1, 3 * ring.took)
    deadline_at = datetime.now(UTC) + timedelta(seconds=beat)
    goal = chance.randint(1, PLEDGES) * TICKET
    campaign = (
        await add_campaign(
            ring.database, ring.scope, ring.owner.id, kind=CampaignKind.ALL_OR_NOTHING, goal_minor=goal,
            cap_minor=PLEDGES * TICKET, min_ticket_minor=1, deadline_at=deadline_at, go_live_at=datetime.now(UTC),
        )
    ).id  # fmt: skip

    async def at(offset: float) -> None:
        await asyncio.sleep((deadline_at - datetime.now(UTC)).total_seconds() + offset * beat)

    async def invest(offset: float) -> str:
        await at(offset)
        return await ring.send(chance.choice(ring.investors), campaign, "invest", pledge(TICKET))

    async def cancel(offset: float) -> str:
        await at(offset)
        return await ring.send(ring.owner, campaign, "cancel", {"reason": "It rained."})

    async def decide() -> str:
        await at(0)
        await ring.decide(campaign)
        return "decided"

    jobs = [invest(chance.uniform(-0.9, 0.1)) for _ in range(PLEDGES)]
    jobs += [cancel(chance.uniform(-0.3, 0.6)) for _ in range(CANCELS)]
    outcomes = await asyncio.gather(*jobs, decide())
    pledged, canceled = Counter(outcomes[:PLEDGES]), Counter(outcomes[PLEDGES:-1])
    assert set(pledged) <= {"done", "campaign_closed"} and set(canceled) <= {"done", "campaign_decided"}, outcomes

    status = await ring.finish(campaign)
    story = [row[0] for row in ring.sql("select event from timeline where entity_id = %s order by seq", campaign)]
    ended = [event for event in story if event in ENDS]
    assert len(ended) == 1, story
    assert canceled["done"] == (ended == ["campaign_canceled"]), (canceled, story)
    if canceled["done"] == 0:
        assert (ended == ["campaign_successful"]) == (pledged["done"] * TICKET >= goal), (pledged, goal, story)
    kept = ended == ["campaign_successful"]
    assert status is (CampaignStatus.FUNDED if kept else CampaignStatus.CLOSED_FAILED), (status, story)
    rows = ring.sql("select status from investments where campaign_id = %s", campaign)
    assert Counter(row[0] for row in rows) == Counter(
        {"captured" if kept else "canceled": pledged["done"]} if rows else {}
    )
    assert len(rows) == pledged["done"], (rows, pledged)
    return ended[0], pledged + canceled
