"""What the release of a campaign's money books (`domain/accounts.py` has the rest).

Escrow is released tranche by tranche onto the campaign's proceeds account: the money is the owner's there, and not sent
yet. From it a payout leaves (`domain/payout_postings.py`), or it goes into the owner's wallet. What investors take back goes
from escrow into their wallets.
"""

from datetime import datetime
from typing import Final

from domain.accounts import AccountKind, AccountSpec, Leg, Phase, Posting, escrow, platform_fees, wallet
from domain.money import Money

PAYOUT_REASON: Final = "owner_payout"
"""`Payout.reason` of what leaves a proceeds account."""


def proceeds(campaign_id: str, currency: str) -> AccountSpec:
    """What is released to a campaign's owner and not sent yet. Bounded: no more is sent than was released."""
    return AccountSpec(f"proceeds:{campaign_id}:{currency}", currency, AccountKind.LIABILITY, bounded=True)


def tranche_released(tranche_id: str, *, campaign_id: str, amount: Money, fee: Money, as_of: datetime) -> Posting:
    """A tranche is the owner's: Dr escrow (all of it), Cr proceeds (less the fee), Cr platform fees."""
    parts = ((proceeds(campaign_id, amount.currency), (amount - fee).amount_minor),
             (platform_fees(amount.currency), fee.amount_minor))  # fmt: skip
    legs = (
        Leg(escrow(campaign_id, amount.currency), amount.amount_minor),
        *(Leg(account, -minor) for account, minor in parts if minor),
    )
    return Posting(f"release/{tranche_id}", "tranche_released", Phase.SINGLE, as_of, legs)


def proceeds_credited(tranche_id: str, *, campaign_id: str, owner_id: str, amount: Money, as_of: datetime) -> Posting:
    """The owner wants a released tranche in the wallet: Dr proceeds, Cr wallet."""
    legs = (
        Leg(proceeds(campaign_id, amount.currency), amount.amount_minor),
        Leg(wallet(owner_id, amount.currency), -amount.amount_minor),
    )
    return Posting(f"proceeds/{tranche_id}", "proceeds_credited", Phase.SINGLE, as_of, legs)


def escrow_returned(
    vote_id: str, line_no: int, *, campaign_id: str, user_id: str, amount: Money, as_of: datetime
) -> Posting:
    """An investor's part of what was not released comes back: Dr escrow, Cr wallet."""
    legs = (
        Leg(escrow(campaign_id, amount.currency), amount.amount_minor),
        Leg(wallet(user_id, amount.currency), -amount.amount_minor),
    )
    return Posting(f"return/{vote_id}/{line_no}", "escrow_returned", Phase.SINGLE, as_of, legs)
