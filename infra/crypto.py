"""Secrets at rest and tokens: the payload codec for Temporal, the vault for small secrets, the token signing key.

All encryption is AES-256-GCM with a random 96-bit nonce and the key's id (or the secret's purpose) authenticated.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from infra.settings import Settings

_ENCODING = b"binary/encrypted"
_KEY_ID = "encryption-key-id"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class CryptoError(Exception):
    """A key is missing or unfit, or sealed data was made with another key, for another purpose, or changed."""


def _key_bytes(encoded: SecretStr, name: str) -> bytes:
    try:
        key = base64.b64decode(encoded.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise CryptoError(f"{name} must be the base64 of {_KEY_BYTES} bytes")
    return key


def _seal(cipher: AESGCM, plain: bytes, purpose: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, purpose)


def _open(cipher: AESGCM, sealed: bytes, purpose: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError) as error:
        raise CryptoError("sealed data does not open") from error


class EncryptionCodec(PayloadCodec):
    """Encrypts every payload that Temporal stores. One key encrypts; all known keys decrypt, so keys can rotate.

    Payloads that were never encrypted pass through decoding (an operator's signal from the command line); one that
    names an unknown key raises CryptoError.
    """

    def __init__(self, keys: Mapping[str, bytes], active: str) -> None:
        if active not in keys:
            raise CryptoError("the active payload key is not among the payload keys")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._active = active

    @classmethod
    def from_settings(cls, settings: Settings) -> "EncryptionCodec":
        """The codec for `payload_keys` and `payload_key`. Raises CryptoError when they are missing or malformed."""
        keys = {key_id: _key_bytes(key, f"payload key {key_id}") for key_id, key in settings.payload_keys.items()}
        return cls(keys, settings.payload_key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Each payload, whole with its metadata, as one encrypted payload."""
        cipher, key_id = self._ciphers[self._active], self._active.encode()
        return [
            Payload(
                metadata={"encoding": _ENCODING, _KEY_ID: key_id},
                data=_seal(cipher, payload.SerializeToString(), key_id),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The inverse of `encode`."""
        return [self._decode(payload) for payload in payloads]

    def _decode(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        key_id = payload.metadata.get(_KEY_ID, b"")
        cipher = self._ciphers.get(key_id.decode(errors="replace"))
        if cipher is None:
            raise CryptoError("payload was encrypted with a key this process does not have")
        return Payload.FromString(_open(cipher, payload.data, key_id))


class Vault:
    """Seals provider credentials and other small secrets for the database."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Vault":
        """The vault for `vault_key`. Raises CryptoError when it is missing or malformed."""
        return cls(_key_bytes(settings.vault_key, "CHAMA_VAULT_KEY"))

    def seal(self, secret: str, *, purpose: str) -> str:
        """`v1.<base64>`; opens only under the same `purpose` (tenant, mode and what it is), so rows cannot be swapped."""
        return "v1." + base64.b64encode(_seal(self._cipher, secret.encode(), purpose.encode())).decode()

    def unseal(self, sealed: str, *, purpose: str) -> SecretStr:
        """The secret. Raises CryptoError when the text is not ours, was changed, or has another purpose."""
        version, _, body = sealed.partition(".")
        try:
            data = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise CryptoError("sealed data does not open") from error
        if version != "v1":
            raise CryptoError("sealed data of an unknown version")
        return SecretStr(_open(self._cipher, data, purpose.encode()).decode())


def token_key(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs access tokens. Raises CryptoError when `token_key` is missing or malformed."""
    return Ed25519PrivateKey.from_private_bytes(_key_bytes(settings.token_key, "CHAMA_TOKEN_KEY"))
