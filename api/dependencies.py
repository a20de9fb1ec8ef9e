"""What endpoints ask for: the caller, allowed to do a named action. Every endpoint names one, or is PUBLIC.

@router.get("/users/me")
async def read_me(request: Request, principal: Annotated[Principal, requires("user.read_self")]) -> …
"""

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth import InvalidToken, Principal, Tokens
from api.policy import POLICY, may_ask
from domain.errors import Forbidden
from infra.database import Database
from models.user import active_role

BEARER = HTTPBearer(auto_error=False, scheme_name="AccessToken", bearerFormat="JWT")
"""Reads the header `Authorization: Bearer …`; None without one."""


class Allowed:
    """Authenticates the caller and refuses roles that never may do `action`; ownership is the handler's to check."""

    def __init__(self, action: str) -> None:
        assert action in POLICY, f"action {action} is not in the policy table"
        self.action = action

    async def __call__(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
    ) -> Principal:
        """The caller, with the role the user has now. Raises InvalidToken or Forbidden."""
        principal = await authenticate(request, credentials)
        if principal.role is None or not may_ask(principal.role, self.action):
            raise Forbidden("forbidden", "Your role does not allow this.")
        return principal


async def authenticate(request: Request, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    """The token's user as the database knows it now. Raises InvalidToken, also for a disabled or vanished user."""
    if credentials is None:
        raise InvalidToken
    tokens: Tokens = request.app.state.tokens
    database: Database = request.app.state.database
    claimed = tokens.check(credentials.credentials)
    role = await active_role(database, claimed.scope, claimed.user_id)
    if role is None:
        raise InvalidToken
    return Principal(claimed.user_id, role, claimed.scope)


def requires(action: str) -> Any:
    """The dependency that lets through only callers whose role has `action`."""
    return Depends(Allowed(action))


async def public() -> None:
    """Marks an endpoint that anybody may call."""


PUBLIC: Any = Depends(public)
