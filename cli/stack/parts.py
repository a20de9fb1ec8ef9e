"""What the stack consists of: for each part what it needs, how it is made, launched, probed and stopped.

A part is a server process, or a job that is done once (the schema, the sample data). A second instance of a process
is named with a number: `worker-2` is made like `worker`.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from cli.stack import health, ports, temporal
from cli.stack.postgres import EmbeddedPostgres
from cli.stack.processes import spawn
from cli.stack.secrets import StackSecrets
from infra.settings import Settings

ALL = ("postgres", "temporal", "schema", "sandbox", "seed", "api", "worker", "relay")
"""Every part, in the order in which they come up; they stop in the reverse order."""

SERVERS = ("postgres", "temporal", "schema")
"""What a worker of one's own needs: no sandbox, no sample data, no process of ours."""

_ROOT = Path(__file__).parents[2]
DATABASE, OWNER = "chama", "chama_owner"


class StackFailed(RuntimeError):
    """The stack, or a part of it, did not come up; the message says which and what to do."""


@dataclass(frozen=True)
class Recipe:
    """How one part is made. Callables raise an exception with a readable message when they cannot."""

    name: str
    where: str
    """Where a person finds it: a URL or a port."""
    log: Path
    needs: tuple[str, ...] = ()
    """Parts that must be ready before this one may begin its work."""
    prepare: Callable[[], object] | None = None
    """Slow work before the launch, or the whole work of a job; runs beside the others."""
    launch: Callable[[], subprocess.Popen[bytes]] | None = None
    """Starts the process; None for a job."""
    probe: Callable[[datetime], bool] = field(default=lambda since: True)
    """Whether the process launched at `since` does its work by now."""
    held: bool = False
    """Launched at once, so that its imports overlap with the servers coming up, and let go when `needs` are ready."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0


@dataclass
class Site:
    """One stack's directory, ports, secrets and settings: what every recipe is made from."""

    directory: Path
    ports: dict[str, int]
    secrets: StackSecrets
    owner_url: str
    environment: dict[str, str]
    """The whole environment of the processes of ours."""
    settings: Settings
    """With the owner's database URL: for migrations, the audit and the tests. The processes never see it."""
    postgres: EmbeddedPostgres | None
    """None when CHAMA_DATABASE_URL names a server of one's own."""
    seeded: Any = None
    """What the seed returned."""

    def log(self, name: str) -> Path:
        """The log file of a part."""
        return self.directory / "log" / f"{name}.log"

    def url(self, port: str) -> str:
        """The loopback URL of a named port."""
        return f"http://127.0.0.1:{self.ports[port]}"


def recipe(name: str, site: Site, present: tuple[str, ...]) -> Recipe:
    """The recipe of part `name` on `site`; it waits only for parts that are `present`. Raises StackFailed if unknown."""
    kind, _, number = name.partition("-")
    if kind not in _RECIPES or (number and (kind not in _PROCESSES or not number.isdigit())):
        raise StackFailed(f"There is no part {name!r}; the parts are {', '.join(ALL)}.")
    made = _RECIPES[kind](name, site)
    return Recipe(**{**vars(made), "needs": tuple(need for need in made.needs if need in present)})


def _postgres(name: str, site: Site) -> Recipe:
    server = site.postgres
    if server is None:
        return Recipe(name, "CHAMA_DATABASE_URL", site.log(name), prepare=partial(_check_database, site.owner_url))

    def launch() -> subprocess.Popen[bytes]:
        server.start()
        assert server.process is not None
        return server.process

    return Recipe(
        name,
        f"127.0.0.1:{server.port}",
        site.log(name),
        prepare=server.prepare,
        launch=launch,
        probe=lambda since: health.postgres(server.url("postgres")),
        stop_signal=signal.SIGINT,  # "fast": ends open sessions, writes a checkpoint
    )


def _check_database(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())[:300]
        raise StackFailed(
            f"CHAMA_DATABASE_URL does not work: {reason}. Correct it (postgresql://user:password@host:port/name), "
            "or unset it to use the embedded Postgres."
        ) from error


