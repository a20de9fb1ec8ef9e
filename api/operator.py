"""The installation's operator: who sees payloads of every tenant in clear, and so is nobody's administrator.

Payloads in Temporal carry no tenant that could be checked, so no tenant's token opens them. The operator has one
secret, `operator_token`: sent as a bearer token by the command line, or exchanged on the login page for a cookie that
lives as long as an access token and is good for the codec endpoints alone, from the Temporal UI's pages alone.
"""

import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import ISSUER, InvalidToken
from infra.crypto import CryptoError, EncryptionCodec
from infra.settings import Settings

CODEC_PATH: Final = "/v1/codec"
COOKIE: Final = "chama_operator"
_AUDIENCE: Final = "chama-codec"
_ALGORITHM: Final = "EdDSA"
_GIVEN_FOR: Final = "opr"
"""The claim that says for which operator token a cookie was given: a digest only we can make, so that none is learnt from it."""
_TOKEN_MIN: Final = 32
_BEARER = HTTPBearer(auto_error=False, scheme_name="OperatorToken", description="The installation's operator token")


class OperatorDesk:
    """Checks the operator's token and cookie, and holds the codec. Without `operator_token` it refuses everybody.

    Raises CryptoError for a token shorter than 32 characters, or when the payload keys are missing.
    """

    def __init__(self, settings: Settings, key: Ed25519PrivateKey) -> None:
        self._token = settings.operator_token.get_secret_value()
        if 0 < len(self._token) < _TOKEN_MIN:
            raise CryptoError(f"CHAMA_OPERATOR_TOKEN has fewer than {_TOKEN_MIN} characters")
        self._codec = EncryptionCodec.from_settings(settings) if self._token else None
        self._private, self._public, self.seconds = key, key.public_key(), settings.token_seconds
        self._digest = hmac.digest(key.private_bytes_raw(), f"{_AUDIENCE}/{self._token}".encode(), "sha256").hex()
        self.ui_url = settings.temporal_ui_url
        self.origin = origin_of(settings.temporal_ui_url)
        self.namespace = settings.temporal_namespace

    @property
    def codec(self) -> EncryptionCodec:
        """The codec. Raises InvalidToken when the installation has no operator."""
        if self._codec is None:
            raise InvalidToken
        return self._codec

    def check_token(self, given: str) -> None:
        """Pass, in constant time, or raise InvalidToken."""
        if not self._token or not secrets.compare_digest(given.encode(), self._token.encode()):
            raise InvalidToken

    def issue_cookie(self) -> str:
        """The value of a cookie that is good for `seconds`, or until the operator's token is another."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": _AUDIENCE, "iat": now, "exp": now + self.seconds, _GIVEN_FOR: self._digest}
        return jwt.encode(claims, self._private, algorithm=_ALGORITHM)

    def check_cookie(self, cookie: str, origin: str | None) -> None:
        """Pass, or raise InvalidToken: the cookie must be ours, fresh and given for today's token, the page that sends it the
        Temporal UI's."""
        if not self._token or not self.origin or origin != self.origin:
            raise InvalidToken
        try:
            claims = jwt.decode(
                cookie,
                self._public,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=ISSUER,
                options={"require": ["iss", "aud", "iat", "exp", _GIVEN_FOR], "strict_aud": True},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken from error
        if not secrets.compare_digest(str(claims[_GIVEN_FOR]).encode(), self._digest.encode()):
            raise InvalidToken


async def operator(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
) -> str:
    """Authenticates the operator; how (`token` or `cookie`). Raises InvalidToken, for tenants' users of any role too."""
    desk: OperatorDesk = request.app.state.operator
    if credentials is not None:
        desk.check_token(credentials.credentials)
        return "token"
    desk.check_cookie(request.cookies.get(COOKIE, ""), request.headers.get("origin"))
    return "cookie"


OPERATOR: Any = Depends(operator)
"""Marks an endpoint of the installation's operator."""


class CodecCors:
    """Lets the pages of the Temporal UI, and no others, call the codec endpoints with the operator's cookie."""

    def __init__(self, app: ASGIApp, *, origin: str) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=[origin] if origin else [],
            allow_methods=["POST"],
            allow_headers=["Content-Type", "X-Namespace", "Authorization"],
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; those for other paths know nothing of other origins."""
        ours = scope["type"] == "http" and scope["path"].startswith(f"{CODEC_PATH}/")
        await (self._cors if ours else self._app)(scope, receive, send)


def origin_of(url: str) -> str:
    """Scheme and authority, as a browser writes them in `Origin`; empty for an empty URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def cookie_options(settings: Settings) -> Mapping[str, Any]:
    """Scripts never read the cookie, other sites never send it, other endpoints never see it."""
    return {
        "max_age": settings.token_seconds,
        "path": CODEC_PATH,
        "httponly": True,
        "samesite": "strict",
        "secure": settings.public_url.startswith("https://"),
    }
