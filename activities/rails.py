"""From a tenant's sealed provider account to a rail that can be called. Credentials are opened here and nowhere else."""

from datetime import timedelta

import httpx
from pydantic import SecretStr

from activities.gateways.protocols import PaymentRail, PayoutRail, RailNotSent
from activities.gateways.registry import RailAccount, build_payout_rail, build_rail
from activities.gateways.wallet import WalletRail
from domain.payment import WALLET
from infra.crypto import Vault
from infra.database import Tx
from models.provider import ProviderAccount, account_of, sealing_purpose


class Rails:
    """Builds rails and keeps them: one per account and credential, sharing one HTTP client."""

    def __init__(self, vault: Vault, client: httpx.AsyncClient, *, timeout_seconds: float = 10.0) -> None:
        self._vault, self._client, self._timeout_seconds = vault, client, timeout_seconds
        self._wallet = WalletRail()
        self._built: dict[tuple[str, str], PaymentRail] = {}
        self._built_out: dict[tuple[str, str], PayoutRail] = {}

    async def of(self, tx: Tx, provider: str) -> PaymentRail:
        """The scope's rail. Raises RailNotSent when the tenant has no active account there now: nothing can be asked until
        an operator switches it on again, so callers retry."""
        if provider == WALLET:
            return self._wallet
        account = await account_of(tx, provider)
        if account is None:
            raise RailNotSent("provider_unavailable", retry_after=timedelta(minutes=1))
        return self.build(account)

    def build(self, account: ProviderAccount) -> PaymentRail:
        """The rail of one account, made once per credential."""
        key = (account.id, account.sealed_secret_key)
        if key not in self._built:
            hook = SecretStr("")
            if account.sealed_webhook_secret:
                purpose = sealing_purpose(account, "webhook_secret")
                hook = self._vault.unseal(account.sealed_webhook_secret, purpose=purpose)
            opened = RailAccount(
                provider=account.provider,
                base_url=account.base_url,
                secret_key=SecretStr(self.secret_key(account)),
                webhook_secret=hook,
            )
            self._built[key] = build_rail(opened, self._client, timeout_seconds=self._timeout_seconds)
        return self._built[key]

    async def payout_rail(self, tx: Tx, provider: str) -> PayoutRail:
        """As `of`, for money out. Raises ValueError for a provider that pays nobody out."""
        account = await account_of(tx, provider)
        if account is None:
            raise RailNotSent("provider_unavailable", retry_after=timedelta(minutes=1))
        return self.build_payout_rail(account)

    def build_payout_rail(self, account: ProviderAccount) -> PayoutRail:
        """As `build`, for money out."""
        key = (account.id, account.sealed_secret_key)
        if key not in self._built_out:
            opened = RailAccount(
                provider=account.provider, base_url=account.base_url, secret_key=SecretStr(self.secret_key(account))
            )
            self._built_out[key] = build_payout_rail(opened, self._client, timeout_seconds=self._timeout_seconds)
        return self._built_out[key]

    def secret_key(self, account: ProviderAccount) -> str:
        """The account's credential in clear; for calls to the provider only."""
        purpose = sealing_purpose(account, "secret_key")
        return self._vault.unseal(account.sealed_secret_key, purpose=purpose).get_secret_value()
