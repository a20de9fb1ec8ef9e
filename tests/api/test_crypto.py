"""Encryption at rest (RELIABILITY F5), the vault, and logs without secrets (F7)."""

import base64
import io
import json
import logging as standard
import os

import pytest
import structlog
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload

from infra import logging
from infra.crypto import CryptoError, EncryptionCodec, Vault, token_key
from infra.settings import Settings

OLD, NEW = os.urandom(32), os.urandom(32)
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"canary"')


async def test_payloads_are_unreadable_and_come_back() -> None:
    codec = EncryptionCodec({"new": NEW}, "new")
    (sealed,) = await codec.encode([PLAIN])
    assert b"canary" not in sealed.SerializeToString() and sealed.metadata["encryption-key-id"] == b"new"
    assert await codec.decode([sealed]) == [PLAIN]
    assert (await codec.encode([PLAIN]))[0].data != sealed.data


async def test_keys_rotate() -> None:
    (old,) = await EncryptionCodec({"old": OLD}, "old").encode([PLAIN])
    both = EncryptionCodec({"old": OLD, "new": NEW}, "new")
    assert await both.decode([old]) == [PLAIN]
    assert (await both.encode([PLAIN]))[0].metadata["encryption-key-id"] == b"new"


async def test_unknown_wrong_and_swapped_keys_fail_closed() -> None:
    (sealed,) = await EncryptionCodec({"old": OLD}, "old").encode([PLAIN])
    with pytest.raises(CryptoError):
        await EncryptionCodec({"new": NEW}, "new").decode([sealed])
    with pytest.raises(CryptoError):
        await EncryptionCodec({"old": NEW}, "old").decode([sealed])
    renamed = Payload(metadata={**sealed.metadata, "encryption-key-id": b"alias"}, data=sealed.data)
    with pytest.raises(CryptoError):
        await EncryptionCodec({"alias": OLD, "old": OLD}, "old").decode([renamed])


async def test_changed_and_short_payloads_fail_closed() -> None:
    codec = EncryptionCodec({"k": NEW}, "k")
    (sealed,) = await codec.encode([PLAIN])
    changed = bytes([*sealed.data[:-1], sealed.data[-1] ^ 1])
    for data in (changed, b"", b"short", sealed.data[:12]):
        with pytest.raises(CryptoError):
            await codec.decode([Payload(metadata=sealed.metadata, data=data)])


async def test_what_was_never_encrypted_passes() -> None:
    assert await EncryptionCodec({"k": NEW}, "k").decode([PLAIN]) == [PLAIN]


def test_keys_are_checked_at_start() -> None:
    good = base64.b64encode(NEW).decode()
    EncryptionCodec.from_settings(Settings(payload_keys={"a": SecretStr(good)}, payload_key="a"))
    for keys, active in (({}, ""), ({"a": good}, "b"), ({"a": "short"}, "a"), ({"a": "!" * 44}, "a")):
        with pytest.raises(CryptoError):
            EncryptionCodec.from_settings(
                Settings(payload_keys={name: SecretStr(key) for name, key in keys.items()}, payload_key=active)
            )
    for seed in ("", "x", base64.b64encode(b"x" * 31).decode()):
        with pytest.raises(CryptoError):
            token_key(Settings(token_key=SecretStr(seed)))


def test_the_vault_opens_only_for_the_same_purpose() -> None:
    vault = Vault(NEW)
    sealed = vault.seal("sk_test_canary", purpose="tenant-a/test/stripe")
    assert "canary" not in sealed
    opened = vault.unseal(sealed, purpose="tenant-a/test/stripe")
    assert opened.get_secret_value() == "sk_test_canary" and "canary" not in repr(opened)
    for attempt in (sealed[:-4] + "AAAA", "v2" + sealed[2:], "", "v1.", "v1.!!", "plain"):
        with pytest.raises(CryptoError):
            vault.unseal(attempt, purpose="tenant-a/test/stripe")
    with pytest.raises(CryptoError):
        vault.unseal(sealed, purpose="tenant-b/test/stripe")
    with pytest.raises(CryptoError):
        Vault(OLD).unseal(sealed, purpose="tenant-a/test/stripe")


def test_logs_star_secrets_and_leave_out_exception_messages() -> None:
    event = {"event": "x", "password": "canary", "access_token": "canary", "Authorization": "canary", "amount": 5}
    assert "canary" not in str(logging.mask_secrets(None, "info", dict(event)))
    try:
        raise ValueError("canary in a message")
    except ValueError as error:
        placed = logging.place_exception(None, "error", {"event": "x", "exc_info": error})
    assert placed["error"] == "ValueError" and "canary" not in str(placed) and "test_crypto" in str(placed["at"])


def test_log_lines_are_json_with_the_request_id() -> None:
    out = io.StringIO()
    before = structlog.get_config()
    try:
        logging.configure("INFO", as_json=True)
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(out), cache_logger_on_first_use=False)
        structlog.contextvars.bind_contextvars(request_id="req_1")
        structlog.get_logger("x").info("hello", secret="canary", amount=5)
        structlog.get_logger("x").debug("quiet")
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.configure(**before)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["request_id"] == "req_1" and json.loads(line)["amount"] == 5 and "canary" not in line


def test_what_libraries_log_has_no_messages_of_exceptions_and_no_arguments() -> None:
    out = io.StringIO()
    before = structlog.get_config()
    try:
        logging.configure("INFO", as_json=True)
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(out), cache_logger_on_first_use=False)
        library = standard.getLogger("some.library")
        try:
            raise ValueError("canary in a message")
        except ValueError:
            library.exception("it failed for %s\ncanary on the second line", "canary in an argument")
    finally:
        structlog.configure(**before)
    (line,) = out.getvalue().splitlines()
    seen = json.loads(line)
    assert seen["event"] == "it failed for %s" and seen["logger"] == "some.library" and seen["level"] == "error"
    assert seen["error"] == "ValueError" and "canary" not in line
