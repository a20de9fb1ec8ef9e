"""What an investor's money has done: paid in, come back, still invested; and the returns that follow.

A holding is worth what was invested and not given back: no campaign has a market price. Returns are figures to read;
no money is ever derived from them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from domain.returns import CashFlow, UndefinedReturn, multiple, xirr

MAX_DAYS: Final = 500
"""Days with a flow up to which a yearly return is worked out: each costs a millisecond."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What one campaign took (negative) or gave on a day, seen from the investor. `capital`: what was invested or given
    back, not what it brought."""

    campaign_id: str
    currency: str
    on: date
    amount_minor: int
    capital: bool


@dataclass(frozen=True, slots=True)
class Performance:
    """Minor units of one currency. `invested`: still in; `multiple`, `total_return` and `yearly` (XIRR) count it as given
    back today, and are None where there is no such figure (nothing paid in, or no time between)."""

    paid_in_minor: int
    given_back_minor: int
    earned_minor: int
    invested_minor: int
    multiple: Decimal | None
    total_return: Decimal | None
    yearly: Decimal | None


def performance(flows: Iterable[Flow], *, today: date) -> Performance:
    """What these flows, all of one currency, amount to."""
    found = list(flows)
    paid_in = -sum(each.amount_minor for each in found if each.capital and each.amount_minor < 0)
    given_back = sum(each.amount_minor for each in found if each.capital and each.amount_minor > 0)
    earned = sum(each.amount_minor for each in found if not each.capital)
    invested = paid_in - given_back
    cash = _by_day(found)
    if invested:
        cash.append(CashFlow(today, invested))
    times = _times(cash)
    return Performance(
        paid_in_minor=paid_in,
        given_back_minor=given_back,
        earned_minor=earned,
        invested_minor=invested,
        multiple=times,
        total_return=None if times is None else times - 1,
        yearly=_yearly(cash),
    )


def _by_day(flows: Sequence[Flow]) -> list[CashFlow]:
    sums: dict[tuple[date, bool], int] = {}
    for each in flows:
        place = each.on, each.amount_minor < 0
        sums[place] = sums.get(place, 0) + each.amount_minor
    return [CashFlow(on, amount) for (on, _), amount in sorted(sums.items())]


def _times(cash: Sequence[CashFlow]) -> Decimal | None:
    try:
        return multiple(cash)
    except UndefinedReturn:
        return None


def _yearly(cash: Sequence[CashFlow]) -> Decimal | None:
    if len(cash) > MAX_DAYS:
        return None
    try:
        return xirr(cash)
    except UndefinedReturn:
        return None
