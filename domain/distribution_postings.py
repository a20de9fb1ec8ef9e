"""What a distribution run books: its two accounts, and one posting template per event (`domain/accounts.py` has the rest).

The money of a run is held on the campaign's funding account when the run is approved, becomes payable when paying
starts, and leaves the payable account line by line: net to its holder, tax and fees to theirs. What is carried forward
stays payable, so after a run the account holds exactly what its lines carry.
"""

from datetime import datetime
from functools import lru_cache

from domain.accounts import (
    AccountKind,
    AccountSpec,
    InvalidPosting,
    Leg,
    Phase,
    Posting,
    platform_fees,
    provider_clearing,
    provider_fees,
    tax_withheld,
    wallet,
)
from domain.distribution import Line
from domain.money import Money


@lru_cache(maxsize=256)  # one for all lines of a run
def distribution_payable(campaign_id: str, currency: str) -> AccountSpec:
    """What we owe a campaign's holders from its distributions. Bounded: a run pays only what was put in."""
    return AccountSpec(f"payable:{campaign_id}:{currency}", currency, AccountKind.LIABILITY, bounded=True)


def unclaimed(currency: str) -> AccountSpec:
    """What is owed to people who could not be paid, until they come or the law says otherwise. Bounded."""
    return AccountSpec(f"unclaimed:{currency}", currency, AccountKind.LIABILITY, bounded=True)


def distribution_declared(
    key: str, *, funding: AccountSpec, campaign_id: str, amount: Money, as_of: datetime
) -> Posting:
    """An approved run reserves its money (`Totals.to_fund_minor`): hold Dr funding (escrow or wallet), Cr payable."""
    payable = distribution_payable(campaign_id, amount.currency)
    return Posting(key, "distribution_declared", Phase.PENDING, as_of, _moved(funding, (payable, amount.amount_minor)))


def distribution_funded(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The run begins to pay: what was held is the holders'."""
    return Posting(key, "distribution_funded", Phase.POST, as_of, target=hold)


def distribution_canceled(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The run was canceled before it paid: the money is where it was."""
    return Posting(key, "distribution_canceled", Phase.VOID, as_of, target=hold)


def distribution_credited(
    key: str, *, campaign_id: str, user_id: str, currency: str, line: Line, as_of: datetime
) -> Posting:
    """A line is paid inside: Dr payable (gross), Cr wallet (net), tax withheld, platform fees, provider fees."""
    legs = _line_legs(campaign_id, wallet(user_id, currency), currency, line)
    return Posting(key, "distribution_credited", Phase.SINGLE, as_of, legs)


def distribution_sending(
    key: str, *, campaign_id: str, provider: str, currency: str, line: Line, as_of: datetime
) -> Posting:
    """A line is about to be paid out: hold with the same legs, the net to the provider. Before any call.

    It is the hold of the line's payout, under its key: `payout_sent` posts it, `payout_released` voids it, and
    `payout_returned` makes all of it payable again.
    """
    legs = _line_legs(campaign_id, provider_clearing(provider, currency), currency, line)
    return Posting(key, "distribution_sending", Phase.PENDING, as_of, legs)


def distribution_recovered(
    key: str, *, campaign_id: str, funding: AccountSpec, amount: Money, as_of: datetime
) -> Posting:
    """An adjustment took back what was paid too much (`Line.recovered_minor`): Dr payable, Cr funding."""
    legs = _moved(distribution_payable(campaign_id, amount.currency), (funding, amount.amount_minor))
    return Posting(key, "distribution_recovered", Phase.SINGLE, as_of, legs)


def distribution_unclaimed(key: str, *, campaign_id: str, amount: Money, as_of: datetime) -> Posting:
    """Nobody could be paid, and no run follows: Dr payable, Cr unclaimed, in full: tax and fees wait for a payment."""
    payable = distribution_payable(campaign_id, amount.currency)
    legs = _moved(payable, (unclaimed(amount.currency), amount.amount_minor))
    return Posting(key, "distribution_unclaimed", Phase.SINGLE, as_of, legs)


def _line_legs(campaign_id: str, net_into: AccountSpec, currency: str, line: Line) -> tuple[Leg, ...]:
    """The gross out of the payable account and its parts into theirs. Raises InvalidPosting for a line that is carried."""
    return _moved(
        distribution_payable(campaign_id, currency),
        (net_into, line.net_minor),
        (tax_withheld(currency), line.tax_minor),
        (platform_fees(currency), line.platform_fee_minor),
        (provider_fees(currency), line.provider_fee_minor),
    )


def _moved(source: AccountSpec, first: tuple[AccountSpec, int], *others: tuple[AccountSpec, int]) -> tuple[Leg, ...]:
    """Legs from one account to several. The first part is above zero; of the others those that are nothing are left out."""
    parts = (first, *(part for part in others if part[1]))
    if any(amount <= 0 for _, amount in parts):
        raise InvalidPosting("an amount that moves is above zero")
    total = sum(amount for _, amount in parts)
    return Leg(source, total), *(Leg(account, -amount) for account, amount in parts)
