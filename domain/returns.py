"""What an investment brought: money-weighted return (XIRR), multiple and total return, from its dated cash flows.

A flow is seen from the investor: negative when money is put in, positive when it comes back. Who still holds something
adds its present value as a last flow. Rates are Decimals, 0.1 = 10 % a year, rounded half-even to 12 places; they are
for people to read, and no money is ever derived from them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise

from domain.errors import InvalidRequest

PLACES = Decimal("1e-12")
DAYS_A_YEAR = 365
HIGHEST_GROWTH = Decimal("1e9")
"""A year's growth factor is looked for between 1e-9 and 1e9: beyond, a yearly rate says nothing about anybody's money."""

_DIGITS = Context(prec=50, rounding=ROUND_HALF_EVEN)
_ENOUGH = Decimal("1e-24")
"""The daily factor is exact to this: the yearly rate then to better than 365 * 1e-24 times its growth, under PLACES."""
_SCAN = 512
"""How many steps either way are looked at for a change of sign: each is about 4 % of a year's growth."""
_NEWTON, _STEPS = 40, 200


@dataclass(frozen=True, slots=True)
class CashFlow:
    """What an investor paid (negative) or received (positive) on a day, in minor units of one currency."""

    on: date
    amount_minor: int


class UndefinedReturn(InvalidRequest):
    """No such figure exists for these flows: nothing was put in, nothing came back, or there was no time between."""

    def __init__(self, message: str) -> None:
        super().__init__("undefined_return", message)


def multiple(flows: Iterable[CashFlow]) -> Decimal:
    """What came back for each unit put in: 1.25 for 125 out of 100. Raises UndefinedReturn when nothing was put in."""
    amounts = [flow.amount_minor for flow in flows]
    paid_in = -sum(amount for amount in amounts if amount < 0)
    if not paid_in:
        raise UndefinedReturn("Nothing was put in.")
    with localcontext(_DIGITS):
        return (Decimal(sum(amount for amount in amounts if amount > 0)) / paid_in).quantize(PLACES)


def total_return(flows: Iterable[CashFlow]) -> Decimal:
    """The gain for each unit put in, whatever time it took: 0.25 for 125 out of 100. Raises as `multiple`."""
    return multiple(flows) - 1


def xirr(flows: Iterable[CashFlow]) -> Decimal:
    """The yearly rate r at which the flows are worth nothing together: sum of a / (1 + r)^(days / 365) = 0.

    The formula is that of the XIRR function of spreadsheets, as Microsoft's reference page for Excel defines it: days
    are counted from the first flow, a year is 365 of them. The order of the flows does not matter.

    With d = (1 + r)^(-1/365) it is a sum of a * d^days, with whole exponents, so nothing is approximated but its root.
    The root is enclosed first, between two factors where the sum has different signs; then Newton's steps are taken as
    long as they stay inside the enclosure, and halving it does the rest. It ends when a step is below 1e-24, and it
    always ends. Where the flows change their sign once there is one root (Descartes' rule of signs). Where they change
    more often there may be several: the one nearest to a rate of zero is given.

    Raises UndefinedReturn when the sums of the days are not of both signs, or when no root has a yearly growth within
    HIGHEST_GROWTH.
    """
    by_day: dict[date, int] = {}
    for flow in flows:
        by_day[flow.on] = by_day.get(flow.on, 0) + flow.amount_minor
    days = sorted(day for day, amount in by_day.items() if amount)
    if len({by_day[day] > 0 for day in days}) < 2:
        raise UndefinedReturn("A yearly return needs money put in and money that came back, on different days.")
    worth = _Worth(tuple((day - days[0]).days for day in days), tuple(Decimal(by_day[day]) for day in days))
    with localcontext(_DIGITS):
        daily = _root(worth, *_enclose(worth))
        return (daily**-DAYS_A_YEAR - 1).quantize(PLACES)


@dataclass(frozen=True, slots=True)
class _Worth:
    """The flows' present worth as a function of the daily discount factor: the sum of amount * factor^day."""

    days: tuple[int, ...]
    amounts: tuple[Decimal, ...]

    def at(self, factor: Decimal) -> tuple[Decimal, Decimal]:
        """The worth and its slope (Horner's scheme over the gaps between the days)."""
        worth = slope = Decimal(0)
        steps = list(zip(self.days, self.amounts, strict=True))
        for (day, amount), (next_day, _) in pairwise([*reversed(steps), (0, Decimal(0))]):
            worth += amount
            gap = day - next_day
            if gap:
                power = factor ** (gap - 1)
                slope = slope * power * factor + worth * gap * power
                worth *= power * factor
        return worth, slope


def _enclose(worth: _Worth) -> tuple[Decimal, Decimal]:
    """Two daily factors around a root, walking outwards from a rate of zero, both ways in turn."""
    ratio = (HIGHEST_GROWTH.ln() / (_SCAN * DAYS_A_YEAR)).exp()
    low = high = Decimal(1)
    at_low = at_high = worth.at(high)[0]
    if not at_high:
        return low, high
    for _ in range(_SCAN):
        higher, lower = high * ratio, low / ratio
        at_higher, at_lower = worth.at(higher)[0], worth.at(lower)[0]
        if at_lower.is_signed() != at_low.is_signed() or not at_lower:
            return lower, low
        if at_higher.is_signed() != at_high.is_signed() or not at_higher:
            return high, higher
        low, high, at_low, at_high = lower, higher, at_lower, at_higher
    raise UndefinedReturn("No yearly rate makes these flows even.")


def _root(worth: _Worth, low: Decimal, high: Decimal) -> Decimal:
    """The root between `low` and `high`, where the worth has different signs (or is zero at one of them)."""
    at_low, at_high = worth.at(low)[0], worth.at(high)[0]
    if not at_low or not at_high:
        return low if not at_low else high
    factor = (low + high) / 2
    for step in range(_STEPS):
        value, slope = worth.at(factor)
        if not value or high - low < _ENOUGH:
            break
        low, high = (factor, high) if value.is_signed() == at_low.is_signed() else (low, factor)
        newton = factor - value / slope if slope and step < _NEWTON else None
        following = newton if newton is not None and low < newton < high else (low + high) / 2
        if abs(following - factor) < _ENOUGH:
            return following
        factor = following
    return factor
