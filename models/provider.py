"""A tenant's own accounts at payment providers. Credentials are sealed; only the vault opens them."""

from typing import ClassVar

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlmodel import Field

from contracts.base import Scope
from infra.database import Tx
from models.base import Scoped, read, read_all


class ProviderAccount(Scoped, table=True):
    """One account at one provider. `id` is the endpoint id in the webhook's path, unique over all tenants."""

    __tablename__: ClassVar[str] = "provider_accounts"

    id: str = Field(primary_key=True)
    provider: str
    base_url: str
    sealed_secret_key: str = Field(repr=False)
    sealed_webhook_secret: str | None = Field(default=None, repr=False)
    currencies: list[str] = Field(sa_column=Column(ARRAY(TEXT)))
    active: bool = True


def sealing_purpose(account: ProviderAccount, field: str) -> str:
    """What a sealed credential is bound to: it opens for this tenant, mode, provider and field only."""
    return f"{account.tenant_id}/{account.mode}/{account.provider}/{field}"


async def account_of(tx: Tx, provider: str) -> ProviderAccount | None:
    """The scope's active account at a provider."""
    return await read(
        tx, ProviderAccount, "select * from provider_accounts where provider = %s and active", (provider,)
    )


async def accounts(tx: Tx) -> list[ProviderAccount]:
    """Every account the role may see."""
    return await read_all(tx, ProviderAccount, "select * from provider_accounts order by provider, id")


async def account_by_endpoint(tx: Tx, endpoint_id: str) -> ProviderAccount | None:
    """The account a webhook path names. For the auth role: no scope is known before this look-up."""
    return await read(tx, ProviderAccount, "select * from provider_accounts where id = %s and active", (endpoint_id,))


async def account_for_alias(tx: Tx, slug: str, mode: str, provider: str) -> ProviderAccount | None:
    """The account of the default tenant that the alias webhook paths stand for."""
    return await read(
        tx,
        ProviderAccount,
        """select a.* from provider_accounts a join tenants t on t.id = a.tenant_id
           where t.slug = %s and a.mode = %s and a.provider = %s and a.active""",
        (slug, mode, provider),
    )


async def put_account(tx: Tx, account: ProviderAccount) -> None:
    """Insert the scope's account at a provider, or refresh its address and credentials. For the owner's connection."""
    await tx.execute(
        """insert into provider_accounts
               (tenant_id, mode, id, provider, base_url, sealed_secret_key, sealed_webhook_secret, currencies)
           values (%(tenant_id)s, %(mode)s, %(id)s, %(provider)s, %(base_url)s, %(sealed_secret_key)s,
                   %(sealed_webhook_secret)s, %(currencies)s)
           on conflict (tenant_id, mode, provider) do update set base_url = excluded.base_url,
               sealed_secret_key = excluded.sealed_secret_key,
               sealed_webhook_secret = excluded.sealed_webhook_secret, currencies = excluded.currencies""",
        account.model_dump(),
    )


async def set_return_urls(tx: Tx, scope: Scope, urls: list[str]) -> None:
    """Replace the list of places a payer may be sent back to. For the owner's connection."""
    await tx.execute(
        "update tenant_settings set return_urls = %s where tenant_id = %s and mode = %s",
        (urls, scope.tenant_id, scope.mode),
    )


async def return_urls(tx: Tx) -> list[str]:
    """The URL prefixes a payer may be sent back to."""
    row = await (await tx.execute("select return_urls from tenant_settings")).fetchone()
    return list(row["return_urls"]) if row else []
