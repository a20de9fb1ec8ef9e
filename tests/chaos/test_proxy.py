"""Links that break: each fault does to a real connection what it says."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cli.chaos.proxy import Link, TcpFault

BLOCK = bytes(range(256)) * 64
DRAW = random.Random(1)


@asynccontextmanager
async def echoed() -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through a link to a server that sends everything back, with one block already there and back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link("test")
    port = await link.listen()
    link.aim(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(BLOCK)
    assert await reader.readexactly(len(BLOCK)) == BLOCK
    try:
        yield link, reader, writer
    finally:
        writer.close()
        await link.close()
        server.close()


async def test_without_a_fault_bytes_pass_and_the_end_is_told() -> None:
    async with echoed() as (link, reader, writer):
        writer.write(BLOCK * 50)
        writer.write_eof()
        assert await reader.read(-1) == BLOCK * 50
        assert link.fired == {}


async def test_reset() -> None:
    async with echoed() as (link, reader, _):
        assert link.strike(TcpFault.RESET, DRAW)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert link.fired == {"reset": 1}


async def test_cut_in_the_middle_of_a_message() -> None:
    async with echoed() as (link, reader, writer):
        assert link.strike(TcpFault.CUT, DRAW)
        writer.write(BLOCK)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(BLOCK))
        assert link.fired == {"cut": 1}


async def test_a_stalled_connection_says_nothing_until_it_is_reset() -> None:
    async with echoed() as (link, reader, writer):
        assert link.strike(TcpFault.STALL, DRAW)
        writer.write(BLOCK)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        link.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert link.fired == {"stall": 1}


async def test_latency_delays_and_loses_nothing() -> None:
    async with echoed() as (link, reader, writer):
        assert link.strike(TcpFault.LATENCY, DRAW)
        writer.write(BLOCK)
        assert await reader.readexactly(len(BLOCK)) == BLOCK
        assert link.fired == {"latency": 1}


async def test_nobody_to_strike() -> None:
    link = Link("idle")
    await link.listen()
    assert not link.strike(TcpFault.RESET, DRAW)
    assert link.fired == {}
    await link.close()
