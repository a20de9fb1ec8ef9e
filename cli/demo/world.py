"""What a story needs: people with tokens, campaigns, the sandbox's levers, a clock. Everything goes over HTTP."""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from cli.seed import SeedResult, seed
from cli.stack.stack import Stack
from infra.outgoing import http_client
from sandbox import paystack_banks

Json = dict[str, Any]
PASSWORD: Final = "correct-horse-battery"  # noqa: S105 - made-up people of the sandbox tenant
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.02, 0.25
_PAGE_SECONDS: Final = 6.0
_LIMITS: Final = httpx.Limits(keepalive_expiry=2.0)
"""Idle connections are given up before the servers do it (after 5 s), perhaps in the middle of a request."""
CARD: Final = "pm_card_visa"
CARD_THAT_ASKS: Final = "pm_card_authenticationRequired"


class StoryFailed(Exception):
    """What a story expected did not happen; the message says what did."""


def expect(condition: bool, text: str) -> None:
    """Raise StoryFailed unless `condition`."""
    if not condition:
        raise StoryFailed(text)


def _pauses(seconds: float) -> Iterator[float]:
    """Seconds to wait between two looks, which sum to `seconds`: most things are done in a moment, and the others take long."""
    pause = _FIRST_LOOK_SECONDS
    while seconds > 0:
        yield pause
        seconds, pause = seconds - pause, min(1.5 * pause, _LOOK_SECONDS)


