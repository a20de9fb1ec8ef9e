"""The stack's own secrets, made once and kept in `secrets.json`, readable by its owner alone.

Production sets the same values as `CHAMA_*` variables from its secret store; nothing here is for production.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path


class SecretsUnreadable(RuntimeError):
    """The file exists but is not ours; the message says what to do."""


@dataclass(frozen=True, repr=False)
class StackSecrets:
    """Passwords as URL-safe text, keys as base64 of 32 random bytes."""

    owner_password: str
    role_password: str
    payload_key: str
    vault_key: str
    token_key: str

    @property
    def operator_token(self) -> str:
        """Derived from the vault key, so that a directory of an earlier release has one too."""
        return hmac.new(self.vault_key.encode(), b"operator-token", hashlib.sha256).hexdigest()[:40]


def load_or_make(file: Path) -> StackSecrets:
    """The secrets in `file`, made there first when it does not exist. Raises SecretsUnreadable."""
    if not file.exists():
        _write(file, _make())
    try:
        found = json.loads(file.read_text())
        return StackSecrets(**{field.name: str(found[field.name]) for field in fields(StackSecrets)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SecretsUnreadable(
            f"{file} cannot be read ({type(error).__name__}). Restore it: without its keys the data beside it is "
            "unreadable. To start afresh, delete the whole directory."
        ) from error


def _make() -> StackSecrets:
    return StackSecrets(
        owner_password=secrets.token_urlsafe(24),
        role_password=secrets.token_urlsafe(24),
        payload_key=_key(),
        vault_key=_key(),
        token_key=_key(),
    )


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _write(file: Path, values: StackSecrets) -> None:
    """Whole or not at all: a half-written file would lock the data away."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as output:
        json.dump(asdict(values), output, indent=2)
        output.flush()
        os.fsync(output.fileno())
    draft.replace(file)
