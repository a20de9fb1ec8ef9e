"""Investing as a stubborn client does, and the check that rows, counters, ledger and provider tell one story."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import httpx

from cli.demo.world import Json, Person, World
from domain.investment import InvestmentStatus, bucket

PENDING: Final = frozenset({"request_in_flight", "unavailable"})
"""Problem codes after which the same request under the same key is the thing to do."""


async def invest_stubbornly(
    person: Person, campaign_id: str, body: Json, key: str, seconds: float = 60
) -> httpx.Response:
    """POST one investment until it has an answer that is final, through 409 in flight, 503 and lost connections."""
    async with asyncio.timeout(seconds):
        pause = 0.05
        while True:
            try:
                answer = await person.call("POST", f"/v1/campaigns/{campaign_id}/invest", body, key)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.is_success or answer.json()["code"] not in PENDING:
                return answer
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.8)


def pledge(amount: int, provider: str, **more: Any) -> Json:
    """The body of an investment."""
    return {"amount": amount, "currency": "NGN", "provider": provider, **more}


@dataclass(frozen=True)
class Books:
    """A campaign as everybody has it. `investments` and `payments` by their id."""

    campaign: Json
    investments: dict[str, Json]
    payments: dict[str, Json]

    def statuses(self) -> Counter[str]:
        """How many investments are in each status."""
        return Counter(each["status"] for each in self.investments.values())


async def read_all(world: World, campaign_id: str) -> list[Json]:
    """Every investment of the campaign, as the administrator sees them."""
    found: list[Json] = []
    cursor = ""
    while True:
        answer = await world.admin.call("GET", f"/v1/investments?campaign_id={campaign_id}&limit=100{cursor}")
        content = answer.raise_for_status().json()
        found += content["data"]
        if not content["meta"].get("next_cursor"):
            return found
        cursor = f"&cursor={content['meta']['next_cursor']}"


async def agreed_books(world: World, campaign_id: str) -> Books:
    """Read the campaign everywhere and assert that all agree: rows, counters, escrow, and the provider's own book."""
    campaign = await world.admin.get(f"/v1/campaigns/{campaign_id}")
    investments = {each["id"]: each for each in await read_all(world, campaign_id)}
    read = await asyncio.gather(*(world.admin.get(f"/v1/payments/{i['payment_id']}") for i in investments.values()))
    payments = {each["id"]: each for each in read}
    sums: Counter[str] = Counter()
    for each in investments.values():
        sums[str(bucket(InvestmentStatus(each["status"])))] += each["amount"]["amount"]
    for name in ("pledged", "held", "captured"):
        assert campaign[name]["amount"] == sums[name], f"counter {name}: {campaign[name]} but rows say {sums}"
    escrow = await world.admin.get(f"/v1/accounts?prefix=escrow:{campaign_id}:")
    assert sum(each["posted"] for each in escrow) == sums["captured"], escrow
    assert sum(each["pending_in"] for each in escrow) == sums["held"], escrow
    await _provider_agrees(world, investments, payments)
    return Books(campaign, investments, payments)


async def _provider_agrees(world: World, investments: dict[str, Json], payments: dict[str, Json]) -> None:
    """What each provider kept for a pledge is its amount when it is captured, nothing otherwise; one payment a pledge."""
    book = {each["reference"]: each for name in ("stripe", "paystack") for each in await world.book(name)}
    for each in investments.values():
        if each["provider"] == "wallet":
            continue
        references = [attempt["reference"] for attempt in payments[each["payment_id"]]["attempts"]]
        theirs = [book[reference] for reference in references if reference in book]
        kept = [row["captured"] - row["refunded"] for row in theirs if row["captured"] != row["refunded"]]
        assert kept == ([each["amount"]["amount"]] if each["status"] == "captured" else []), (each, theirs)
        assert sum(bool(row["captured"]) for row in theirs) <= 1, theirs
