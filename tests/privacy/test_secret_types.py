"""Whatever holds a secret prints without it (RELIABILITY F7)."""

import dataclasses
import importlib
from types import ModuleType

from pydantic import BaseModel

from cli.stack.secrets import StackSecrets
from infra.settings import Settings
from tests.architecture.source import of

_WORDS = ("password", "secret", "token", "vault_key", "payload_key")
_FOLDERS = ("domain", "contracts", "models", "infra", "activities", "workflows", "api", "cli")
_SHOWN_ON_PURPOSE = {
    "LoginView.access_token",  # the answer to a login
    "LoginView.token_type",
    "Settings.payload_key",  # the id of a key
    "Settings.password_memory_kib",
    "Settings.password_rounds",
    "Settings.token_seconds",
    "SeedResult.admin_password",  # `chama up` prints it for the demo tenant
}


def modules() -> list[ModuleType]:
    names = (
        str(source.path).removesuffix(".py").replace("/", ".").removesuffix(".__init__") for source in of(*_FOLDERS)
    )
    return [importlib.import_module(name) for name in names]


def test_every_field_that_holds_a_secret_is_kept_out_of_repr() -> None:
    kinds = {kind for module in modules() for kind in vars(module).values() if isinstance(kind, type)}
    ours = [kind for kind in kinds if kind.__module__.split(".")[0] in _FOLDERS]
    seen, shown = 0, set()
    for kind in ours:
        for name, hidden in fields(kind):
            if any(word in name for word in _WORDS):
                seen += 1
                if not hidden:
                    shown.add(f"{kind.__name__}.{name}")
    assert seen > 12
    assert shown <= _SHOWN_ON_PURPOSE, sorted(shown - _SHOWN_ON_PURPOSE)


def fields(kind: type) -> list[tuple[str, bool]]:
    """(name, whether repr leaves its value out)."""
    if issubclass(kind, BaseModel):
        return [(name, not each.repr or "Secret" in str(each.annotation)) for name, each in kind.model_fields.items()]
    if dataclasses.is_dataclass(kind):
        silent = "repr" in vars(kind) or not kind.__dataclass_params__.repr  # type: ignore[attr-defined]
        return [(each.name, silent or not each.repr or "Secret" in str(each.type)) for each in dataclasses.fields(kind)]
    return []


def test_settings_and_the_stacks_secrets_print_stars() -> None:
    names = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    values = {name: {"k": "canary-value"} if name == "payload_keys" else "canary-value" for name in names}
    assert len(names) >= 5 and "canary-value" not in f"{Settings(**values)!r} {Settings(**values)}"  # type: ignore[arg-type]
    kept = StackSecrets(*["canary-value"] * len(dataclasses.fields(StackSecrets)))
    assert "canary-value" not in repr(kept)
