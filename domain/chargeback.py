"""Chargebacks: a payer's bank has taken captured money back, from the provider and so from us. It goes back once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.accounts import AccountSpec, Leg, Phase, Posting, provider_clearing, suspense
from domain.allocation import split
from domain.money import Money
from domain.payment import WALLET


@dataclass(frozen=True)
class Part:
    """One pledge of a holder, in minor units."""

    investment_id: str
    provider: str
    amount_minor: int
    charged_back: bool


def divide(share_minor: int, parts: Sequence[Part]) -> tuple[int, list[tuple[Part, int]]]:
    """What of a holder's share is the holder's, and what is of each pledge that was charged back; the sum is the share.

    `parts` are the pledges the share was calculated from. Nothing is of a pledge whose part is less than a unit.
    """
    if not any(each.charged_back for each in parts):
        return share_minor, []
    shares = split(share_minor, {each.investment_id: each.amount_minor for each in parts})
    lost = [(each, shares[each.investment_id]) for each in parts if each.charged_back and shares[each.investment_id]]
    return share_minor - sum(minor for _, minor in lost), lost


def pledge_charged_back(key: str, *, source: AccountSpec, provider: str, amount: Money, as_of: datetime) -> Posting:
    """What is left of a pledge that was paid through `provider`: Dr `source`, Cr provider. Of one from a wallet nobody knows
    which provider lost it: Cr suspense."""
    lost = suspense(amount.currency) if provider == WALLET else provider_clearing(provider, amount.currency)
    minor = amount.amount_minor
    return Posting(key, "pledge_charged_back", Phase.SINGLE, as_of, (Leg(source, minor), Leg(lost, -minor)))
