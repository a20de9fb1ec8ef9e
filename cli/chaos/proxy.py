"""TCP links that break on command: what stands between our processes and Postgres, Temporal and the providers.

A link listens on a port of its own and carries bytes both ways to its target. Four faults, each counted only when it
met a connection:

    reset     a connection is cut with RST, as when the peer's machine restarts
    stall     a connection carries nothing more, and nobody is told (half open); it is reset after some seconds
    cut       a connection is reset after n further bytes, in the middle of a message
    latency   for a while every chunk on the link is late
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpFault(StrEnum):
    """What can happen to a connection."""

    RESET = "reset"
    STALL = "stall"
    CUT = "cut"
    LATENCY = "latency"


@dataclass(eq=False)
class _Connection:
    """One accepted connection and its partner to the target."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    stalled: bool = False
    bytes_left: int | None = None
    """How much may still pass before the cut; None without one."""
    spared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while bytes may flow."""

    def reset(self) -> None:
        """Close both ends with RST: unsent bytes are lost."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        self.spared.set()


class Link:
    """One proxied address. Faults are drawn by the caller's generator, so that a seed repeats them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fired: Counter[str] = Counter()
        """How many faults of each kind met a connection."""
        self._target = 0
        self._server: asyncio.Server | None = None
        self._open: list[_Connection] = []
        self._delay_seconds = 0.0
        self._timers: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """Start listening on a free port of loopback; its number."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def aim(self, port: int) -> None:
        """The target's port on loopback, once it is known."""
        self._target = port

    def strike(self, fault: TcpFault, generator: random.Random) -> bool:
        """Do one fault to a connection of the link; False when there was none to do it to."""
        candidates = [each for each in self._open if not each.stalled and each.bytes_left is None]
        if not candidates:
            return False
        chosen = generator.choice(candidates)
        if fault is TcpFault.CUT:
            chosen.bytes_left = generator.randrange(1, 400)
            return True  # counted when it cuts
        self.fired[fault.value] += 1
        if fault is TcpFault.RESET:
            chosen.reset()
        elif fault is TcpFault.STALL:
            chosen.stalled = True
            chosen.spared.clear()
            self._later(generator.uniform(1.0, 8.0), chosen.reset)
        else:
            self._delay_seconds = generator.uniform(0.02, 0.25)
            self._later(generator.uniform(0.5, 2.0), self._in_time)
        return True

    def heal(self) -> None:
        """No fault any more: delays end, what was stalled or marked for a cut is reset, so that its owner learns of it."""
        self._in_time()
        for each in list(self._open):
            if each.stalled:
                each.reset()
            each.bytes_left = None

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        for timer in self._timers:
            timer.cancel()
        for each in list(self._open):
            each.reset()
        if self._server is not None:
            self._server.close()

    def _in_time(self) -> None:
        self._delay_seconds = 0.0

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            action()

        task = asyncio.create_task(wait())
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((writer, far_writer))
        connection.spared.set()
        self._open.append(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, reader, far_writer)),
            asyncio.create_task(self._pump(connection, far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self._open.remove(connection)
            for each in connection.writers:
                each.close()

    async def _pump(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes one way until one side ends; then tell the other."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await connection.spared.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                if connection.bytes_left is not None:
                    chunk, whole = chunk[: connection.bytes_left], len(chunk)
                    connection.bytes_left -= len(chunk)
                    if len(chunk) < whole:
                        writer.write(chunk)
                        self.fired[TcpFault.CUT.value] += 1
                        connection.bytes_left = None
                        await asyncio.sleep(0)
                        connection.reset()
                        return
                writer.write(chunk)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof() and not writer.transport.is_closing():
                writer.write_eof()
