"""Reads through the API beside bare FastAPI on the same rows: one row, and a page of fifty. 32 connections, one process each.

Before anything is measured both sides must answer the same document, but for the envelope and how a time is spelt.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from benchmarks.measure import Ratio, rate, side_by_side
from cli.demo.world import World
from cli.stack.stack import Stack

_CONNECTIONS = 32
_EACH = 40
_ROUNDS = 9
"""More and longer rounds than elsewhere: a request is short, and whoever shares the machine shows in each."""
_INVESTMENTS = 60
_PAGE = 50
_START_SECONDS = 20


async def measure(stack: Stack) -> AsyncIterator[Ratio]:
    """`row_vs_psycopg` and `page50_vs_pgjson`."""
    world = await World.make(stack, f"bench-{uuid4().hex[:12]}")
    person = await world.person()
    await world.deposit(person, _INVESTMENTS * 100)
    campaign = await world.campaign("keep_what_you_raise", goal=_INVESTMENTS * 100)
    for _ in range(_INVESTMENTS):
        await world.invest(person, campaign, 100, "wallet")
    await world.close()
    token = {"Authorization": f"Bearer {person.token}"}
    api = stack.urls["api"]
    with _bare_api(stack) as bare:
        await _answers(f"{bare}/row/{person.user_id}")
        for name, what, ours, theirs in (
            ("row_vs_psycopg", "one row, by token and tenant", "/v1/users/me", "row"),
            ("page50_vs_pgjson", "a page of 50, both made by Postgres", "/v1/investments?limit=50", "page"),
        ):
            asked, beside = f"{api}{ours}", f"{bare}/{theirs}/{person.user_id}"
            await _compare(asked, token, beside)
            mine, bare_side = partial(_load, asked, token), partial(_load, beside, {})
            yield await side_by_side(name, what, mine, bare_side, goal="≥ 0.7", rounds=_ROUNDS)


async def _compare(ours: str, token: dict[str, str], bare: str) -> None:
    """Both addresses answer the same; fifty rows if it is a page. Raises AssertionError."""
    async with httpx.AsyncClient() as client:
        mine, theirs = (await client.get(ours, headers=token)).json()["data"], (await client.get(bare)).json()
    assert isinstance(mine, dict) or len(mine) == _PAGE
    first, beside = (each if isinstance(each, dict) else each[0] for each in (mine, theirs))
    assert _with_times(mine) == _with_times(theirs), (first, beside)


def _with_times(value: Any) -> Any:
    """The same document, its times as times: `…Z` and `…+00:00` are one."""
    if isinstance(value, list):
        return [_with_times(each) for each in value]
    return {**value, "created_at": datetime.fromisoformat(value["created_at"])}


async def _load(url: str, headers: dict[str, str]) -> float:
    """Requests a second over connections kept open; a plain reader, because a client library costs more than the servers."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}"]
    request = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(_EACH):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()
        await writer.wait_closed()

    return await rate(_CONNECTIONS * _EACH, asyncio.gather(*(connection() for _ in range(_CONNECTIONS))))


async def _answers(url: str) -> None:
    for _ in range(_START_SECONDS * 10):
        try:
            await _load(url, {})
            return
        except OSError:
            await asyncio.sleep(0.1)
    raise TimeoutError(url)


@contextmanager
def _bare_api(stack: Stack) -> Iterator[str]:
    """The bare service, as its owner of the database: its address."""
    assert stack.site.postgres is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.bare_api:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    environment = {**os.environ, "BENCH_DATABASE_URL": stack.site.postgres.url("chama")}
    process = subprocess.Popen([*command, "--no-access-log"], env=environment)  # noqa: S603 - our own module
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
