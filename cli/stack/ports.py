"""The ports of one stack: free ones by default, kept in `ports.json` so that links survive a restart, or fixed by env."""

import fcntl
import functools
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

FIXED_BY = {
    "postgres": "CHAMA_POSTGRES_PORT",
    "temporal": "CHAMA_TEMPORAL_PORT",
    "temporal_ui": "CHAMA_TEMPORAL_UI_PORT",
    "temporal_http": "CHAMA_TEMPORAL_HTTP_PORT",
    "temporal_metrics": "CHAMA_TEMPORAL_METRICS_PORT",
    "sandbox": "CHAMA_SANDBOX_PORT",
    "smtp": "CHAMA_SMTP_PORT",
    "api": "CHAMA_API_PORT",
    "metrics": "CHAMA_METRICS_PORT",
}
"""Port name → the variable that fixes it."""

_LOWEST, _COUNT = 20_000, 10_000
"""Below the range from which the kernel takes ports for outgoing connections, so that a kept port stays free."""


class PortTaken(RuntimeError):
    """A fixed port is in use, or is no port number; the message says what to do."""


def allocate(file: Path, env: Mapping[str, str]) -> dict[str, int]:
    """Every port of the stack, all free at this moment, written to `file`.

    A kept port that somebody else took meanwhile is replaced. Raises PortTaken for one that `env` fixes.
    """
    earlier = kept(file)
    ports: dict[str, int] = {}
    for name, variable in FIXED_BY.items():
        if env.get(variable):
            ports[name] = _fixed(variable, env[variable], ports)
    for name in FIXED_BY:
        if name not in ports:
            ports[name] = _keep_or_pick(earlier.get(name), set(ports.values()))
    file.write_text(json.dumps(ports, indent=2) + "\n")
    return ports


def kept(file: Path) -> dict[str, int]:
    """What the last start kept; nothing when there was none or the file is unreadable (links are a comfort, not data)."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {name: port for name, port in found.items() if isinstance(port, int)} if isinstance(found, dict) else {}


def pick(taken: set[int]) -> int:
    """A free port that is not in `taken`."""
    for _ in range(1_000):
        port = _LOWEST + secrets.randbelow(_COUNT)
        if port not in taken and is_free(port) and _claim(port):
            return port
    raise PortTaken(f"No free port between {_LOWEST} and {_LOWEST + _COUNT}.")


def is_free(port: int) -> bool:
    """Whether a server could listen on loopback at `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Whether no other process of ours has picked the port; from now on none does, as long as this one lives.

    Stacks that start at the same moment would else pick the same free port, which nobody listens on yet.
    """
    claims = _claims()
    if claims is None:
        return True
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _claims() -> int | None:
    """One file for all processes: its byte number n is locked by whoever picked port n. None: another user made it."""
    try:
        return os.open(Path(tempfile.gettempdir(), "chama-ports.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None


def _fixed(variable: str, text: str, others: Mapping[str, int]) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise PortTaken(f"{variable}={text!r} is not a port number (1 to 65535).")
    port = int(text)
    if port in others.values() or not is_free(port):
        raise PortTaken(
            f"Port {port} ({variable}) is taken. Stop what listens there, or set {variable} to another port."
        )
    return port


def _keep_or_pick(earlier: int | None, taken: set[int]) -> int:
    if earlier is not None and earlier not in taken and is_free(earlier) and _claim(earlier):
        return earlier
    return pick(taken)
