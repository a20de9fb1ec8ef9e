"""The whole embedded stack as one object: `chama up`, the demo, the fault runs and the tests all start it this way.

with Stack(Path("var")) as stack:
    httpx.get(stack.urls["api"] + "/healthz")
    stack.kill("worker")
    stack.start("worker")
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.stack import parts as recipes
from cli.stack import ports, secrets
from cli.stack.parts import Site, StackFailed
from cli.stack.postgres import EmbeddedPostgres, PostgresFailed, await_predecessor
from cli.stack.supervisor import Snapshot, Supervisor
from infra.settings import Settings

_PREFIX = "CHAMA_"


class Stack:
    """Real servers and our own processes, with everything they keep under `directory`.

    `parts` are names from `cli.stack.parts.ALL`, in order. `env` holds `CHAMA_*` settings (the process's own
    environment is not consulted for those, so two stacks in one process do not mix); a `CHAMA_DATABASE_URL` in it
    replaces the embedded Postgres. `links` (`postgres`, `temporal` → port) is where our processes dial these servers
    instead of their own ports, for a proxy in between; `settings` and the probes go past it. Methods raise StackFailed
    with a message for a person; `start()` leaves nothing running when it does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        parts: tuple[str, ...] = recipes.ALL,
        env: Mapping[str, str] | None = None,
        links: Mapping[str, int] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self._names = parts
        self._links = dict(links or {})
        self._env = {name: value for name, value in (env or {}).items() if name.startswith(_PREFIX)}
        self._lock: int | None = None
        self._site: Site | None = None
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def begin(self) -> None:
        """Take the directory and start everything; returns at once (see `wait_ready`)."""
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._site = self._prepare_site()
            made = [recipes.recipe(name, self._site, self._names) for name in self._names]
        except (ports.PortTaken, secrets.SecretsUnreadable, PostgresFailed) as error:
            self._drop_lock()
            raise StackFailed(str(error)) from error
        except BaseException:
            self._drop_lock()
            raise
        self._supervisor = Supervisor(made)
        self._supervisor.start()

    def wait_ready(self, seconds: float = 120) -> None:
        """Block until every part is ready. Raises StackFailed, everything stopped, when one is not."""
        try:
            self._running.wait_ready(seconds)
        except BaseException:
            self.stop()
            raise

    def start(self, part: str | None = None, *, seconds: float = 120) -> None:
        """Start the stack, or one part that was stopped or killed (or a further instance: `worker-2`), until it is ready."""
        if part is None:
            self.begin()
            self.wait_ready(seconds)
            return
        known = any(snapshot.name == part for snapshot in self.snapshots())
        self._running.call(part, "start", None if known else recipes.recipe(part, self.site, self._names))
        self._running.wait_ready(seconds, [part])

    def stop(self, part: str | None = None, *, at_once: bool = False) -> None:
        """Stop the stack (in reverse order, `at_once`: by `kill -9`), or one part, politely. Harmless when stopped."""
        if part is not None:
            self._running.call(part, "stop")
            return
        if self._supervisor is not None:
            self._supervisor.close(at_once=at_once)
        self._drop_lock()

    def restart(self, part: str) -> None:
        """Stop one part politely and start it again, until it is ready."""
        self.stop(part)
        self.start(part)

    def kill(self, part: str) -> None:
        """`kill -9` a part and its descendants; it stays dead until `start(part)`."""
        self._running.call(part, "kill")

    def crash(self, part: str) -> None:
        """`kill -9` a part and its descendants, and leave it to the supervisor to notice and restart it."""
        self._running.call(part, "crash")

    def pid(self, part: str) -> int | None:
        """The process id of a part that runs, else None."""
        return self._running.pid(part)

    def snapshots(self) -> list[Snapshot]:
        """How every part is doing, in order."""
        return self._running.snapshots()

    @property
    def failure(self) -> StackFailed | None:
        """Why the stack gave up, if it did."""
        return self._running.failure

    @property
    def site(self) -> Site:
        """Directory, ports, secrets and settings. Only after `begin`."""
        if self._site is None:
            raise StackFailed("The stack has not been started.")
        return self._site

    @property
    def settings(self) -> Settings:
        """Settings as the processes have them, plus the owner's database URL (migrations, audit, tests)."""
        return self.site.settings

    @property
    def seeded(self) -> Any:
        """What the seed of sample data returned."""
        return self.site.seeded

    @property
    def urls(self) -> dict[str, str]:
        """Where a person or a client finds each server: `api`, `docs`, `sandbox`, `temporal_ui`, `clear_text`, `metrics`."""
        site = self.site
        api = site.url("api")
        return {
            "api": api,
            "docs": f"{api}/docs",
            "sandbox": site.url("sandbox"),
            "temporal_ui": site.url("temporal_ui"),
            "clear_text": f"{api}/v1/codec/login",
            "metrics": site.url("metrics") + "/metrics",
        }

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise StackFailed("The stack has not been started.")
        return self._supervisor

    def _take_lock(self) -> None:
        file = self.directory / "stack.lock"
        self._lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            self._lock = None
            raise StackFailed(
                f"A stack is already running on {self.directory} (process {holder}). Stop it first, or give this one "
                "another directory (chama up --var other)."
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare_site(self) -> Site:
        data = self.directory / "postgres"
        await_predecessor(data)
        chosen = ports.allocate(self.directory / "ports.json", self._env)
        kept = secrets.load_or_make(self.directory / "secrets.json")
        owner = _owner_url(self._env, kept, chosen)
        server = None
        if not self._env.get("CHAMA_DATABASE_URL"):
            server = EmbeddedPostgres(data, chosen["postgres"], self.directory / "log" / "postgres.log")
        dialed = chosen | self._links
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
        environment.pop(
            "PYTHONDONTWRITEBYTECODE", None
        )  # a restart would compile everything anew: half of what it costs
        environment |= _values(self.directory, self._env, kept, dialed) | {
            "CHAMA_DATABASE_URL": _without_credentials(_owner_url(self._env, kept, dialed)),
            "CHAMA_STACK": str(self.directory),
            "PYTHONUNBUFFERED": "1",
        }
        settings = _settings(_values(self.directory, self._env, kept, chosen) | {"CHAMA_DATABASE_URL": owner})
        return Site(self.directory, chosen, kept, owner, environment, settings, server)


def _values(
    directory: Path, env: Mapping[str, str], kept: secrets.StackSecrets, chosen: Mapping[str, int]
) -> dict[str, str]:
    """The `CHAMA_*` variables of our processes: what `env` says, secrets and addresses of our own for the rest."""
    host = "127.0.0.1"
    ours = {
        "CHAMA_DATABASE_ROLE_PASSWORD": kept.role_password,
        "CHAMA_PAYLOAD_KEYS": json.dumps({"local": kept.payload_key}),
        "CHAMA_PAYLOAD_KEY": "local",
        "CHAMA_VAULT_KEY": kept.vault_key,
        "CHAMA_TOKEN_KEY": kept.token_key,
        "CHAMA_OPERATOR_TOKEN": kept.operator_token,
        "CHAMA_TEMPORAL_UI_URL": f"http://{host}:{chosen['temporal_ui']}",
        "CHAMA_ANCHOR_FILE": str(directory / "anchors.jsonl"),
        "CHAMA_PUBLIC_URL": f"http://{host}:{chosen['api']}",
        "CHAMA_SMTP_HOST": host,
        "CHAMA_TEST_CLOCK": "true",
        "CHAMA_TEST_CLOCK_URL": f"http://{host}:{chosen['sandbox']}/_sandbox/clock",
    }
    fixed = {
        "CHAMA_API_PORT": str(chosen["api"]),
        "CHAMA_METRICS_PORT": str(chosen["metrics"]),
        "CHAMA_SMTP_PORT": str(chosen["smtp"]),
        "CHAMA_TEMPORAL_ADDRESS": f"{host}:{chosen['temporal']}",
    }
    return {**ours, **env, **fixed}


def _settings(values: Mapping[str, str]) -> Settings:
    """The same values as a Settings object of this process."""
    fields: dict[str, Any] = {name.removeprefix(_PREFIX).lower(): value for name, value in values.items()}
    known = {name: value for name, value in fields.items() if name in Settings.model_fields}
    return Settings(**{**known, "payload_keys": json.loads(known["payload_keys"])})


def _without_credentials(url: str) -> str:
    """Our processes log in as their own roles and have no business with the owner's password."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def settings_of(directory: Path, env: Mapping[str, str]) -> Settings:
    """The settings of the stack on `directory`, running or not: for commands that work on its database.

    Raises StackFailed when no stack was ever started there.
    """
    root = directory.resolve()
    chosen = ports.kept(root / "ports.json")
    if not (root / "secrets.json").exists() or chosen.keys() < ports.FIXED_BY.keys():
        raise StackFailed(
            f"There is no stack in {directory}. Start one (make up), or set CHAMA_DATABASE_URL and "
            "CHAMA_DATABASE_ROLE_PASSWORD to work on a database of your own."
        )
    try:
        kept = secrets.load_or_make(root / "secrets.json")
    except secrets.SecretsUnreadable as error:
        raise StackFailed(str(error)) from error
    given = {name: value for name, value in env.items() if name.startswith(_PREFIX)}
    return _settings(_values(root, given, kept, chosen) | {"CHAMA_DATABASE_URL": _owner_url(given, kept, chosen)})


def _owner_url(env: Mapping[str, str], kept: secrets.StackSecrets, chosen: Mapping[str, int]) -> str:
    """The URL of the schema's owner: the one in `env`, or that of the embedded server."""
    address = f"127.0.0.1:{chosen['postgres']}/{recipes.DATABASE}"
    return env.get("CHAMA_DATABASE_URL") or f"postgresql://{recipes.OWNER}:{kept.owner_password}@{address}"
