"""The demo tenant: an organisation in test mode whose payments go to the sandbox, and its administrator.

Idempotent: `chama up` runs it at every start, because the sandbox's address may have changed.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.auth import Passwords
from cli.users import add_tenant
from contracts.base import Mode, Scope
from contracts.ids import derive_id
from infra.crypto import Vault
from infra.database import Database
from infra.settings import Settings
from models.provider import ProviderAccount, put_account, sealing_purpose, set_return_urls
from models.user import EmailTaken, Role, create_user, find_tenant

ADMIN_EMAIL = "admin@demo.test"
CURRENCIES = {"paystack": ["NGN", "GHS", "KES", "ZAR", "USD"], "stripe": ["NGN", "USD", "EUR", "GBP", "KES"]}
RETURN_URLS = ["http://localhost", "http://127.0.0.1", "https://app.demo.test/done"]


@dataclass(frozen=True)
class SeedResult:
    """What a person needs to begin."""

    tenant: str
    mode: str
    admin_email: str
    admin_password: str
    scope: Scope = field(repr=False)
    sandbox_keys: dict[str, str] = field(repr=False)
    """Provider → the secret key of the tenant's account at the sandbox."""


async def seed(settings: Settings, sandbox_url: str, slug: str | None = None) -> SeedResult:
    """Make (or refresh) a tenant, its provider accounts and its administrator. `slug`: the default tenant when absent."""
    slug = slug or settings.default_tenant
    scope = Scope(tenant_id=await _tenant(settings, slug), mode=Mode.TEST)
    password = _derived(settings, f"{slug}-admin")[:20]
    await _admin(settings, scope, password)
    vault = Vault.from_settings(settings)
    keys = {}
    async with httpx.AsyncClient() as http:
        for provider, currencies in CURRENCIES.items():
            keys[provider] = f"sk_test_{_derived(settings, f'{slug}-{provider}-secret')[:32]}"
            await _provider(settings, scope, vault, http, sandbox_url, provider, keys[provider], currencies)
    return SeedResult(slug, scope.mode, ADMIN_EMAIL, password, scope, keys)


async def _tenant(settings: Settings, slug: str) -> UUID:
    people = Database(settings.role_url("chama_auth"), name="chama-seed", max_size=1)
    await people.open()
    try:
        async with people.transaction() as tx:
            found = await find_tenant(tx, slug)
        if found is None:
            await add_tenant(settings, slug=slug, name=slug.title(), zone="Africa/Lagos")
            async with people.transaction() as tx:
                found = await find_tenant(tx, slug)
        assert found is not None
        return found
    finally:
        await people.close()


async def _admin(settings: Settings, scope: Scope, password: str) -> None:
    people = Database(settings.role_url("chama_auth"), name="chama-seed", max_size=1)
    await people.open()
    try:
        hashed = await Passwords(settings).hash(password)
        async with people.transaction(scope) as tx:
            await create_user(
                tx, scope, email=ADMIN_EMAIL, name="Demo Admin", role=Role.ADMIN, password_hash=hashed,
                user_id=derive_id("usr", scope, "seed", ADMIN_EMAIL),
            )  # fmt: skip
    except EmailTaken:
        pass
    finally:
        await people.close()


async def _provider(
    settings: Settings, scope: Scope, vault: Vault, http: httpx.AsyncClient, sandbox_url: str, provider: str,
    secret_key: str, currencies: list[str],
) -> None:  # fmt: skip
    """Our account row, and the same account at the sandbox with our webhook address."""
    hook = f"whsec_{_derived(settings, f'{scope}-{provider}-hook')[:32]}" if provider == "stripe" else None
    account = ProviderAccount(
        tenant_id=scope.tenant_id, mode=scope.mode, id=derive_id("pac", scope, provider), provider=provider,
        base_url=f"{sandbox_url}/{provider}", sealed_secret_key="", currencies=currencies,
    )  # fmt: skip
    account.sealed_secret_key = vault.seal(secret_key, purpose=sealing_purpose(account, "secret_key"))
    if hook:
        account.sealed_webhook_secret = vault.seal(hook, purpose=sealing_purpose(account, "webhook_secret"))
    async with await AsyncConnection.connect(settings.database_url, row_factory=dict_row) as owner:
        await owner.execute(
            "select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)",
            (str(scope.tenant_id), str(scope.mode)),
        )
        await put_account(owner, account)
        await set_return_urls(owner, scope, RETURN_URLS)
    webhook_url = f"{settings.public_url}/v1/webhooks/payments/{provider}/{account.id}"
    body = {"provider": provider, "secret_key": secret_key, "webhook_url": webhook_url}
    answer = await http.post(f"{sandbox_url}/_sandbox/accounts", json=body | ({"webhook_secret": hook} if hook else {}))
    answer.raise_for_status()


def _derived(settings: Settings, purpose: str) -> str:
    """A secret of this installation, the same at every start: HMAC-SHA-256 of its vault key."""
    key = settings.vault_key.get_secret_value().encode()
    return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()
