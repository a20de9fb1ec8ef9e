"""Investing under chaos: the ways to put money into a campaign, each with its planned end."""

import asyncio
import random
from typing import ClassVar, Final

from cli.chaos.crowd import Crowd
from cli.chaos.plan import Amiss, Evidence, Flow, Story
from cli.demo.world import CARD, Json, Person

DECLINED: Final = "pm_card_chargeDeclined"
_FAR: Final = 30 * 86_400.0
_PLENTY: Final = 10**12
"""A goal nobody reaches, and a cap nobody meets."""
_SETTLE_SECONDS_MIN: Final = 75.0
"""A campaign must end at least a minute after it is made."""


class Investing(Story):
    """One pledge. Subclasses say which campaign, how it is paid, and which ends are planned."""

    campaign: ClassVar[str] = "keep"
    ends: ClassVar[frozenset[str]] = frozenset({"captured"})
    provider: ClassVar[str] = "stripe"
    instrument: ClassVar[str | None] = CARD
    refusals: ClassVar[frozenset[str]] = frozenset()
    """Definite refusals that are as good an end as the planned one."""

    async def prepare(self, crowd: Crowd, chaos_seconds: float) -> None:
        """Its campaign, which other stories may share."""
        kind = "keep_what_you_raise" if self.campaign == "keep" else "all_or_nothing"
        await crowd.campaign(self.campaign, kind, goal=_PLENTY, seconds=_FAR)

    def plan(self, generator: random.Random, number: int, key: str, people: int) -> Flow:
        """An amount and a person."""
        return Flow(number, self, key, 100 * generator.randint(10, 90), generator.randrange(people))

    def body(self, flow: Flow) -> Json:
        """The request."""
        made: Json = {"amount": flow.amount, "currency": "NGN", "provider": self.provider}
        return made | ({"instrument": self.instrument} if self.instrument else {})

    def who(self, flow: Flow, crowd: Crowd) -> Person:
        """Whose money it is."""
        return crowd.people[flow.person]

    async def act(self, flow: Flow, crowd: Crowd) -> None:
        """Pledge."""
        path = f"/v1/campaigns/{crowd.campaign_id(self.campaign)}/invest"
        answer = await crowd.send(self.who(flow, crowd), "POST", path, self.body(flow), flow.key)
        if answer.is_success:
            flow.subject = answer.json()["data"]["id"]
        else:
            flow.refusal = answer.json()["code"]
        flow.answered = True

    def at_rest(self, flow: Flow, seen: Evidence) -> bool:
        """Refused, or in a planned state."""
        if flow.refusal is not None:
            return True
        row = seen.investments.get(flow.subject or "")
        return row is not None and row.status in self.ends

    def judge(self, flow: Flow, seen: Evidence) -> list[Amiss]:
        """Accepted = a row in a planned state; captured = taken once by provider and ledger; else nothing kept."""
        if not flow.answered:
            return [Amiss("stuck", flow, flow.error or "its client never got a final answer")]
        if flow.subject is None:
            refused = flow.refusal in self.refusals
            return [] if refused else [Amiss("wrong", flow, f"was refused with {flow.refusal}")]
        row = seen.investments.get(flow.subject)
        if row is None:
            return [Amiss("lost", flow, "was accepted, but there is no row")]
        found = []
        if row.status not in self.ends:
            found.append(Amiss("stuck", flow, f"is {row.status}, planned {'/'.join(sorted(self.ends))}"))
        due = row.amount if row.status == "captured" else 0
        at_provider = row.kept if self.provider != "wallet" else due
        if at_provider > due or row.claims > (row.status in ("captured", "held")):
            found.append(Amiss("doubled", flow, f"the provider keeps {row.kept} in {row.claims} payments, not {due}"))
        if at_provider < due:
            found.append(Amiss("lost", flow, f"the provider keeps {row.kept}, not {due}"))
        if due and (row.ledger > due or row.postings > 1):
            found.append(Amiss("doubled", flow, f"the ledger posted {row.ledger} in {row.postings}, not {due} in one"))
        if row.ledger < due:
            found.append(Amiss("lost", flow, f"the ledger posted {row.ledger}, not {due}"))
        return found


