"""What a payout books, one template per money event (see `domain/accounts.py`). It may leave any account of the tenant's."""

from datetime import datetime

from domain.accounts import AccountSpec, Leg, Phase, Posting, provider_clearing, provider_fees
from domain.money import Money


def payout_key(payout_id: str, step: str) -> str:
    """The key of one step of a payout: of its posting or its effect. The auditor joins ledger and payouts by it."""
    return f"payout/{payout_id}/{step}"


def payout_requested(payout_id: str, *, source: AccountSpec, provider: str, amount: Money, as_of: datetime) -> Posting:
    """Money is promised to a beneficiary: hold Dr source, Cr provider. Before any approval, and before any call."""
    clearing = provider_clearing(provider, amount.currency)
    legs = (Leg(source, amount.amount_minor), Leg(clearing, -amount.amount_minor))
    return Posting(payout_key(payout_id, "hold"), "payout_requested", Phase.PENDING, as_of, legs)


def payout_sent(payout_id: str, *, as_of: datetime) -> Posting:
    """The provider sent it: posts the hold."""
    return _resolve(payout_id, "post", "payout_sent", Phase.POST, as_of)


def payout_released(payout_id: str, *, as_of: datetime) -> Posting:
    """It was definitely not sent, and never will be (failed, canceled, rejected): voids the hold."""
    return _resolve(payout_id, "void", "payout_released", Phase.VOID, as_of)


def payout_returned(payout_id: str, *, as_of: datetime) -> Posting:
    """The beneficiary's bank gave it back: every leg of what was sent, the other way."""
    target = payout_key(payout_id, "post")
    return Posting(payout_key(payout_id, "return"), "payout_returned", Phase.REVERSAL, as_of, target=target)


def payout_fee(payout_id: str, *, provider: str, fee: Money, as_of: datetime) -> Posting:
    """What the provider took from our account besides: Dr provider fees, Cr provider. The tenant bears it."""
    legs = (
        Leg(provider_fees(fee.currency), fee.amount_minor),
        Leg(provider_clearing(provider, fee.currency), -fee.amount_minor),
    )
    return Posting(payout_key(payout_id, "fee"), "payout_fee", Phase.SINGLE, as_of, legs)


def _resolve(payout_id: str, step: str, event: str, phase: Phase, as_of: datetime) -> Posting:
    return Posting(payout_key(payout_id, step), event, phase, as_of, target=payout_key(payout_id, "hold"))
