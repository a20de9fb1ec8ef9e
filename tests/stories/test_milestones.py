"""A funded campaign's money on its way to its owner, or back, through the public API, in the tenant's own time."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from benchmarks.distribution import seed
from cli.demo.world import CARD, Json, Person
from tests.fixtures.payouts import settle_transfer
from tests.fixtures.stage import NGN, Stage, events, together
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
WALLET = "wallet"
FAILS = "9001000011"
GRACE, WINDOW = 3, 7
KILLED_LINES = 600


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


def parts(*terms: tuple[int, int]) -> list[Json]:
    """Milestones: (share in basis points, days after the funding) each."""
    return [
        {"title": f"Part {number}", "share_bps": share, "due_days": days}
        for number, (share, days) in enumerate(terms, 1)
    ]


@dataclass
class Raised:
    """A funded campaign, its owner and its holders."""

    world: Stage
    campaign: str
    owner: Person
    holders: list[Person]

    @classmethod
    async def make(cls, world: Stage, *amounts: int, fee_bps: int = 0, **terms: Any) -> "Raised":
        """Each amount is a holder's; the campaign ends after a day."""
        await world.start_clock()
        owner = await world.person("business_owner")
        body = {"title": "Mama Kemi Bakery", "description": "A second oven.", "kind": "keep_what_you_raise",
                "goal": {"amount": sum(amounts), "currency": NGN},
                "deadline_at": (await world.business_now() + timedelta(days=1)).isoformat(), **terms}  # fmt: skip
        made = await owner.post("/v1/campaigns", body)
        world.workflow_ids.append(made["workflow_id"])
        review = {"decision": "approve", "platform_fee_bps": fee_bps}
        await world.admin.post(f"/v1/admin/campaigns/{made['id']}/verify", review)
        holders = [await world.person() for _ in amounts]
        pledges = await together(
            *(
                world.invest(who, made["id"], amount, "stripe", instrument=CARD)
                for who, amount in zip(holders, amounts, strict=True)
            )
        )
        for who, pledge in zip(holders, pledges, strict=True):
            await world.until(who, f"/v1/investments/{pledge['id']}", "captured")
        await world.advance(days=2)
        await world.until(world.admin, f"/v1/campaigns/{made['id']}", "funded")
        return cls(world, made["id"], owner, holders)

    def at(self, verb: str = "", number: int | None = None, *, admin: bool = False) -> str:
        one = "" if number is None else f"/milestones/{number}"
        return f"/v1/{'admin/' if admin else ''}campaigns/{self.campaign}{one}{verb}"

    async def seen(self) -> Json:
        found: Json = await self.owner.get(self.at("/milestones"))
        return found

    async def tranche(self, number: int) -> Json:
        found: Json = (await self.seen())["tranches"][number - 1]
        return found

    async def until(self, number: int, status: str) -> Json:
        found: Json = await self.world.until_true(
            lambda: self.tranche(number), lambda seen: seen["status"] == status, f"tranche {number} is {status}"
        )
        return found

    async def reach(self, number: int, destination: str = WALLET) -> Json:
        """The owner shows that it is reached, and an admin believes it."""
        body = {"evidence": "The oven is here.", "destination": destination}
        await self.owner.post(self.at("/evidence", number), body)
        found: Json = await self.world.admin.post(self.at("/approve", number, admin=True))
        return found

    async def vote(self, who: Person, choice: str, number: int = 1) -> Json:
        found: Json = await who.post(self.at("/votes", number), {"choice": choice})
        return found

    async def wallets(self) -> list[int]:
        return [await self.world.wallet(each) for each in self.holders]


