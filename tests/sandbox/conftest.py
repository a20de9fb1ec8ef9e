"""A sandbox server and a webhook receiver, both over real HTTP on loopback."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.server import create_app, server_config

_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def running(config: uvicorn.Config) -> AsyncIterator[str]:
    """Serve in this loop; yields the base URL."""
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def running_sandbox(book: Path, smtp_port: int | None = None) -> AsyncIterator[tuple[str, Starlette]]:
    """A sandbox on this book."""
    app = create_app(book, smtp_port=smtp_port)
    async with running(server_config(app, "127.0.0.1", 0)) as url:
        yield url, app


@pytest.fixture(scope="module")
async def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_sandbox(tmp_path_factory.mktemp("sandbox") / "book.sqlite") as (url, _):
        yield url


@dataclass
class Received:
    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.raw)


@dataclass
class Receiver:
    url: str = ""
    events: list[Received] = field(default_factory=list)
    refuse: int = 0
    """How many of the next requests to answer with 500."""

    def of(self, mark: str) -> list[Received]:
        """Events whose body contains the mark."""
        return [e for e in self.events if mark.encode() in e.raw]

    async def take(self, mark: str, count: int = 1, seconds: float = 5) -> list[Received]:
        """Wait for that many events with the mark."""
        await eventually(lambda: len(self.of(mark)) >= count, seconds)
        return self.of(mark)


async def eventually(condition: Callable[[], Any], seconds: float = 5) -> None:
    """Wait until the (possibly async) condition holds."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    inbox = Receiver()

    async def hook(request: Request) -> Response:
        inbox.events.append(Received(dict(request.headers), await request.body(), time.monotonic()))
        if inbox.refuse:
            inbox.refuse -= 1
            return Response(status_code=500)
        return Response(status_code=200)

    app = Starlette(routes=[Route("/hook", hook, methods=["POST"])])
    async with running(uvicorn.Config(app, port=0, log_level="warning", access_log=False)) as url:
        inbox.url = f"{url}/hook"
        yield inbox


@dataclass
class Merchant:
    """One account and a client for it. `name` is in every reference it makes."""

    base: str
    provider: str
    key: str
    client: httpx.AsyncClient
    control: httpx.AsyncClient
    count: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def reference(self) -> str:
        return f"ref-{self.key[8:]}-{next(self.count)}"

    async def ask(self, method: str, path: str, **body: Any) -> Any:
        """A control call that must succeed."""
        if method == "POST":
            answer = await self.control.post(f"/_sandbox/{path}", json={"secret_key": self.key, **body})
        else:
            answer = await self.control.request(method, f"/_sandbox/{path}", params={"secret_key": self.key, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fault(self, operation: str, kind: str, **more: Any) -> None:
        await self.ask("POST", "faults", operation=operation, kind=kind, **more)

    async def payment(self, reference: str) -> dict[str, Any]:
        found = [p for p in (await self.ask("GET", "book"))["payments"] if p["reference"] == reference]
        assert len(found) == 1, found
        return found[0]

    async def post(self, path: str, data: dict[str, Any] | None = None, key: str | None = None) -> httpx.Response:
        """A call of the provider's API in its own encoding."""
        headers = {"Idempotency-Key": key} if key else {}
        if self.provider == "stripe":
            return await self.client.post(path, data=data or {}, headers=headers)
        return await self.client.post(path, json=data or {}, headers=headers)

    async def intent(self, amount: int = 5000, key: str | None = None, **more: Any) -> httpx.Response:
        """POST /v1/payment_intents with a reference."""
        reference = more.pop("reference", None) or self.reference()
        data = {"amount": amount, "currency": "usd", "metadata[reference]": reference, **more}
        return await self.post("/v1/payment_intents", data, key)


async def make_merchant(base: str, provider: str, webhook_url: str = "") -> Merchant:
    """Register a fresh account."""
    key = f"sk_test_{provider}{next(_numbers):05d}"
    client = httpx.AsyncClient(
        base_url=f"{base}/{provider}", headers={"Authorization": f"Bearer {key}"}, timeout=5, trust_env=False
    )
    merchant = Merchant(base, provider, key, client, httpx.AsyncClient(base_url=base, timeout=5, trust_env=False))
    secret = {"webhook_secret": f"whsec_{key}"} if provider == "stripe" else {}
    await merchant.ask("POST", "accounts", provider=provider, webhook_url=webhook_url, merchant="Umoja Co-op", **secret)
    return merchant


@contextlib.asynccontextmanager
async def merchant_at(base: str, provider: str, webhook_url: str = "") -> AsyncIterator[Merchant]:
    merchant = await make_merchant(base, provider, webhook_url)
    try:
        yield merchant
    finally:
        await merchant.client.aclose()
        await merchant.control.aclose()


@pytest.fixture
async def stripe(sandbox_url: str, receiver: Receiver) -> AsyncIterator[Merchant]:
    async with merchant_at(sandbox_url, "stripe", receiver.url) as merchant:
        yield merchant


@pytest.fixture
async def paystack(sandbox_url: str, receiver: Receiver) -> AsyncIterator[Merchant]:
    async with merchant_at(sandbox_url, "paystack", receiver.url) as merchant:
        yield merchant
