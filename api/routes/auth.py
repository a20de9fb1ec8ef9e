"""Sign-up, login, and who I am."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import JSONResponse, Response

from api.auth import Passwords, Principal, Tokens
from api.commands import Reply, Unit, execute
from api.dependencies import PUBLIC
from api.envelope import Email, Envelope, ShortText, StrictModel, success
from api.reads import Reader, reads
from api.routing import api_router
from contracts.base import Mode, Scope
from domain.errors import InvalidRequest, Unauthenticated
from infra.database import Database
from models import pages
from models.user import Role, User, create_user, find_login, find_tenant

router = api_router(prefix="/v1", tags=["auth"])

TenantSlug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,39}$", description="The tenant's public name")]


class SignupRequest(StrictModel):
    """A new user. Admins are made by the operator's command line only."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tenant": "demo",
                    "mode": "test",
                    "email": "ada@example.com",
                    "name": "Ada Obi",
                    "password": "correct horse battery",
                    "role": "investor",
                }
            ]
        }
    )

    tenant: TenantSlug
    mode: Literal["test", "live"]
    email: Email
    name: ShortText
    password: Annotated[SecretStr, Field(min_length=8, max_length=128)]
    role: Literal["investor", "business_owner"] = "investor"


class LoginRequest(StrictModel):
    """Who wants in, and where."""

    tenant: TenantSlug
    mode: Literal["test", "live"]
    email: Email
    password: Annotated[SecretStr, Field(min_length=1, max_length=128)]


class UserView(BaseModel):
    """A user as it is shown to itself and to admins."""

    id: str
    email: str
    name: str
    role: Role
    kyc_level: int
    country: str | None
    created_at: datetime


class LoginView(BaseModel):
    """An access token, for the header `Authorization: Bearer …`."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind of token, not one
    expires_in: int
    user: UserView


class InvalidCredentials(Unauthenticated):
    """The same answer for a wrong password, an unknown address, a disabled user and an unknown tenant."""

    def __init__(self) -> None:
        super().__init__("invalid_credentials", "Tenant, email address or password is wrong.")


def user_view(user: User) -> UserView:
    """A user's row as it is shown."""
    return UserView.model_validate(user, from_attributes=True)


async def _scope(auth_database: Database, slug: str, mode: str) -> Scope | None:
    async with auth_database.transaction() as tx:
        tenant_id = await find_tenant(tx, slug)
    return None if tenant_id is None else Scope(tenant_id=tenant_id, mode=Mode(mode))


@router.post("/auth/signup", status_code=201, dependencies=[PUBLIC], response_model=Envelope[UserView])
async def sign_up(request: Request, body: SignupRequest) -> JSONResponse:
    """Make a user. `Idempotency-Key` is optional; the password is no part of the comparison with an earlier request."""
    auth_database: Database = request.app.state.auth_database
    passwords: Passwords = request.app.state.passwords
    scope = await _scope(auth_database, body.tenant, body.mode)
    if scope is None:
        raise InvalidRequest("unknown_tenant", "There is no such tenant.", field="tenant")
    password_hash = await passwords.hash(body.password.get_secret_value())

    async def handle(unit: Unit) -> Reply:
        user = await create_user(
            unit.tx,
            scope,
            email=body.email,
            name=body.name,
            role=Role(body.role),
            password_hash=password_hash,
            user_id=unit.new_id("usr"),
        )
        await unit.audit("user.signed_up", "user", user.id, role=str(user.role))
        return Reply(201, user_view(user))

    # Keys of people without an account are told apart by their address: two strangers may pick the same key.
    whose = hashlib.sha256(body.email.encode()).hexdigest()[:32]
    nobody = Principal("anonymous", None, scope)
    return await execute(
        request, nobody, f"auth.signup/{whose}", body, handle, key_required=False, database=auth_database
    )


@router.post("/auth/login", dependencies=[PUBLIC], response_model=Envelope[LoginView])
async def log_in(request: Request, body: LoginRequest) -> JSONResponse:
    """Exchange a password for an access token. Every refusal looks the same and takes the same time."""
    auth_database: Database = request.app.state.auth_database
    passwords: Passwords = request.app.state.passwords
    tokens: Tokens = request.app.state.tokens
    user: User | None = None
    scope = await _scope(auth_database, body.tenant, body.mode)
    if scope is not None:
        async with auth_database.transaction(scope) as tx:
            user = await find_login(tx, scope, body.email)
    known = user is not None and user.disabled_at is None
    matches = await passwords.verify(body.password.get_secret_value(), user.password_hash if user and known else None)
    if user is None or not matches:
        raise InvalidCredentials
    return success(request, LoginView(access_token=tokens.issue(user), expires_in=tokens.seconds, user=user_view(user)))


@router.get("/users/me", tags=["users"], response_model=Envelope[UserView])
async def read_me(reader: Annotated[Reader, reads("user.read_self")]) -> Response:
    """The caller."""
    return await reader.one(lambda _: pages.me())
