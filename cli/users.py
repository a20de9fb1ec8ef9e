"""`chama user create` and `chama tenant create`: the first people and organisations, made from the command line.

Sign-up over HTTP never makes an administrator, and no request makes a tenant.
"""

import json
import re
from functools import cache
from uuid import uuid4
from zoneinfo import available_timezones

from pydantic import ValidationError

from api.auth import Passwords
from api.envelope import parse_json
from api.routes.auth import SignupRequest
from contracts.base import Mode, Scope
from domain.errors import DomainError, InvalidRequest, NotFound
from infra.database import Database
from infra.settings import Settings
from models.command import audit
from models.tenant import create_tenant
from models.user import Role, create_user, find_tenant

ACTOR = "cli"
"""Who the audit log names for what is done here: whoever could log in as the database's owner."""

PASSWORD_MIN = 12
_RULES = {
    "email": "an address is ASCII, without blanks, of 254 characters at most, like ada@example.com.",
    "name": "a name has 1 to 200 characters, and no control characters.",
    "password": "a password has 128 characters at most.",
}
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,39}")


async def add_user(
    settings: Settings, *, tenant: str, mode: Mode, email: str, name: str, role: Role, password: str
) -> str:
    """Create a user of `tenant` (slug) and return its id.

    Raises NotFound for an unknown tenant, models.user.EmailTaken, and InvalidRequest for a short password, and for what
    sign-up would refuse: nobody could log in with it.
    """
    if len(password) < PASSWORD_MIN:
        raise InvalidRequest("weak_password", f"The password needs at least {PASSWORD_MIN} characters.")
    wanted = _as_signed_up(email=email, name=name, password=password)
    hashed = await Passwords(settings).hash(password)
    people = Database(settings.role_url("chama_auth"), name="chama-cli", max_size=1)
    await people.open()
    try:
        async with people.transaction() as tx:
            tenant_id = await find_tenant(tx, tenant)
        if tenant_id is None:
            raise NotFound("tenant")
        scope = Scope(tenant_id=tenant_id, mode=mode)
        async with people.transaction(scope) as tx:
            user = await create_user(tx, scope, email=wanted.email, name=wanted.name, role=role, password_hash=hashed)
            await audit(
                tx,
                scope,
                actor=ACTOR,
                action="user.create",
                entity="user",
                entity_id=user.id,
                request_id=ACTOR,
                detail={"role": str(role)},
            )
    finally:
        await people.close()
    return user.id


def _as_signed_up(**given: str) -> SignupRequest:
    """The person as sign-up would read it. Raises InvalidRequest, which never repeats what was given."""
    for field, text in given.items():
        try:
            parse_json(json.dumps(text).encode())
        except DomainError as error:
            raise InvalidRequest(error.code, f"The {field} is refused: {error.message}") from None
    try:
        return SignupRequest.model_validate({"tenant": "any", "mode": "test", **given})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise InvalidRequest("invalid_request", f"The {field} is refused: {_RULES[field]}") from None


@cache
def _zones() -> set[str]:
    """Every IANA zone, read once: some hundred files."""
    return available_timezones()


async def add_tenant(settings: Settings, *, slug: str, name: str, zone: str) -> str:
    """Create a tenant with both its modes and return its id.

    `slug` is its public name, `zone` the IANA time zone of its business date. Raises InvalidRequest for a
    malformed one and models.tenant.TenantExists.
    """
    if _SLUG.fullmatch(slug) is None:
        raise InvalidRequest(
            "invalid_slug", "A tenant's public name is 2 to 40 of a-z, 0-9 and -, and begins with a letter."
        )
    if zone not in _zones():
        raise InvalidRequest("invalid_zone", f"{zone!r} is no IANA time zone (for example Africa/Lagos).")
    tenant_id = uuid4()
    owner = Database(settings.database_url, name="chama-cli", max_size=1)
    await owner.open()
    try:
        await create_tenant(owner, tenant_id, slug=slug, name=name, zone=zone)
    finally:
        await owner.close()
    return str(tenant_id)
