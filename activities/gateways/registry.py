"""Which rails there are, for money in and for money out, and how an account's settings become one."""

from collections.abc import Callable
from typing import Final

import httpx
from pydantic import SecretStr

from activities.gateways.paystack import PaystackRail
from activities.gateways.paystack_transfers import PaystackTransfers
from activities.gateways.protocols import PaymentRail, PayoutCapabilities, PayoutRail
from activities.gateways.stripe import StripeRail
from contracts.base import Message

_PAYSTACK_URL: Final = "https://api.paystack.co"


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
        account.base_url or _PAYSTACK_URL,
        account.secret_key.get_secret_value(),
        timeout_seconds=timeout_seconds,
    )


def _paystack_transfers(account: RailAccount, client: httpx.AsyncClient, timeout_seconds: float) -> PayoutRail:
    return PaystackTransfers(
        client,
        account.base_url or _PAYSTACK_URL,
        account.secret_key.get_secret_value(),
        timeout_seconds=timeout_seconds,
    )


RAILS: dict[str, Callable[[RailAccount, httpx.AsyncClient, float], PaymentRail]] = {
    "stripe": _stripe,
    "paystack": _paystack,
}
PAYOUT_RAILS: dict[str, Callable[[RailAccount, httpx.AsyncClient, float], PayoutRail]] = {
    "paystack": _paystack_transfers,
}
PAYOUT_CAPABILITIES: dict[str, PayoutCapabilities] = {"paystack": PaystackTransfers.capabilities}
"""What can be known of a payout rail without an account."""


def payout_minimums(currency: str) -> dict[str, int]:
    """By provider, the least it sends in a currency, in minor units; those that cannot send it are not there."""
    return {
        name: able.minimum_minor[currency]
        for name, able in PAYOUT_CAPABILITIES.items()
        if currency in able.minimum_minor
    }


def build_rail(account: RailAccount, client: httpx.AsyncClient, *, timeout_seconds: float = 10.0) -> PaymentRail:
    """The account's rail over the shared `client`. Cheap: nothing is opened. Raises ValueError for an unknown provider."""
    try:
        build = RAILS[account.provider]
    except KeyError:
        raise ValueError(f"no payment rail named {account.provider!r}") from None
    return build(account, client, timeout_seconds)


def build_payout_rail(account: RailAccount, client: httpx.AsyncClient, *, timeout_seconds: float = 10.0) -> PayoutRail:
    """As `build_rail`, for money out. Raises ValueError for a provider that pays nobody out."""
    try:
        build = PAYOUT_RAILS[account.provider]
    except KeyError:
        raise ValueError(f"no payout rail named {account.provider!r}") from None
    return build(account, client, timeout_seconds)
