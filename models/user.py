"""Users, and the lookup of the tenant they name before any scope is trusted.

The app role cannot read `password_hash`: only the auth role can, at sign-up and login.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID, uuid4

from psycopg.errors import UniqueViolation
from sqlalchemy import SmallInteger
from sqlmodel import Field

from contracts.base import Scope
from domain.errors import Conflict
from infra.database import Database, Tx, fetch_one
from models.base import Scoped, read_all

_VISIBLE = "tenant_id, mode, id, email, name, role, created_at, disabled_at, kyc_level, country"


class Role(StrEnum):
    """What a user may do in general; `api/policy.py` says it in detail."""

    ADMIN = "admin"
    BUSINESS_OWNER = "business_owner"
    INVESTOR = "investor"


class User(Scoped, table=True):
    """A person of one tenant in one mode. `kyc_level`, `country`: see `domain/eligibility.py`."""

    __tablename__: ClassVar[str] = "users"

    id: str = Field(primary_key=True)
    email: str
    name: str
    role: Role
    password_hash: str = Field(default="", repr=False)
    created_at: datetime
    disabled_at: datetime | None = None
    kyc_level: int = Field(default=0, sa_type=SmallInteger)
    country: str | None = None


class EmailTaken(Conflict):
    """Somebody of this tenant and mode signed up with that address."""

    def __init__(self) -> None:
        super().__init__("email_taken", "A user with this email address exists already.", field="email")


def new_user_id() -> str:
    """A random id. Not derived from the address: ids stand in Temporal in clear, and an address could be guessed."""
    return f"usr_{uuid4().hex}"


async def find_tenant(tx: Tx, slug: str) -> UUID | None:
    """The tenant's id by its public name (auth role: it sees every tenant)."""
    row = await fetch_one(tx, "select id from tenants where slug = %s", (slug,))
    return row["id"] if row else None


async def create_user(
    tx: Tx, scope: Scope, *, email: str, name: str, role: Role, password_hash: str, user_id: str | None = None
) -> User:
    """Insert a user (auth role, or the owner with the scope set). Raises EmailTaken."""
    values = {
        "tenant": scope.tenant_id,
        "mode": str(scope.mode),
        "id": user_id or new_user_id(),
        "email": email.lower(),
        "name": name,
        "role": str(role),
        "hash": password_hash,
    }
    try:
        row = await fetch_one(
            tx,
            f"""insert into users (tenant_id, mode, id, email, name, role, password_hash)
            values (%(tenant)s, %(mode)s, %(id)s, %(email)s, %(name)s, %(role)s, %(hash)s)
            returning {_VISIBLE}""",  # noqa: S608 - a constant
            values,
        )
    except UniqueViolation as error:
        raise EmailTaken from error
    return User.model_validate(row)


async def find_login(tx: Tx, scope: Scope, email: str) -> User | None:
    """The user with that address and its password hash, also when disabled (auth role)."""
    row = await fetch_one(
        tx,
        "select * from users where tenant_id = %s and mode = %s and email = %s",
        (scope.tenant_id, str(scope.mode), email.lower()),
    )
    return User.model_validate(row) if row else None


async def get_user(tx: Tx, user_id: str) -> User | None:
    """A user of the transaction's scope, without the password hash."""
    row = await fetch_one(tx, f"select {_VISIBLE} from users where id = %s", (user_id,))  # noqa: S608 - a constant
    return User.model_validate(row) if row else None


async def users_of(tx: Tx, user_ids: Sequence[str]) -> list[User]:
    """Those of the users that there are, in any order, without the password hashes."""
    query = f"select {_VISIBLE} from users where id = any(%s)"  # noqa: S608 - a constant
    return await read_all(tx, User, query, (list(user_ids),))


async def verify_user(tx: Tx, user_id: str, *, kyc_level: int, country: str | None) -> User | None:
    """Set how well a person is known and where it lives; None when there is no such user."""
    row = await fetch_one(
        tx,
        f"update users set kyc_level = %s, country = %s where id = %s returning {_VISIBLE}",  # noqa: S608 - a constant
        (kyc_level, country, user_id),
    )
    return User.model_validate(row) if row else None


async def active_role(database: Database, scope: Scope, user_id: str) -> Role | None:
    """The role the user has now; None when unknown or disabled. Asked on each request, so a change takes effect at once."""
    row = await database.ask(scope, "select role from users where id = $1 and disabled_at is null", (user_id,))
    return Role(row["role"]) if row else None


async def set_role(tx: Tx, scope: Scope, user_id: str, role: Role) -> bool:
    """Change the role (auth role). False when there is no such user."""
    cursor = await tx.execute(
        "update users set role = %s where tenant_id = %s and mode = %s and id = %s",
        (str(role), scope.tenant_id, str(scope.mode), user_id),
    )
    return cursor.rowcount == 1


async def disable_user(tx: Tx, scope: Scope, user_id: str, at: datetime) -> bool:
    """Refuse the user from now on, tokens included (auth role). False when unknown or disabled already."""
    cursor = await tx.execute(
        """update users set disabled_at = %s
        where tenant_id = %s and mode = %s and id = %s and disabled_at is null""",
        (at, scope.tenant_id, str(scope.mode), user_id),
    )
    return cursor.rowcount == 1
