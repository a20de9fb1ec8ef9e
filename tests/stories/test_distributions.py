"""A funded campaign's profit on its way to its holders, through the public API, in the tenant's own time."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from benchmarks.distribution import seed
from cli.demo.world import CARD, Json, Person
from tests.fixtures.stage import NGN, Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
LAGOS = ZoneInfo("Africa/Lagos")
PAID, REFUSED = "credited_to_wallet", "carried_forward"
KILLED_LINES = 600


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def verified(world: Stage, who: Person, level: int) -> None:
    """An administrator says how well the person is known."""
    await world.admin.post(
        f"/v1/admin/users/{who.user_id}/verification", {"kyc_level": level, "reason": "The papers were seen."}
    )


@dataclass
class Fund:
    """A funded campaign, its owner with money to share out, its holders, and the second administrator."""

    world: Stage
    campaign: str
    owner: Person
    holders: list[Person]
    pledges: list[Json]

    @classmethod
    async def raised(cls, world: Stage, *amounts: int, owner_has: int = 0, **terms: Any) -> "Fund":
        """Each amount is a holder's; the campaign ends after a day."""
        await world.start_clock()
        owner = await world.person("business_owner")
        campaign = await world.campaign(
            "keep_what_you_raise", goal=sum(amounts), days=1, owner=owner, **{"profit_share_bps": 5_000, **terms}
        )
        holders = [await world.person() for _ in amounts]
        for who in holders if terms.get("min_kyc_level") else ():
            await verified(world, who, terms["min_kyc_level"])
        pledges = await together(
            *(
                world.invest(who, campaign, amount, "stripe", instrument=CARD)
                for who, amount in zip(holders, amounts, strict=True)
            )
        )
        for who, made in zip(holders, pledges, strict=True):
            await world.until(who, f"/v1/investments/{made['id']}", "captured")
        if owner_has:
            await world.deposit(owner, owner_has)
        await world.advance(days=2)
        await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
        return cls(world, campaign, owner, holders, pledges)

    async def declare(self, profit: int, *, days: int = 90, **terms: Any) -> Json:
        """The owner declares the profit of the last `days` days, with yesterday as the record date."""
        yesterday = (await self.world.business_now()).astimezone(LAGOS).date() - timedelta(days=1)
        body = {"declared_profit": {"amount": profit, "currency": NGN}, "evidence": "The books of the quarter.",
                "period_start": f"{yesterday - timedelta(days=days - 1)}", "period_end": f"{yesterday}",
                "record_date": f"{yesterday}", **terms}  # fmt: skip
        found: Json = await self.owner.post(f"/v1/campaigns/{self.campaign}/distributions", body)
        return found

    def at(self, run: Json, verb: str = "") -> str:
        return f"/v1/campaigns/{self.campaign}/distributions/{run['id']}{verb}"

    async def until(self, run: Json, *statuses: str) -> Json:
        return await self.world.until(self.owner, self.at(run), *statuses)

    async def calculated(self, run: Json) -> Json:
        await self.owner.post(self.at(run, "/calculate"))
        self.world.workflow_ids.append(run["workflow_id"])
        return await self.until(run, "calculated")

    async def approved(self, run: Json) -> None:
        """Calculated, submitted by the owner and approved by an administrator."""
        await self.calculated(run)
        await self.owner.post(self.at(run, "/submit"))
        await self.world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")

    async def paid(self, run: Json, *statuses: str) -> Json:
        await self.approved(run)
        found = await self.until(run, *(statuses or ("paid",)))
        client = await self.world.temporal()
        assert await client.get_workflow_handle(run["workflow_id"]).result() == found["status"]
        return found

    async def lines(self, run: Json) -> dict[str, Json]:
        """By holder."""
        found = await self.owner.get(self.at(run, "/lines"))
        return {each["holder_id"]: each for each in found}

    async def wallets(self) -> list[int]:
        return [await self.world.wallet(each) for each in self.holders]


