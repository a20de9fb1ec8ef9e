"""Making a tenant. Only the owner's role can: the app role reads its own tenant and writes none."""

from uuid import UUID

from psycopg.errors import UniqueViolation

from contracts.base import Mode, Scope
from domain.errors import Conflict
from infra.database import Database, Tx


class TenantExists(Conflict):
    """Another tenant has that public name."""

    def __init__(self, slug: str) -> None:
        super().__init__("tenant_exists", f"A tenant named {slug!r} exists already.", field="slug")


async def create_tenant(owner: Database, tenant_id: UUID, *, slug: str, name: str, zone: str) -> None:
    """Insert a tenant and the settings of both its modes; `owner` logs in as the schema's owner. Raises TenantExists.

    `zone` is an IANA time zone: it decides the tenant's business date. Three transactions, one per scope, so an
    interrupted call may be repeated with the same `tenant_id`.
    """
    async with owner.transaction(Scope(tenant_id=tenant_id, mode=Mode.TEST)) as tx:
        await _insert_tenant(tx, tenant_id, slug, name, zone)
    for mode in Mode:
        async with owner.transaction(Scope(tenant_id=tenant_id, mode=mode)) as tx:
            await tx.execute(
                "insert into tenant_settings (tenant_id, mode) values (%s, %s) on conflict do nothing",
                (tenant_id, str(mode)),
            )


async def _insert_tenant(tx: Tx, tenant_id: UUID, slug: str, name: str, zone: str) -> None:
    try:
        await tx.execute(
            """insert into tenants (id, slug, name, zone) values (%s, %s, %s, %s)
            on conflict (id) do nothing""",
            (tenant_id, slug, name, zone),
        )
    except UniqueViolation as error:
        raise TenantExists(slug) from error
