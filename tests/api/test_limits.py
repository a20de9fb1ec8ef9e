"""The outermost layer over real sockets: sizes, slowness, headers (RELIABILITY F2)."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn

from tests.fixtures.api import Edge, toy_body
from tests.fixtures.postgres import free_port


@pytest.fixture(scope="module")
async def port(edge: Edge) -> AsyncIterator[int]:
    config = uvicorn.Config(edge.app, host="127.0.0.1", port=free_port(), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    yield config.port
    server.should_exit = True
    await serving


async def talk(port: int, *parts: bytes, pause_ms: int = 0) -> tuple[int, dict[str, str], bytes]:
    """Send the parts as they are, with a pause between; the answer's status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n, part in enumerate(parts):
        if n and pause_ms:
            await asyncio.sleep(pause_ms / 1000)
        writer.write(part)
        try:
            await writer.drain()
        except ConnectionError:
            break
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    writer.close()
    return int(lines[0].split()[1]), headers, body


def head(*lines: str) -> bytes:
    return "\r\n".join(
        ["POST /v1/toys/a HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", ""]
    ).encode()


def code(body: bytes) -> str:
    return str(json.loads(body)["code"])


async def test_a_declared_large_body_is_413_before_a_byte_of_it(port: int) -> None:
    for length in ("262145", "200000000", "9" * 17):
        status, headers, body = await talk(port, head(f"Content-Length: {length}"))
        assert (status, code(body)) == (413, "body_too_large")
        assert headers["connection"] == "close" and headers["content-type"] == "application/problem+json"


async def test_a_chunked_large_body_is_413(port: int) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    status, _, body = await talk(port, head("Transfer-Encoding: chunked"), *[chunk] * 5)
    assert (status, code(body)) == (413, "body_too_large")


async def test_the_largest_body_is_read(port: int) -> None:
    raw = b" " * 262_144
    status, _, body = await talk(port, head(f"Content-Length: {len(raw)}"), raw)
    assert (status, code(body)) == (400, "malformed_json")


async def test_a_compressed_body_is_415(port: int) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    status, _, body = await talk(port, head(f"Content-Length: {len(bomb)}", "Content-Encoding: gzip"), bomb)
    assert (status, code(body)) == (415, "unsupported_content_encoding")


async def test_a_slow_body_is_408(port: int) -> None:
    status, headers, body = await talk(port, head("Content-Length: 100"), b'{"a"', b":1", pause_ms=300)
    assert (status, code(body)) == (408, "body_too_slow")
    assert headers["connection"] == "close"


async def test_a_drip_of_chunks_is_408(port: int) -> None:
    status, _, body = await talk(port, head("Transfer-Encoding: chunked"), b"1\r\na\r\n", b"1\r\na\r\n", pause_ms=300)
    assert (status, code(body)) == (408, "body_too_slow")


async def test_security_headers_stand_on_every_answer(edge: Edge) -> None:
    user = edge.user()
    answers = [await edge.http.get("/healthz"), await edge.http.get("/nothing"), await edge.toy(user, "k")]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("given", "kept"), [("trace-12345", True), ("short", False), ("has space!", False), ("x" * 65, False)]
)
async def test_a_request_id_is_kept_when_it_is_fit(edge: Edge, given: str, kept: bool) -> None:
    response = await edge.http.get("/nothing", headers={"X-Request-Id": given})
    assert (response.headers["x-request-id"] == given) is kept
    assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_a_command_over_the_socket(edge: Edge, port: int) -> None:
    raw = json.dumps(toy_body()).encode()
    lines = [f"{name}: {value}" for name, value in edge.headers(edge.user(), "socket").items()]
    status, _, body = await talk(port, head(f"Content-Length: {len(raw)}", *lines), raw)
    assert status == 202 and json.loads(body)["success"] is True