@STORIES.tell
async def from_profit_to_wallets(world: Stage) -> None:
    """Half of NGN 9,000.00, three holders, tax and a fee: every unit is somewhere, and everybody is told."""
    fund = await Fund.raised(world, 300_000, 200_000, 100_000, owner_has=500_000)
    run = await fund.paid(await fund.declare(900_000, tax_bps=1_000, platform_fee_bps=100))
    assert run["totals"] == {
        "share": 450_000, "carried_in": 0, "adjustment": 0, "gross": 450_000, "tax": 45_000, "platform_fee": 4_500,
        "provider_fee": 0, "net": 400_500, "carried_out": 0,
    }  # fmt: skip
    assert run["counts"] == [{"status": PAID, "lines": 3, "net": 400_500}]
    assert await fund.wallets() == [200_250, 133_500, 66_750]
    assert await world.wallet(fund.owner) == 50_000
    assert events(run)[-2:] == ["distribution_paying", "distribution_paid"]
    own = await fund.holders[0].get(f"/v1/users/{fund.holders[0].user_id}/distributions")
    assert [(each["figures"]["net"], each["status"]) for each in own] == [(200_250, PAID)]
    await world.mailed(fund.holders[2], "from “Mama Kemi Bakery”")


@STORIES.tell
async def unfunded_it_waits(world: Stage) -> None:
    """Approved, and the money is not there: the run says so and waits, looks by itself, and goes on when it has come."""
    fund = await Fund.raised(world, 300_000, 100_000)
    run = await fund.declare(800_000)
    await fund.approved(run)
    path = fund.at(run)
    await world.until_true(
        lambda: fund.owner.get(path), lambda seen: seen["blocked_reason"] == "not_funded", "the run waits for its money"
    )
    await world.until_rest()
    before = await world.rows()
    answer = await fund.owner.call("POST", fund.at(run, "/fund"))
    assert (answer.status_code, answer.json()["code"]) == (409, "not_funded")
    assert await world.rows() == before, "a refusal leaves nothing behind"
    await world.deposit(fund.owner, 399_999)
    await world.advance(hours=7)
    seen = await fund.owner.get(path)
    assert (seen["status"], seen["blocked_reason"]) == ("funding", "not_funded"), "one unit is missing"
    await world.deposit(fund.owner, 1)
    await fund.owner.post(fund.at(run, "/fund"))
    await fund.until(run, "paid")
    assert await fund.wallets() == [300_000, 100_000]
    assert await world.wallet(fund.owner) == 0


@STORIES.tell
async def sent_back_then_canceled(world: Stage) -> None:
    """A second person sends it back; it is calculated anew; then its owner gives it up, and the period is free."""
    fund = await Fund.raised(world, 300_000, 100_000, owner_has=500_000)
    run = await fund.declare(800_000, dry_run=True)
    tried = await fund.calculated(run)
    assert tried["totals"]["net"] == 400_000 and tried["counts"] == [], "the totals stay, the lines do not"
    answer = await fund.owner.call("POST", fund.at(run, "/submit"))
    assert answer.json()["code"] == "is_dry_run"
    run = await fund.declare(800_000)
    await fund.calculated(run)
    await fund.owner.post(fund.at(run, "/submit"))
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/reject", {"reason": "Where are the invoices?"})
    await fund.until(run, "calculated")
    await fund.approved(run)
    await fund.until(run, "paying", "paid")
    second = await fund.declare(200_000, period_start="2020-01-01", period_end="2020-03-31")
    await fund.calculated(second)
    await fund.owner.post(fund.at(second, "/submit"))
    canceled = await fund.owner.post(fund.at(second, "/cancel"), {"reason": "Counted twice."})
    assert canceled["status"] == "canceled"
    await fund.declare(200_000, period_start="2020-01-01", period_end="2020-03-31")
    await fund.until(run, "paid")
    assert await fund.wallets() == [300_000, 100_000] and await world.wallet(fund.owner) == 100_000


