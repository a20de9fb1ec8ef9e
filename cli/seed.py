"""The demo tenant: an organisation in test mode whose payments go to the sandbox, and its administrator.

Idempotent: `chama up` runs it at every start, because the sandbox's address may have changed.
"""

import hashlib
import hmac
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.auth import Passwords
from cli.users import add_tenant
from contracts.base import Mode, Scope
from contracts.ids import derive_id
from domain.cards import holds_card_number
from infra.crypto import Vault
from infra.database import Database
from infra.outgoing import http_client
from infra.settings import Settings
from models.provider import ProviderAccount, put_account, sealing_purpose, set_return_urls
from models.user import EmailTaken, Role, create_user, find_tenant

ADMIN_EMAIL = "admin@demo.test"
CURRENCIES = {"paystack": ["NGN", "GHS", "KES", "ZAR", "USD"], "stripe": ["NGN", "USD", "EUR", "GBP", "KES"]}
ZONE = "Africa/Lagos"
"""Of the demo tenant, and of each story's: its days begin at 23:00 UTC."""
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
    password = admin_password(settings, slug)
    people = Database(settings.role_url("chama_auth"), name="chama-seed", max_size=1)
    await people.open()
    try:
        scope = Scope(tenant_id=await _tenant(settings, people, slug), mode=Mode.TEST)
        await _admin(settings, people, scope, password)
    finally:
        await people.close()
    keys = {provider: f"sk_test_{_derived(settings, f'{slug}-{provider}-secret')[:32]}" for provider in CURRENCIES}
    accounts = [_account(settings, scope, sandbox_url, provider, keys[provider]) for provider in CURRENCIES]
    async with await AsyncConnection.connect(settings.database_url, row_factory=dict_row) as owner:
        await owner.execute(
            "select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)",
            (str(scope.tenant_id), str(scope.mode)),
        )
        for account in accounts:
            await put_account(owner, account)
        await set_return_urls(owner, scope, RETURN_URLS)
    async with http_client() as http:
        for account in accounts:
            await _open_at_sandbox(settings, http, sandbox_url, account, keys[account.provider])
    return SeedResult(slug, scope.mode, ADMIN_EMAIL, password, scope, keys)


async def _tenant(settings: Settings, people: Database, slug: str) -> UUID:
    async with people.transaction() as tx:
        found = await find_tenant(tx, slug)
    if found is None:
        return UUID(await add_tenant(settings, slug=slug, name=slug.title(), zone=ZONE))
    return found


async def _admin(settings: Settings, people: Database, scope: Scope, password: str) -> None:
    hashed = await Passwords(settings).hash(password)
    with suppress(EmailTaken):
        async with people.transaction(scope) as tx:
            await create_user(
                tx, scope, email=ADMIN_EMAIL, name="Demo Admin", role=Role.ADMIN, password_hash=hashed,
                user_id=derive_id("usr", scope, "seed", ADMIN_EMAIL),
            )  # fmt: skip


def _account(settings: Settings, scope: Scope, sandbox_url: str, provider: str, secret_key: str) -> ProviderAccount:
    """Our row of the tenant's account at one provider, its secrets sealed."""
    account = ProviderAccount(
        tenant_id=scope.tenant_id, mode=scope.mode, id=derive_id("pac", scope, provider), provider=provider,
        base_url=f"{sandbox_url}/{provider}", sealed_secret_key="", currencies=CURRENCIES[provider],
    )  # fmt: skip
    vault = Vault.from_settings(settings)
    account.sealed_secret_key = vault.seal(secret_key, purpose=sealing_purpose(account, "secret_key"))
    hook = _hook(settings, scope, provider)
    if hook:
        account.sealed_webhook_secret = vault.seal(hook, purpose=sealing_purpose(account, "webhook_secret"))
    return account


async def _open_at_sandbox(
    settings: Settings, http: httpx.AsyncClient, sandbox_url: str, account: ProviderAccount, secret_key: str
) -> None:
    """The same account at the sandbox, with our webhook address."""
    webhook_url = f"{settings.public_url}/v1/webhooks/payments/{account.provider}/{account.id}"
    body = {"provider": account.provider, "secret_key": secret_key, "webhook_url": webhook_url}
    hook = _hook(settings, Scope(tenant_id=account.tenant_id, mode=Mode(account.mode)), account.provider)
    answer = await http.post(f"{sandbox_url}/_sandbox/accounts", json=body | ({"webhook_secret": hook} if hook else {}))
    answer.raise_for_status()


def _hook(settings: Settings, scope: Scope, provider: str) -> str | None:
    """The webhook secret; Paystack signs with the account's own key instead."""
    return f"whsec_{_derived(settings, f'{scope}-{provider}-hook')[:32]}" if provider == "stripe" else None


def admin_password(settings: Settings, slug: str) -> str:
    """The administrator's password: no request takes a text that seems to hold a card number, and chance makes some do."""
    password = _derived(settings, f"{slug}-admin")[:20]
    return password.translate(str.maketrans("0123456789", "ghijklmnop")) if holds_card_number(password) else password


def _derived(settings: Settings, purpose: str) -> str:
    """A secret of this installation, the same at every start: HMAC-SHA-256 of its vault key."""
    key = settings.vault_key.get_secret_value().encode()
    return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()
