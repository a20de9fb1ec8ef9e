"""Which rails there are, and how an account's settings become one."""

from collections.abc import Callable

import httpx
from pydantic import SecretStr

from activities.gateways.paystack import PaystackRail
from activities.gateways.protocols import PaymentRail
from activities.gateways.stripe import StripeRail
from contracts.base import Message


class RailAccount(Message):
    """A tenant's account at a provider, opened from the vault for the duration of a call. Secrets print as stars."""

    provider: str
    base_url: str = ""
    """Empty: the provider's production address."""
    secret_key: SecretStr
    webhook_secret: SecretStr = SecretStr("")
    """Only where the provider has one apart from the key."""


def _stripe(account: RailAccount, client: httpx.AsyncClient, timeout_seconds: float) -> PaymentRail:
    return StripeRail(
        client,
        account.base_url or "https://api.stripe.com",
        account.secret_key.get_secret_value(),
        account.webhook_secret.get_secret_value(),
        timeout_seconds=timeout_seconds,
    )


def _paystack(account: RailAccount, client: httpx.AsyncClient, timeout_seconds: float) -> PaymentRail:
    return PaystackRail(
        client,
        account.base_url or "https://api.paystack.co",
        account.secret_key.get_secret_value(),
        timeout_seconds=timeout_seconds,
    )


RAILS: dict[str, Callable[[RailAccount, httpx.AsyncClient, float], PaymentRail]] = {
    "stripe": _stripe,
    "paystack": _paystack,
}


def build_rail(account: RailAccount, client: httpx.AsyncClient, *, timeout_seconds: float = 10.0) -> PaymentRail:
    """The account's rail over the shared `client`. Cheap: nothing is opened. Raises ValueError for an unknown provider."""
    try:
        build = RAILS[account.provider]
    except KeyError:
        raise ValueError(f"no payment rail named {account.provider!r}") from None
    return build(account, client, timeout_seconds)