def _temporal(name: str, site: Site) -> Recipe:
    command: list[str] = []

    def prepare() -> None:
        from contracts import visibility

        data = site.directory / "temporal.db"
        command[:] = temporal.command(temporal.find_binary(), data, site.ports, visibility.registration())

    return Recipe(
        name,
        site.url("temporal_ui"),
        site.log(name),
        prepare=prepare,
        launch=lambda: spawn(command, env=site.environment, log=site.log(name), cwd=site.directory),
        probe=lambda since: health.namespace(site.ports["temporal_http"], site.settings.temporal_namespace),
    )


def _schema(name: str, site: Site) -> Recipe:
    def migrate_all() -> None:
        from cli.migrate import migrate

        if site.postgres is not None:
            site.postgres.create_database(DATABASE, OWNER, site.secrets.owner_password)
        migrate(site.owner_url, site.settings.database_role_password.get_secret_value())

    return Recipe(name, "migrations", site.log(name), needs=("postgres",), prepare=migrate_all)


def _sandbox(name: str, site: Site) -> Recipe:
    listen = ["--host", "127.0.0.1", "--port", str(site.ports["sandbox"]), "--smtp-port", str(site.ports["smtp"])]
    book = ["--book", str(site.directory / "sandbox.db")]
    return Recipe(
        name,
        site.url("sandbox"),
        site.log(name),
        launch=partial(_run, site, name, [*listen, *book]),
        probe=lambda since: health.http(site.url("sandbox") + "/healthz"),
    )


def _seed(name: str, site: Site) -> Recipe:
    def sow() -> None:
        import asyncio

        from cli.seed import seed

        site.seeded = asyncio.run(seed(site.settings, site.url("sandbox")))

    return Recipe(name, "sample data", site.log(name), needs=("schema", "sandbox"), prepare=sow)


def _api(name: str, site: Site) -> Recipe:
    port = site.ports["api"] if name == "api" else ports.pick(set(site.ports.values()))
    site.ports[name] = port
    url = f"http://127.0.0.1:{port}"
    return Recipe(
        name,
        url,
        site.log(name),
        needs=("schema",),
        launch=partial(_run, site, name, ["--hold"], {"CHAMA_API_PORT": str(port)}),
        probe=lambda since: health.http(url + "/readyz"),
        held=True,
    )


def _worker(name: str, site: Site) -> Recipe:
    def probe(since: datetime) -> bool:
        from contracts.visibility import TaskQueue

        return health.polled(site.ports["temporal_http"], site.settings.temporal_namespace, TaskQueue.MAIN, since)

    return Recipe(
        name,
        "task queues",
        site.log(name),
        needs=("schema", "temporal"),
        launch=partial(_run, site, name, ["--hold"]),
        probe=probe,
        held=True,
    )


def _relay(name: str, site: Site) -> Recipe:
    port = site.ports["metrics"] if name == "relay" else ports.pick(set(site.ports.values()))
    return Recipe(
        name,
        "outbox",
        site.log(name),
        needs=("schema", "temporal"),
        launch=partial(_run, site, name, ["--hold"], {"CHAMA_METRICS_PORT": str(port)}),
        probe=lambda since: health.connected(site.owner_url, "chama-relay"),
        held=True,
    )


def _run(site: Site, name: str, options: list[str], extra: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `chama <kind> …`."""
    command = [sys.executable, "-m", "cli.main", name.partition("-")[0], *options]
    environment = {**site.environment, **(extra or {})}
    return spawn(command, env=environment, log=site.log(name), cwd=_ROOT, hold="--hold" in options)


_PROCESSES = ("api", "worker", "relay")
_RECIPES: dict[str, Callable[[str, Site], Recipe]] = {
    "postgres": _postgres,
    "temporal": _temporal,
    "schema": _schema,
    "sandbox": _sandbox,
    "seed": _seed,
    "api": _api,
    "worker": _worker,
    "relay": _relay,
}
