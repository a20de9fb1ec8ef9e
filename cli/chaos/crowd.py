"""The people of a chaos run and the stage they act on: stubborn clients of two APIs, who repeat a request until it is final.

A stubborn client is what a careful integrator writes: the Idempotency-Key is made before the first try and kept, a lost
connection or a 5xx says nothing, and only a definite answer ends it.
"""

import asyncio
import itertools
from collections import Counter
from typing import Any, Final

import httpx

from cli.demo.world import Json, Person, World
from infra.outgoing import http_client

_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.2)
_AGAIN: Final = frozenset({"request_in_flight", "unavailable"})
"""Problem codes that ask for the same request again."""


class Crowd:
    """Everybody who uses the product in one run: sends each request to one of the APIs, and the repeats to the others."""

    def __init__(self, world: World, apis: list[str]) -> None:
        self.world = world
        self._http = [http_client(base_url=url, timeout=20, limits=httpx.Limits(keepalive_expiry=2.0)) for url in apis]
        self._turn = itertools.count()
        self._campaigns: dict[str, str] = {}
        self.people: list[Person] = []
        self.wallets: list[Person] = []
        self.retries: Counter[str] = Counter()
        """Why requests were repeated: the exception's name, or the status."""

    async def settle_in(self, people: int, wallets: int, wallet_minor: int) -> None:
        """Sign people up, and fill the wallets of the last `wallets` of them (minor units of NGN each)."""
        self.people = list(await asyncio.gather(*(self.world.person() for _ in range(people))))
        self.wallets = self.people[-wallets:]
        await asyncio.gather(*(self.world.deposit(each, wallet_minor) for each in self.wallets))

    async def campaign(self, name: str, kind: str, *, goal: int, seconds: float, **terms: Any) -> str:
        """The run's campaign called `name`, made when first asked for; its id."""
        if name not in self._campaigns:
            self._campaigns[name] = await self.world.campaign(kind, goal=goal, days=seconds / 86_400, **terms)
        return self._campaigns[name]

    def campaign_id(self, name: str) -> str:
        """The id of a campaign made by `campaign`."""
        return self._campaigns[name]

    async def send(
        self, person: Person, method: str, path: str, body: Json | None = None, key: str = ""
    ) -> httpx.Response:
        """The final answer to one request, however often it must be repeated. Ends only by an answer or by cancellation."""
        headers = {"Authorization": f"Bearer {person.token}"} | ({"Idempotency-Key": key} if key else {})
        first = next(self._turn)
        for attempt in itertools.count():
            http = self._http[(first + attempt) % len(self._http)]
            try:
                answer = await http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                self.retries[type(error).__name__] += 1
            else:
                if answer.status_code < 500 and not (answer.status_code >= 400 and _code(answer) in _AGAIN):
                    return answer
                self.retries[str(answer.status_code)] += 1
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
        raise AssertionError("itertools.count ended")

    async def pay_page(self, person: Person, investment_id: str) -> None:
        """Wait for the hosted page's address and press *pay* there, as a browser with a patient person does."""
        while True:
            answer = await self.send(person, "GET", f"/v1/investments/{investment_id}")
            seen = answer.raise_for_status().json()["data"]
            if seen["status"] not in ("pledged", "awaiting_payment"):
                return
            page = (seen.get("next_action") or {}).get("redirect_url")
            if page and await self._press(page):
                return
            await asyncio.sleep(0.5)

    async def _press(self, page: str) -> bool:
        """Whether the page took the button; a sandbox that is down is tried again."""
        try:
            pressed = await self.world.sandbox.post(page, data={"choice": "pay"}, timeout=5)
        except httpx.TransportError:
            return False
        return pressed.status_code < 400

    async def close(self) -> None:
        """Close every connection."""
        for http in self._http:
            await http.aclose()
        await self.world.close()


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("code", ""))
    except (ValueError, AttributeError):
        return ""
