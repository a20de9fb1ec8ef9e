"""Passwords and access tokens.

Passwords: argon2id, two at a time in threads (each takes 64 MiB and most of a core). Tokens: short EdDSA JWTs that
carry tenant and mode; the user's row is asked on each request, so a disabled user or a changed role counts at once.
A signature is checked once: a good token is known by its hash until it expires, a bad one is never remembered.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from contracts.base import Mode, Scope
from domain.errors import Unauthenticated
from infra.settings import Settings
from models.user import Role, User

ISSUER: Final = "chama"
AUDIENCE: Final = "chama-api"
_ALGORITHM: Final = "EdDSA"
_CLAIMS: Final = ["tid", "mode", "sub", "role", "iss", "aud", "iat", "exp", "jti"]
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
"""What a user's id may look like: Postgres cannot be asked for just any text."""
_TOKEN_MAX: Final = 2048
"""Four times the size of ours. pyjwt refuses other spellings of the same base64, so no bound is needed but this."""


_KNOWN_MAX: Final = 10_000
"""How many good tokens a process remembers, the least recently used forgotten first: some 4 MB."""


@dataclass(frozen=True)
class Principal:
    """Who is asking, and for which tenant and mode. `role` None: nobody yet (sign-up)."""

    user_id: str
    role: Role | None
    scope: Scope


class InvalidToken(Unauthenticated):
    """One answer for every fault of a token, so that nothing is learnt from it."""

    def __init__(self) -> None:
        super().__init__("invalid_token", "The access token is missing, invalid or expired.")


class Passwords:
    """Hashes and verifies, at most two at a time in this process. The cost of a new hash is the settings' to say."""

    def __init__(self, settings: Settings) -> None:
        hasher = Argon2Hasher(time_cost=settings.password_rounds, memory_cost=settings.password_memory_kib)
        self._hasher = PasswordHash((hasher,))
        self._turns = asyncio.Semaphore(2)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """The argon2id hash, salted."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether they belong together. None (no such user) costs the same time and is False, and so is what is no hash:
        a user made without a password."""
        known = password_hash is not None and Argon2Hasher.identify(password_hash)
        if password_hash is None or not known:
            if self._decoy is None:
                self._decoy = await self.hash(secrets.token_urlsafe(16))
            password_hash = self._decoy
        async with self._turns:
            matches = await asyncio.to_thread(self._hasher.verify, password, password_hash)
        return matches and known


class Tokens:
    """Issues and checks access tokens with one Ed25519 key."""

    def __init__(self, key: Ed25519PrivateKey, seconds: int) -> None:
        self._private, self._public, self.seconds = key, key.public_key(), seconds
        self._known: OrderedDict[bytes, tuple[Principal, int]] = OrderedDict()

    def issue(self, user: User) -> str:
        """A token for that user, good for `seconds`."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.id,
            "tid": str(user.tenant_id),
            "mode": user.mode,
            "role": str(user.role),
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid4().hex,
        }
        return jwt.encode(claims, self._private, algorithm=_ALGORITHM)

    def check(self, token: str) -> Principal:
        """The token's principal, with the role it was issued for. Raises InvalidToken."""
        if len(token) > _TOKEN_MAX:
            raise InvalidToken
        name = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        if (known := self._known.get(name)) is not None and time.time() < known[1]:
            self._known.move_to_end(name)
            return known[0]
        principal, expires = self._verify(token)
        self._known[name] = principal, expires
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return principal

    def _verify(self, token: str) -> tuple[Principal, int]:
        """The principal, and when the token expires in seconds of Unix time."""
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=0,
                options={"require": _CLAIMS, "strict_aud": True},
            )
            return _principal(claims), int(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken from error


def _principal(claims: dict[str, Any]) -> Principal:
    scope = Scope(tenant_id=UUID(claims["tid"]), mode=Mode(claims["mode"]))
    if not _SUBJECT.fullmatch(claims["sub"]):
        raise InvalidToken
    return Principal(user_id=claims["sub"], role=Role(claims["role"]), scope=scope)