class Card(Investing):
    """A card, charged at once."""

    name, weight = "invest.card", 36


class Twice(Investing):
    """The same request under one key at both APIs at the same time."""

    name, weight = "invest.twice", 8

    async def act(self, flow: Flow, crowd: Crowd) -> None:
        """Pledge through both APIs; both answers must name one investment."""
        again = Flow(flow.number, self, flow.key, flow.amount, flow.person)
        await asyncio.gather(super().act(flow, crowd), super().act(again, crowd))
        if again.subject != flow.subject:
            flow.answered, flow.error = False, f"one key, two answers: {flow.subject} and {again.subject}"


class Wallet(Investing):
    """Money that is already inside."""

    name, weight = "invest.wallet", 12
    provider, instrument = "wallet", None

    def who(self, flow: Flow, crowd: Crowd) -> Person:
        """Somebody with a full wallet."""
        return crowd.wallets[flow.person % len(crowd.wallets)]


class Page(Investing):
    """The provider's hosted page, paid by a patient person."""

    name, weight = "invest.page", 12
    provider, instrument = "paystack", None

    async def act(self, flow: Flow, crowd: Crowd) -> None:
        """Pledge, wait for the page, press *pay*."""
        await super().act(flow, crowd)
        if flow.subject:
            await crowd.pay_page(self.who(flow, crowd), flow.subject)


class Declined(Investing):
    """A card that refuses: the pledge fails and no money moves."""

    name, weight = "invest.declined", 8
    instrument = DECLINED
    ends = frozenset({"failed"})


class Held(Investing):
    """A card authorized for a campaign that is still open."""

    name, weight = "invest.held", 10
    campaign = "open"
    ends = frozenset({"held"})


class Canceled(Investing):
    """A pledge taken back, whenever that catches it."""

    name, weight = "invest.canceled", 10
    campaign = "open"
    ends = frozenset({"canceled"})

    async def act(self, flow: Flow, crowd: Crowd) -> None:
        """Pledge, think, cancel."""
        await super().act(flow, crowd)
        if flow.subject:
            await asyncio.sleep(flow.amount / 4_000)
            path = f"/v1/investments/{flow.subject}/cancel"
            answer = await crowd.send(self.who(flow, crowd), "POST", path, {}, f"{flow.key}-cancel")
            if not answer.is_success:
                flow.answered, flow.error = False, f"the cancel was refused: {answer.status_code} {answer.text[:200]}"


class Settling(Investing):
    """A card authorized for an all-or-nothing campaign whose deadline comes in the middle of the chaos."""

    early = True
    goal: ClassVar[int] = _PLENTY
    settled: ClassVar[frozenset[str]]
    """How a pledge ends that was held when the deadline came."""
    refusals = frozenset({"campaign_closed"})

    async def prepare(self, crowd: Crowd, chaos_seconds: float) -> None:
        """A campaign of its own, decided at its deadline without waiting for slow money."""
        seconds = max(_SETTLE_SECONDS_MIN, chaos_seconds / 2)
        await crowd.campaign(
            self.campaign, "all_or_nothing", goal=self.goal, seconds=seconds, waiting_seconds=0, success_floor_bps=0,
            cap={"amount": _PLENTY, "currency": "NGN"},
        )  # fmt: skip

    def judge(self, flow: Flow, seen: Evidence) -> list[Amiss]:
        """What was held in time has one end only; the wide choice is for those that came late or never."""
        found = super().judge(flow, seen)
        row = seen.investments.get(flow.subject or "")
        if row is not None and row.held_in_time and row.status not in self.settled:
            found.append(Amiss("wrong", flow, f"was held at the deadline and is {row.status}"))
        return found


class Funded(Settling):
    """The goal is reached: everything held is captured. What was not yet held at the deadline is released."""

    name, weight = "settle.captured", 6
    campaign = "funded"
    goal = 1_000
    ends = frozenset({"captured", "canceled", "expired", "failed", "refunded"})
    settled = frozenset({"captured"})


class Released(Settling):
    """The goal is missed: everything held is given back."""

    name, weight = "settle.released", 6
    campaign = "missed"
    ends = frozenset({"canceled", "expired", "failed", "refunded"})
    settled = frozenset({"canceled"})