@STORIES.tell
async def three_tranches_to_completed(world: Stage) -> None:
    """10 units in three parts, 1 % a fee: every unit is somewhere; then the profit period ends, and with it the campaign."""
    until = (await world.business_now() + timedelta(days=60)).date()
    fund = await Raised.make(
        world, 700_001, 300_000, fee_bps=100, milestones=parts((3_333, 10), (3_333, 20), (3_334, 30)),
        profit_until=f"{until}",
    )  # fmt: skip
    seen = await fund.seen()
    world.workflow_ids.append(seen["workflow_id"])
    amounts = [each["amount"]["amount"] for each in seen["tranches"]]
    assert amounts == [333_300, 333_300, 333_401] and sum(amounts) == 1_000_001
    for number in (1, 3, 2):
        await fund.reach(number)
    seen = await fund.seen()
    assert [each["status"] for each in seen["tranches"]] == ["released"] * 3
    assert (seen["released"]["amount"], seen["unsent"]["amount"], seen["in_escrow"]["amount"]) == (1_000_001, 0, 0)
    fees = sum(each["fee"]["amount"] for each in seen["tranches"])
    assert fees == 3_333 + 3_333 + 3_334
    assert await world.wallet(fund.owner) == 1_000_001 - fees
    refused = await fund.owner.call("POST", fund.at("/complete"))
    assert refused.json()["code"] == "profit_period_open", refused.text
    await world.advance(days=30)
    assert (await world.admin.get(fund.at()))["status"] == "funded", "the profit period is not over"
    await world.advance(days=32)
    done = await world.until(world.admin, fund.at(), "completed")
    assert events(done)[-1] == "campaign_completed"
    assert [each for each in events(done) if each.startswith("tranche_")].count("tranche_released") == 3
    for person in (fund.owner, fund.holders[0]):
        await world.mailed(person, "is completed")
    day = f"{(await world.business_now()).date() - timedelta(days=2)}"
    body = {"declared_profit": {"amount": 1, "currency": NGN}, "evidence": "The books.", "period_start": day,
            "period_end": day, "record_date": day}  # fmt: skip
    refused = await fund.owner.call("POST", fund.at("/distributions"), body)
    assert refused.json()["code"] == "campaign_completed", refused.text


