"""Money: an integer of minor units and an ISO 4217 currency, and nothing else.

Four things are done with it here: it is checked once at the door (`Money`), split so that the parts always sum to
the whole (`allocate`), a rate is taken of it (`portion`), and it is written for a person to read (`format_money`). No
float appears anywhere, and nothing is ever rounded silently: a rule that must round says how, and gives the rest to
somebody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision

from domain.errors import InvalidRequest

MAX_AMOUNT = 2**53 - 1
"""The largest amount, in minor units: the largest integer every JSON reader keeps exact."""


def _currencies_in_use() -> frozenset[str]:
    """Codes that are legal tender somewhere today, by CLDR: no metals, test codes or retired currencies."""
    periods = (period for territory in get_global("territory_currencies").values() for period in territory)
    return frozenset(code for code, _start, end, tender in periods if tender and end is None)


CURRENCIES = _currencies_in_use()


class InvalidMoney(InvalidRequest):
    """Not an amount of money: a wrong type, too large, an unknown currency, or two currencies in one sum."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__("invalid_money", message, field=field)


def exponent(currency: str) -> int:
    """Digits after the point: 0 for JPY, 2 for NGN, 3 for KWD (CLDR). Raises InvalidMoney for an unknown code."""
    if currency not in CURRENCIES:
        raise InvalidMoney("This currency is not known.", field="currency")
    return get_currency_precision(currency)


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """`amount_minor` units of `currency`: Money(500_000, "NGN") is five thousand naira. May be negative (a difference).

    Raises InvalidMoney for anything but an int (a bool is none), a magnitude above MAX_AMOUNT, or an unknown currency.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        """Refuse what is not money, whatever the annotations promised."""
        if type(self.amount_minor) is not int:
            raise InvalidMoney("An amount is a whole number of minor units.", field="amount")
        if abs(self.amount_minor) > MAX_AMOUNT:
            raise InvalidMoney("The amount is too large.", field="amount")
        if type(self.currency) is not str or self.currency not in CURRENCIES:
            raise InvalidMoney("This currency is not known.", field="currency")

    def _same(self, other: "Money") -> int:
        """The other's amount, if it may be compared with ours. Raises InvalidMoney for another currency."""
        if self.currency != other.currency:
            raise InvalidMoney(f"{self.currency} and {other.currency} cannot be mixed.", field="currency")
        return other.amount_minor

    def __add__(self, other: "Money") -> "Money":
        """The sum. Raises InvalidMoney for another currency, or when it grows too large."""
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        """The difference. Raises InvalidMoney as `+` does."""
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> "Money":
        """The same amount the other way."""
        return Money(-self.amount_minor, self.currency)

    def __lt__(self, other: "Money") -> bool:
        """Smaller, in the same currency."""
        return self.amount_minor < self._same(other)

    def __le__(self, other: "Money") -> bool:
        """Smaller or equal, in the same currency."""
        return self.amount_minor <= self._same(other)

    def __gt__(self, other: "Money") -> bool:
        """Larger, in the same currency."""
        return self.amount_minor > self._same(other)

    def __ge__(self, other: "Money") -> bool:
        """Larger or equal, in the same currency."""
        return self.amount_minor >= self._same(other)

    def __str__(self) -> str:
        """For logs: `NGN 5000.00`. A person is shown `format_money`."""
        return f"{self.currency} {_major(self.amount_minor, self.currency)}"


def allocate(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Split `total_minor` in proportion to `weights`; the parts always sum to the total, each within 1 unit of exact.

    Largest remainder: every share is floored (towards minus infinity), then the units left over go one by one to the
    largest fractional remainders, ties to the earlier position. So the caller gives the weights in a stable order
    (by id, never by arrival). A zero weight gets nothing. The total has no upper limit: integers are exact.
    Raises InvalidMoney for no weights, a negative weight, weights that are all zero, or anything that is not an int.
    """
    if type(total_minor) is not int or any(type(weight) is not int for weight in weights):
        raise InvalidMoney("A split is made of whole numbers.")
    if any(weight < 0 for weight in weights):
        raise InvalidMoney("A weight cannot be negative.")
    whole = sum(weights)
    if whole == 0:
        raise InvalidMoney("A split needs at least one weight above zero.")
    shares = [total_minor * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(total_minor * weights[i] % whole))
    for position in by_remainder[: total_minor - sum(shares)]:
        shares[position] += 1
    return shares


BPS = 10_000
"""Basis points of the whole: 10,000 bps = 100 %."""


class Rounding(StrEnum):
    """How a fraction of a minor unit is decided. Stored with whatever was calculated by it."""

    FLOOR = "floor"
    """Down, towards minus infinity: never more than exact."""
    HALF_EVEN = "half_even"
    """To the nearest unit, an exact half to the even one."""


def portion(amount_minor: int, bps: int, rounding: Rounding) -> int:
    """`bps` basis points of `amount_minor`, in minor units: portion(150, 5_000, HALF_EVEN) is 75.

    Exact integers up to the one rounding, which is `rounding`'s. The amount may be negative. No errors.
    """
    units, rest = divmod(amount_minor * bps, BPS)
    if rounding is Rounding.HALF_EVEN and (2 * rest > BPS or (2 * rest == BPS and units % 2)):
        units += 1
    return units


def _major(amount_minor: int, currency: str) -> Decimal:
    """The amount in major units, exactly."""
    return Decimal(amount_minor).scaleb(-exponent(currency))


def format_money(amount_minor: int, currency: str, locale: str = "en") -> str:
    """`₦5,000.00`: what a person reads, by the locale's own rules. Raises InvalidMoney for an unknown currency."""
    return format_currency(_major(amount_minor, currency), currency, locale=locale)


def format_amount(amount_minor: int, currency: str, locale: str = "en") -> str:
    """`5,000.00`: as `format_money`, where the currency is said elsewhere. Raises InvalidMoney for an unknown currency."""
    return format_currency(_major(amount_minor, currency), currency, "#,##0.00", locale=locale)