@STORIES.tell
async def a_held_line_is_let_go(world: Stage) -> None:
    """One holder's payouts are held: the others are paid, the line waits, and is paid when it is let go."""
    fund = await Fund.raised(world, 300_000, 100_000, owner_has=400_000)
    ada, bem = fund.holders
    hold = f"/v1/admin/users/{bem.user_id}/payout-hold"
    await world.admin.post(hold, {"held": True, "reason": "No passport yet."})
    run = await fund.paid(await fund.declare(800_000), "partially_paid")
    assert run["blocked_reason"] == "unpaid_lines"
    assert [(each["status"], each["net"]) for each in run["counts"]] == [(PAID, 300_000), ("held", 100_000)]
    await world.mailed(bem, "is waiting for you")
    retry = f"/v1/admin/distributions/{run['id']}/retry"
    assert (await world.admin.call("POST", retry)).json()["code"] == "nothing_to_retry", "it is held still"
    await world.admin.post(hold, {"held": False, "reason": "Seen."})
    await world.admin.post(retry)
    await fund.until(run, "paid")
    assert await fund.wallets() == [300_000, 100_000]
    await world.mailed(bem, "from “Mama Kemi Bakery”")
    assert len([mail for mail in await world.mails(ada) if "from “" in mail]) == 1, (
        "only the failed line was tried again"
    )


@STORIES.tell
async def two_quarters_and_a_late_chargeback(world: Stage) -> None:
    """Too little is carried into the next quarter; what a charged-back holder had of the first is taken back in the second."""
    fund = await Fund.raised(world, 600_000, 399_000, 1_000, owner_has=900_000)
    ada, bem, chi = fund.holders
    first = await fund.paid(await fund.declare(1_000_000, days=10, minimum_payout=1_000))
    assert await fund.wallets() == [300_000, 199_500, 0], "NGN 5.00 are below the minimum"
    assert first["totals"]["carried_out"] == 500
    await world.advance(days=90)
    # Bem's bank takes half of what the campaign is built on back, on a day after the first record date.
    await world.admin.post(f"/v1/admin/investments/{fund.pledges[1]['id']}/charge-back", {"reason": "Stolen card."})
    await world.advance(days=2)
    before = await fund.lines(first)
    run = await fund.paid(await fund.declare(601_000, days=60, minimum_payout=300))
    lines = await fund.lines(run)
    after = await fund.lines(first)
    assert after[chi.user_id].pop("carried_into") == run["id"] and before[chi.user_id].pop("carried_into") is None
    assert after == before, "the past does not change"
    assert lines[ada.user_id]["figures"]["share"] == 300_000 and lines[chi.user_id]["figures"]["share"] == 500
    assert lines[chi.user_id]["figures"]["carried_in"] == 500 and lines[chi.user_id]["figures"]["net"] == 1_000
    owes = lines[bem.user_id]
    assert (owes["figures"]["adjustment"], owes["figures"]["carried_out"], owes["status"]) == (
        -199_500,
        -199_500,
        REFUSED,
    )
    assert await fund.wallets() == [600_000, 199_500, 1_000]
    answer = await fund.owner.call("POST", fund.at(run, "/cancel"), {"reason": "Too late."})
    assert answer.json()["code"] == "distribution_paying"


async def test_a_worker_killed_in_the_middle_of_paying(told: Told, world: Stage) -> None:
    """`kill -9` when some lines are paid and some are not: the next worker goes on there, and nobody is paid twice."""
    await told.everything()
    owner = await world.person("business_owner")
    campaign = await world.campaign(
        "keep_what_you_raise", goal=1, cap={"amount": 10**14, "currency": NGN}, owner=owner, profit_share_bps=10_000
    )
    await seed(world.stack, world, campaign, owner.user_id, KILLED_LINES)
    fund = Fund(world, campaign, owner, [], [])
    run = await fund.declare(KILLED_LINES * 1_000, tax_bps=1_000)

    async def paid() -> int:
        rows = await world.sql(
            "select count(*)::int as n from distribution_lines where tenant_id = %(tenant)s and status = %(paid)s",
            paid=PAID,
        )
        return int(rows[0]["n"])

    async with world.before("distribution_lines", f"new.line_no = {KILLED_LINES} and new.status = '{PAID}'"):
        await fund.approved(run)
        await world.until_true(paid, bool, "some are paid")
        await asyncio.to_thread(world.stack.kill, "worker")
    assert 0 < await paid() < KILLED_LINES, "some were paid, and some were not"
    await asyncio.to_thread(world.stack.start, "worker")
    seen = await fund.until(run, "paid")
    assert seen["counts"] == [{"status": PAID, "lines": KILLED_LINES, "net": seen["totals"]["net"]}]
    assert seen["totals"]["net"] + seen["totals"]["tax"] == KILLED_LINES * 1_000
    assert await world.wallet(owner) == 0