@dataclass
class Person:
    """Somebody with an account and a token."""

    http: httpx.AsyncClient
    user_id: str
    token: str = field(repr=False)
    _keys: "itertools.count[int]" = field(default_factory=itertools.count)
    _salt: str = field(default_factory=lambda: secrets.token_hex(6))

    async def call(self, method: str, path: str, body: Json | None = None, key: str | None = None) -> httpx.Response:
        """One request as this person; POSTs get a fresh Idempotency-Key unless one is given."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if method == "POST":
            headers["Idempotency-Key"] = key or f"{self._salt}-{next(self._keys)}"
        return await self.http.request(method, path, json=body, headers=headers)

    async def post(self, path: str, body: Json | None = None, key: str | None = None) -> Json:
        """POST that must succeed; the `data` of the answer."""
        data: Json = _data(await self.call("POST", path, body, key))
        return data

    async def get(self, path: str) -> Any:
        """GET that must succeed; the `data` of the answer."""
        return _data(await self.call("GET", path))


def _data(answer: httpx.Response) -> Any:
    expect(answer.is_success, f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
    return answer.json()["data"]


@dataclass
class World:
    """One tenant of its own per story, so that stories (and their clocks) do not disturb each other."""

    stack: Stack
    api: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    seeded: SeedResult
    admin: Person
    workflow_ids: list[str] = field(default_factory=list)

    @classmethod
    async def make(cls, stack: Stack, slug: str, *, provider_url: str | None = None) -> "World":
        """A fresh tenant with its provider accounts at the sandbox and its administrator logged in.

        `provider_url`: where our workers find the sandbox, if not at its own address.
        """
        sandbox_url = stack.urls["sandbox"]
        seeded = await seed(stack.settings, provider_url or sandbox_url, slug)
        api = http_client(base_url=stack.urls["api"], timeout=30, limits=_LIMITS)
        sandbox = http_client(base_url=sandbox_url, timeout=30, limits=_LIMITS)
        admin = await cls._log_in(api, seeded, seeded.admin_email, seeded.admin_password)
        return cls(stack, api, sandbox, seeded, admin)

    async def close(self) -> None:
        """Close the connections."""
        await self.api.aclose()
        await self.sandbox.aclose()

    @staticmethod
    async def _log_in(api: httpx.AsyncClient, seeded: SeedResult, email: str, password: str) -> Person:
        body = {"tenant": seeded.tenant, "mode": seeded.mode, "email": email, "password": password}
        data = _data(await api.post("/v1/auth/login", json=body))
        return Person(api, data["user"]["id"], data["access_token"])

    async def person(self, role: str = "investor") -> Person:
        """Sign somebody up and log in."""
        email = f"{role}-{secrets.token_hex(4)}@people.test"
        body = {"tenant": self.seeded.tenant, "mode": self.seeded.mode, "email": email, "password": PASSWORD,
                "name": f"Demo {role.replace('_', ' ').title()}", "role": role}  # fmt: skip
        _data(await self.api.post("/v1/auth/signup", json=body))
        return await self._log_in(self.api, self.seeded, email, PASSWORD)

    async def campaign(
        self,
        kind: str,
        *,
        goal: int,
        days: float = 30,
        currency: str = "NGN",
        owner: Person | None = None,
        **terms: Any,
    ) -> str:
        """A live campaign of `owner`, or of a new business owner; its id."""
        owner = owner or await self.person("business_owner")
        now = await self.business_now()
        body = {"title": "Mama Kemi Bakery", "description": "A second oven.", "kind": kind,
                "goal": {"amount": goal, "currency": currency},
                "deadline_at": (now + timedelta(days=days)).isoformat(), **terms}  # fmt: skip
        made = await owner.post("/v1/campaigns", body)
        self.workflow_ids.append(made["workflow_id"])
        await self.admin.post(f"/v1/admin/campaigns/{made['id']}/verify", {"decision": "approve"})
        return str(made["id"])

    async def invest(
        self, person: Person, campaign_id: str, amount: int, provider: str, currency: str = "NGN", **more: Any
    ) -> Json:
        """Pledge; the answer's data. What its payer has to do may come after the answer: then it is waited for."""
        body = {"amount": amount, "currency": currency, "provider": provider, **more}
        made = await person.post(f"/v1/campaigns/{campaign_id}/invest", body)
        self.workflow_ids.append(made["workflow_id"])
        asks = provider == "paystack" or (provider == "stripe" and more.get("instrument") in (None, CARD_THAT_ASKS))
        for pause in _pauses(_PAGE_SECONDS if asks else 0):
            if made["next_action"] is not None or made["status"] != "pledged":
                break
            await asyncio.sleep(pause)
            made = await person.get(f"/v1/investments/{made['id']}")
        return made

    async def next_action(self, person: Person, path: str) -> Json:
        """What the payer of this investment or payment has to do, once it is known: a page to pay on, for example."""
        found: Json = await self.until_true(
            lambda: person.get(path), lambda seen: seen["next_action"] is not None, f"{path} asks its payer"
        )
        action: Json = found["next_action"]
        return action

    async def deposit(self, person: Person, amount: int, currency: str = "NGN") -> None:
        """Top a wallet up by card, and wait for the money."""
        made = await person.post(
            "/v1/deposits", {"amount": amount, "currency": currency, "provider": "stripe", "instrument": CARD}
        )
        self.workflow_ids.append(made["workflow_id"])
        await self.until(person, f"/v1/payments/{made['id']}", "succeeded")

    async def payee(self, person: Person, number: str = "0123456789", currency: str = "NGN", bank: str = "058") -> Json:
        """Add the person's own account at a bank, under the name the bank has for it; it is being verified."""
        known = paystack_banks.find_bank(bank, currency)
        holder = paystack_banks.holder(known, number) if known else None
        body = {"currency": currency, "bank_code": bank, "account_number": number, "name": holder or "Nobody Known"}
        return await person.post("/v1/beneficiaries", body)

    async def top_up(self, amount: int, currency: str = "NGN") -> None:
        """The tenant pays money of its own into its account at Paystack, which transfers are paid from."""
        body = {"secret_key": self.seeded.sandbox_keys["paystack"], "currency": currency, "amount": amount}
        (await self.sandbox.post("/_sandbox/topup", json=body)).raise_for_status()

    async def transfers(self) -> list[Json]:
        """The provider's own record of this tenant's transfers."""
        answer = await self.sandbox.get("/_sandbox/book", params={"secret_key": self.seeded.sandbox_keys["paystack"]})
        found: list[Json] = answer.raise_for_status().json()["transfers"]
        return found

    async def pay_page(self, next_action: Json | None, button: str = "pay") -> None:
        """What a browser does on the hosted page: open it, press a button."""
        expect(next_action is not None and bool(next_action.get("redirect_url")), f"no page to pay on: {next_action}")
        assert next_action is not None
        opened = await self.sandbox.get(next_action["redirect_url"])
        expect(opened.is_success, f"the hosted page answered {opened.status_code}")
        pressed = await self.sandbox.post(next_action["redirect_url"], data={"choice": button})
        expect(pressed.status_code < 400, f"the hosted page refused the button: {pressed.status_code}")

    async def until(self, person: Person, path: str, *statuses: str, seconds: float = 60) -> Json:
        """Read the resource until its status is one of `statuses`."""
        wanted = f"{path} is {'/'.join(statuses)}"
        found: Json = await self.until_true(
            lambda: person.get(path), lambda seen: seen["status"] in statuses, wanted, seconds
        )
        return found

    async def until_true(
        self, read: Callable[[], Awaitable[Any]], good: Callable[[Any], bool], text: str, seconds: float = 60
    ) -> Any:
        """Read again and again until `good`; raises StoryFailed with the last thing read."""
        found: Any = None
        for pause in _pauses(seconds):
            found = await read()
            if good(found):
                return found
            await asyncio.sleep(pause)
        raise StoryFailed(f"waited {seconds:.0f} s for: {text}; last seen: {str(found)[:600]}")

    async def fault(self, provider: str, operation: str, kind: str, **more: Any) -> None:
        """Plan one fault at the sandbox."""
        body = {"secret_key": self.seeded.sandbox_keys[provider], "operation": operation, "kind": kind, **more}
        (await self.sandbox.post("/_sandbox/faults", json=body)).raise_for_status()

    async def faults_fired(self, provider: str) -> int:
        """How many planned faults of the account have fired."""
        answer = await self.sandbox.get("/_sandbox/faults", params={"secret_key": self.seeded.sandbox_keys[provider]})
        return sum(each["fired"] for each in answer.raise_for_status().json()["faults"])

    async def book(self, provider: str) -> list[Json]:
        """The provider's own record of this tenant's payments."""
        answer = await self.sandbox.get("/_sandbox/book", params={"secret_key": self.seeded.sandbox_keys[provider]})
        payments: list[Json] = answer.raise_for_status().json()["payments"]
        return payments

    async def start_clock(self) -> None:
        """Give the tenant a test clock, standing at the real time."""
        await self.admin.post("/v1/test-clock", {})

    async def business_now(self) -> datetime:
        """The tenant's business time."""
        answer = await self.admin.call("GET", "/v1/test-clock")
        return datetime.fromisoformat(answer.json()["data"]["now"]) if answer.is_success else datetime.now(UTC)

    async def advance(self, **delta: float) -> None:
        """Move the tenant's clock forward, and wait until everything due on the way has happened."""
        to = await self.business_now() + timedelta(**delta)
        await self.admin.post("/v1/test-clock/advance", {"to": to.isoformat()})
        clock = await self.until_true(
            lambda: self.admin.get("/v1/test-clock"), lambda c: c["status"] != "advancing", "the clock arrives", 120
        )
        expect(clock["status"] == "ready", f"the clock failed: {clock['error']}")
