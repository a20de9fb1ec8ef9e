"""Between our minor units (CLDR's exponents) and a provider's own. What cannot be expressed is refused, never rounded."""

from activities.gateways.protocols import RailRejected
from domain.money import CURRENCIES, exponent


def to_provider(amount_minor: int, currency: str, *, provider_exponent: int, step: int = 1) -> int:
    """Our amount in the provider's unit, a multiple of `step`.

    Raises RailRejected `currency_unsupported`, `amount_not_positive`, `amount_not_expressible`.
    """
    if currency not in CURRENCIES:
        raise RailRejected("currency_unsupported")
    if amount_minor <= 0:
        raise RailRejected("amount_not_positive")
    amount = _rescale(amount_minor, provider_exponent - exponent(currency))
    if amount is None or amount % step:
        raise RailRejected("amount_not_expressible")
    return amount


def from_provider(amount: int, currency: str, *, provider_exponent: int) -> int | None:
    """The provider's amount in our unit, or None where ours cannot express it.

    Only a payment made outside Chama can be such; it must still be listed, so this is no error.
    """
    if currency not in CURRENCIES:
        return None
    return _rescale(amount, exponent(currency) - provider_exponent)


def _rescale(amount: int, places: int) -> int | None:
    """`amount` with the point moved right by `places`; None if digits would be lost."""
    factor: int = 10 ** abs(places)
    if places >= 0:
        return amount * factor
    whole, rest = divmod(amount, factor)
    return None if rest else whole
