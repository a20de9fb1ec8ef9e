"""What an account statement says: what was there, what moved, what is there; and what is invested.

Amounts are minor units of the statement's currency, seen by the holder: positive came in. Days are the tenant's, and both
ends of a period belong to it. A movement counts on the day it happened (`effective_at`), not on that it was written down.
Holds are no movements: what is only promised is not gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from domain.days import begins_at, is_over_at
from domain.errors import InvalidRequest

MAX_DAYS: Final = 366
MAX_LINES: Final = 5_000
"""Of a kind, in a statement that is read."""
MAX_DRAWN: Final = 1_000
"""And in one that is drawn: each line costs two milliseconds of processor time."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of a time zone, `first` and `last` included."""

    first: date
    last: date
    zone: str

    def __post_init__(self) -> None:
        """Raises InvalidRequest `invalid_period` for one that ends before it begins, or is longer than 366 days."""
        days = (self.last - self.first).days + 1
        if days < 1:
            raise InvalidRequest("invalid_period", "A period ends on or after its first day.", field="to")
        if days > MAX_DAYS:
            raise InvalidRequest("invalid_period", f"A statement covers at most {MAX_DAYS} days.", field="to")
        if not date(1970, 1, 2) <= self.first <= self.last <= date(9999, 12, 30):
            raise InvalidRequest("invalid_period", "A statement begins in 1970 or later.", field="from")

    @property
    def begins_at(self) -> datetime:
        """Its first instant."""
        return begins_at(self.first, self.zone)

    @property
    def ends_at(self) -> datetime:
        """The first instant that is no longer in it."""
        return is_over_at(self.last, self.zone)


@dataclass(frozen=True, slots=True)
class Movement:
    """One change of the wallet. `event` is the ledger's word for it, `reference` its key."""

    at: datetime
    event: str
    reference: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Trade:
    """Money that went into a campaign (negative) or came back from it, from whatever source it was paid."""

    at: datetime
    event: str
    investment_id: str
    campaign: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What is invested in one campaign at the end of the period."""

    campaign_id: str
    campaign: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One holder's statement of one currency. `movements` and `trades` are in the order they happened."""

    holder: str
    institution: str
    currency: str
    period: Period
    opening_minor: int
    movements: Sequence[Movement]
    trades: Sequence[Trade]
    holdings: Sequence[Holding]

    @property
    def closing_minor(self) -> int:
        """What is in the wallet after the last day: the opening balance and everything that moved."""
        return self.opening_minor + sum(each.amount_minor for each in self.movements)

    @property
    def balances(self) -> list[int]:
        """The balance after each movement."""
        found, balance = [], self.opening_minor
        for each in self.movements:
            balance += each.amount_minor
            found.append(balance)
        return found

    @property
    def invested_minor(self) -> int:
        """The sum of the holdings."""
        return sum(each.amount_minor for each in self.holdings)


_SAID: Final = {
    "deposit_captured": "Top-up",
    "pledge_captured": "Investment",
    "investment_captured": "Invested",
    "investment_refunded": "Money back",
    "investment_credited_to_wallet": "Money back, into the wallet",
    "reversal": "Correction",
    "escrow_returned": "Money back",
    "milestone_returned": "Money back",
    "proceeds_credited": "Money raised",
}


def said(event: str) -> str:
    """An event as a person reads it: `deposit_captured` is "Top-up", `distribution_credited` "Distribution credited"."""
    return _SAID.get(event) or event.replace("_", " ").capitalize()
