"""The compose file, the image and the scripts beside them name only things that exist."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.main import get_command

from cli.main import app
from cli.stack import ports
from contracts.visibility import registration
from infra.settings import Settings
from tests.architecture.source import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "chama:local"}
KNOWN_VARIABLES = {f"CHAMA_{name.upper()}" for name in Settings.model_fields}
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")
)


def test_compose_file_follows_the_schema() -> None:
    """The compose specification's own schema, as the package check-jsonschema carries it."""
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or package.origin is None:
        pytest.skip("the compose schema comes with check-jsonschema, which is not installed")
    schema = Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    errors = Draft202012Validator(json.loads(schema.read_text())).iter_errors(COMPOSE)
    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []


def test_every_process_runs_a_command_of_ours() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert {"api", "worker", "relay", "migrate", "sandbox"} == set(OURS)
    for name, service in OURS.items():
        command, *words = service["command"]
        options = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, name


def test_every_setting_exists() -> None:
    for name, service in OURS.items():
        assert set(service["environment"]) <= KNOWN_VARIABLES, name


def test_every_dependency_exists_and_can_be_met() -> None:
    for name, service in SERVICES.items():
        for needed, condition in service.get("depends_on", {}).items():
            other = SERVICES[needed]
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in other, f"{name} waits for {needed} to be healthy"
            else:
                assert "always" not in str(other.get("restart")) and other.get("restart") != "unless-stopped", needed


def test_every_volume_and_file_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], volume


def test_no_secret_stands_in_a_file() -> None:
    """Secrets come from .env: required, never defaulted, and empty in the example."""
    text = (ROOT / "docker-compose.yml").read_text()
    for name in re.findall(r"\$\{(\w*(?:PASSWORD|KEYS?)\w*)", text):
        assert f"${{{name}:?" in text, name
        assert name in EXAMPLE, name
        value = EXAMPLE[name]
        assert value in ("", '{"2026a":""}') or name == "CHAMA_PAYLOAD_KEY", f"{name} has a value in .env.example"
    for name in re.findall(r"\$\{(\w+)", text):
        assert name in EXAMPLE, f"{name} is missing in .env.example"
    assert "password" not in json.dumps(SERVICES["sandbox"]["environment"]).lower()


def test_runtime_processes_never_see_the_owner() -> None:
    owners = {name for name, service in OURS.items() if "CHAMA_OWNER_PASSWORD" in json.dumps(service)}
    assert owners == {"migrate"}


def test_search_attributes_of_production_are_those_of_the_code() -> None:
    script = (ROOT / "deploy" / "temporal" / "namespace.sh").read_text()
    assert sorted(re.findall(r"(Chama\w+)=(\w+)", script)) == sorted(registration())


def test_fixed_ports_are_documented_variables() -> None:
    assert all(re.fullmatch(r"CHAMA_[A-Z_]+_PORT", name) for name in ports.FIXED_BY.values())
    assert "CHAMA_API_PORT" in KNOWN_VARIABLES
    assert ports.FIXED_BY["api"] == "CHAMA_API_PORT"


def test_makefile_offers_the_promised_recipes() -> None:
    text = (ROOT / "Makefile").read_text()
    for recipe in ("help", "up", "demo", "test", "lint", "fmt", "lock"):
        assert re.search(rf"^{recipe}:.*## ", text, re.MULTILINE), recipe
    assert "make test" in (ROOT / ".ci" / "run").read_text()
