"""A provider that says what a test tells it to, over real HTTP on loopback, and records what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.gateways.contract import Contract


@dataclass
class Asked:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def params(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedProvider:
    """Answers from `replies`, in order; every request must have one. Each request is checked against `contract`."""

    url: str = ""
    contract: Contract | None = None
    replies: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def will_say(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> "ScriptedProvider":
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.replies.append((status, raw, headers or {}))
        return self

    async def handle(self, request: Request) -> Response:
        asked = Asked(
            request.method,
            request.scope["raw_path"].decode(),
            request.url.query,
            dict(request.headers),
            await request.body(),
        )
        self.asked.append(asked)
        try:
            assert self.contract is not None
            self.contract.check_request(
                asked.method, asked.path, asked.query, asked.headers.get("content-type", ""), asked.body
            )
        except Exception as error:
            self.violations.append(f"{asked.method} {asked.path}: {error}")
        if not self.replies:
            self.violations.append(f"unexpected {asked.method} {asked.path}")
            return Response(b"{}", 500)
        status, body, headers = self.replies.pop(0)
        return Response(body, status, {"Content-Type": "application/json"} | headers)

    def reset(self, contract: Contract) -> None:
        self.contract = contract
        self.replies.clear()
        self.asked.clear()
        self.violations.clear()


@asynccontextmanager
async def serve_config(config: uvicorn.Config) -> AsyncIterator[str]:
    """Run uvicorn in this loop; yields the URL. Port 0 takes a free one."""
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def serve(app: Starlette) -> AbstractAsyncContextManager[str]:
    """The same for a plain app."""
    return serve_config(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))


@asynccontextmanager
async def scripted_provider() -> AsyncIterator[ScriptedProvider]:
    provider = ScriptedProvider()
    route = Route("/{path:path}", provider.handle, methods=["GET", "POST"])
    async with serve(Starlette(routes=[route])) as url:
        provider.url = url
        yield provider
