"""Card numbers, recognised so that they can be kept out: payers type them on the provider's pages only."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Final

_SHORTEST, _LONGEST = 12, 19
"""How many digits a card number has (ISO/IEC 7812-1)."""
_GROUPS_MAX: Final = 6
"""A card shows its number in four or five groups. It also bounds the work on a text that is nothing but digits."""
_ISSUED: Final = re.compile(
    "|".join(
        (
            r"4(\d{12}|\d{15}|\d{18})",  # Visa
            r"(5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}",  # Mastercard
            r"3[47]\d{13}",  # American Express
            r"30[0-5]\d{11}|3[689](\d{12}|\d{14}|\d{17})",  # Diners Club
            r"35(2[89]|[3-8]\d)\d{12,15}",  # JCB
            r"6[0245]\d{14,17}",  # Discover, RuPay, UnionPay, Verve
            r"(50|5[6-9]|67)\d{10,17}",  # Verve, Maestro
        )
    )
)
"""The ranges and lengths that networks issue. Without them one account or telephone number in ten would pass for a card."""
_DIGITS: Final = re.compile(r"\d+")
_GAP: Final = re.compile(r"[\s._/\-\u00ad\u200b-\u200f\u2010-\u2015\u2060\u2212\ufeff\uff0d]{1,3}")
"""What may stand within one number; anything else, or more of it, and two numbers stand beside each other."""
_RANDOM: Final = re.compile(
    r"(?<![a-z0-9])(?!\d{12,19}d\d{4})([0-9a-f]{32,}|[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(?![a-z0-9])",
    re.IGNORECASE,
)
"""128 bits or more in hexadecimal, or a UUID: our ids, keys, digests. Chance puts a card number into one of two thousand."""


def holds_card_number(text: str) -> bool:
    """Whether a card number stands anywhere in `text`: an issued range, the right length and a valid check digit.

    Digits of any script, together or in groups with blanks, dashes, dots or invisible characters between them. Long
    hexadecimal tokens are left out: a request must be able to name any id.
    """
    return any(_is_card_number(digits) for groups in _runs(_RANDOM.sub("id", text)) for digits in _joined(groups))


def _is_card_number(digits: str) -> bool:
    return _ISSUED.fullmatch(digits) is not None and len(set(digits)) > 1 and _luhn(digits) == 0


def _luhn(digits: str) -> int:
    """The check sum modulo ten; zero for a valid number."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10


def _runs(text: str) -> Iterator[list[str]]:
    """Groups of digits that may belong together, in order."""
    found = list(_DIGITS.finditer(text))
    if sum(len(each[0]) for each in found) < _SHORTEST:
        return
    run = [_ascii(found[0][0])]
    for before, each in pairwise(found):
        if not _GAP.fullmatch(text, before.end(), each.start()):
            yield run
            run = []
        run.append(_ascii(each[0]))
    yield run


def _ascii(digits: str) -> str:
    """The same digits as ASCII; one that is too long for a card number stays as it is."""
    if digits.isascii() or len(digits) > _LONGEST:
        return digits
    return "".join(str(unicodedata.decimal(digit)) for digit in digits)


def _joined(groups: list[str]) -> Iterator[str]:
    """Every number that neighbouring groups make and that has a card number's length."""
    for start in range(len(groups)):
        for digits in accumulate(groups[start : start + _GROUPS_MAX]):
            if len(digits) > _LONGEST:
                break
            if len(digits) >= _SHORTEST:
                yield digits
