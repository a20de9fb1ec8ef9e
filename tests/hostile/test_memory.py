"""Large bodies cost the API process no memory: they are refused before they are read (RELIABILITY F2)."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.fixtures.hostile import Target

CLIENTS = 50
BODY = 200 * 2**20
_CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


async def flood(port: int, framing: str) -> int:
    """Send up to 200 MiB without reading an answer, and stop when the connection is closed; how many bytes that took.

    The refusal itself may be lost: closing a connection somebody still writes to resets it.
    """
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    writer.write(head.encode())
    sent = 0
    with suppress(ConnectionError):
        while sent < BODY:
            writer.write(_CHUNK if "chunked" in framing else b"x" * 0x10000)
            await asyncio.wait_for(writer.drain(), 20)
            sent += 0x10000
    writer.close()
    return sent


@pytest.mark.parametrize("framing", [f"Content-Length: {BODY}", "Transfer-Encoding: chunked"])
async def test_fifty_bodies_of_200_mb_cost_no_memory(served: Target, framing: str) -> None:
    port = urlsplit(str(served.http.base_url)).port
    assert port is not None
    before = served.resident_kib()
    flooding = [asyncio.create_task(flood(port, framing)) for _ in range(CLIENTS)]
    most = before
    while not all(task.done() for task in flooding):
        most = max(most, served.resident_kib())
        await asyncio.sleep(0.05)
    sent = [task.result() for task in flooding]
    print(f"{framing}: {most - before} KiB more, and at most {max(sent) >> 10} KiB taken of a body")
    assert max(sent) < 20 * 2**20, "refused long before the end"
    assert max(most, served.resident_kib()) - before < 50 * 1024
    assert (await served.http.get("/healthz")).status_code == 200