@STORIES.tell
async def missed_and_the_rest_goes_back(world: Stage) -> None:
    """One part is released; the second is missed, and investors with 60 % want the rest back: it is decided at once."""
    fund = await Raised.make(
        world, 600_000, 300_000, 100_001, milestones=parts((5_000, 5), (2_500, 10), (2_500, 40)), fee_bps=200
    )
    ada, bem, chi = fund.holders
    world.workflow_ids.append((await fund.seen())["workflow_id"])
    await fund.reach(1)
    await world.advance(days=10 + GRACE - 3)
    early = await ada.call("POST", fund.at("/votes", 2), {"choice": "refund"})
    assert early.json()["code"] == "no_vote", early.text
    await world.advance(days=3)
    missed = await fund.until(2, "missed")
    assert missed["vote"]["electorate"]["amount"] == 1_000_001
    await world.mailed(bem, "please vote")
    await world.mailed(fund.owner, "missed a milestone")
    refused = await fund.owner.call("POST", fund.at("/votes", 2), {"choice": "extend"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_a_holder")
    await fund.vote(chi, "refund", 2)
    changed = await fund.vote(chi, "extend", 2)
    assert (changed["refund"]["amount"], changed["extend"]["amount"], changed["your_choice"]) == (0, 100_001, "extend")
    decided = await fund.vote(ada, "refund", 2)
    assert (decided["outcome"], decided["refund"]["amount"]) == ("refund", 600_000)
    late = await bem.call("POST", fund.at("/votes", 2), {"choice": "extend"})
    assert late.json()["code"] == "vote_closed", late.text
    for number in (2, 3):
        await fund.until(number, "returned")
    seen = await fund.seen()
    first, rest = seen["released"]["amount"], seen["returned"]["amount"]
    assert first + rest == 1_000_001 and seen["in_escrow"]["amount"] == 0
    wallets = await fund.wallets()
    assert sum(wallets) == rest
    assert [each - rest * held // 1_000_001 for each, held in zip(wallets, (600_000, 300_000, 100_001), strict=True)] in (
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]
    )  # fmt: skip
    await world.mailed(chi, "back from “Mama Kemi Bakery”")
    figures = (await ada.get(f"/v1/users/{ada.user_id}/dashboard"))["totals"][NGN]
    assert figures["given_back"]["amount"] == wallets[0] and figures["invested"]["amount"] == 600_000 - wallets[0]
    assert (await fund.owner.post(fund.at("/complete")))["status"] == "completed"


@STORIES.tell
async def missed_then_given_more_time(world: Stage) -> None:
    """Nobody wants the money back: the owner gets thirty days more, twice; evidence stops the clock; the third time it goes."""
    fund = await Raised.make(world, 500_000, 400_000, milestones=parts((4_000, 5), (6_000, 6)))
    ada, bem = fund.holders
    world.workflow_ids.append((await fund.seen())["workflow_id"])
    await world.advance(days=6 + GRACE)
    for number in (1, 2):
        await fund.until(number, "missed")
    await fund.vote(bem, "refund", 1)
    decided = await fund.vote(ada, "extend", 1)
    assert decided["outcome"] == "extend", "the others could not outvote more than half"
    await fund.until(1, "open")
    await world.mailed(fund.owner, "You have more time")
    await world.advance(days=WINDOW)
    second = await fund.until(2, "open")
    assert (second["extensions"], second["vote"]["outcome"]) == (1, "extend"), "who does not vote agrees to more time"
    body = {"evidence": "It is nearly here.", "destination": WALLET}
    await fund.owner.post(fund.at("/evidence", 1), body)
    await world.advance(days=30 + GRACE + 1)
    assert (await fund.tranche(1))["status"] == "submitted", "evidence under review is not missed"
    await world.admin.post(fund.at("/approve", 1, admin=True))
    assert await world.wallet(fund.owner) == 360_000
    await world.advance(days=WINDOW)
    assert (await fund.until(2, "open"))["extensions"] == 2
    await world.advance(days=30 + GRACE + 1)
    last = await fund.until(2, "returned")
    assert last["vote"]["outcome"] == "refund", "no third time: no vote either"
    assert await fund.wallets() == [300_000, 240_000]


@STORIES.tell
async def a_failed_payout_is_sent_again(world: Stage) -> None:
    """The only tranche goes to an account that cannot be paid, then to one whose bank returns it: it stays the owner's."""
    fund = await Raised.make(world, 300_000, fee_bps=1_000)
    await world.top_up(50_000_000)
    bad, good = await together(world.payee(fund.owner, FAILS), world.payee(fund.owner))
    for each in (bad, good):
        await world.until(fund.owner, f"/v1/beneficiaries/{each['id']}", "verified")
    sent = await fund.owner.post(fund.at("/payouts"), {"destination": bad["id"]})
    first = sent["tranches"][0]["payout"]
    await world.until(fund.owner, f"/v1/payouts/{first['id']}", "failed")
    tranche = await fund.tranche(1)
    assert (tranche["status"], tranche["payout"]["status"], tranche["unsent"]["amount"]) == (
        "released",
        "failed",
        270_000,
    )
    sent = await fund.owner.post(fund.at("/payouts"), {"destination": good["id"]})
    second = sent["tranches"][0]["payout"]
    twice = await fund.owner.call("POST", fund.at("/payouts"), {"destination": WALLET})
    assert twice.json()["code"] == "tranche_released", twice.text
    paid = await world.until(fund.owner, f"/v1/payouts/{second['id']}", "succeeded")
    assert (paid["reason"], paid["amount"]["amount"]) == ("owner_payout", 270_000)
    assert [(each["status"], each["taken"]) for each in await world.transfers()] == [
        ("failed", 0),
        ("success", 270_000),
    ]
    assert (await fund.tranche(1))["unsent"]["amount"] == 0 and await world.wallet(fund.owner) == 0
    await settle_transfer(world, paid, "returned")
    await world.until(fund.owner, f"/v1/payouts/{second['id']}", "returned")
    assert (await fund.tranche(1))["unsent"]["amount"] == 270_000
    await fund.owner.post(fund.at("/payouts"), {"destination": WALLET})
    assert (await fund.tranche(1))["unsent"]["amount"] == 0 and await world.wallet(fund.owner) == 270_000


async def test_a_worker_killed_in_the_middle_of_returning(told: Told, world: Stage) -> None:
    """`kill -9` when some lines are back and some are not: the next worker goes on there, and nobody is paid twice."""
    await told.everything()
    await world.start_clock()
    owner = await world.person("business_owner")
    cap = {"amount": 10**14, "currency": NGN}
    campaign = await world.campaign(
        "keep_what_you_raise", goal=1, cap=cap, owner=owner, milestones=parts((3_333, 5), (6_667, 300))
    )
    await seed(world.stack, world, campaign, owner.user_id, KILLED_LINES)
    fund = Raised(world, campaign, owner, [])
    await fund.reach(2)
    raised, left_in_escrow = (await fund.seen())["raised"]["amount"], (await fund.tranche(1))["amount"]["amount"]
    await world.sql(
        "update tranches set extensions = 2 where campaign_id = %(campaign)s returning 1", campaign=campaign
    )

    async def returned() -> tuple[int, int]:
        rows = await world.sql(
            "select count(*)::int as n, coalesce(sum(share_minor), 0)::bigint as minor from milestone_holders"
            " where tenant_id = %(tenant)s and status = 'credited'"
        )
        return int(rows[0]["n"]), int(rows[0]["minor"])

    async with world.before("milestone_holders", f"new.line_no = {KILLED_LINES} and new.status = 'credited'"):
        moving = asyncio.create_task(world.advance(days=5 + GRACE, hours=1))
        await world.until_true(returned, lambda so_far: so_far[0] > 0, "some is back")
        await asyncio.to_thread(world.stack.kill, "worker")
    paid, _ = await returned()
    assert 0 < paid < KILLED_LINES, "some were paid, and some were not"
    await asyncio.to_thread(world.stack.start, "worker")
    await moving
    await fund.until(1, "returned")
    assert await returned() == (KILLED_LINES, left_in_escrow)
    assert raised == left_in_escrow + (await fund.tranche(2))["amount"]["amount"]
