"""Card numbers, recognised so that they can be kept out: payers type them on the provider's pages only."""

import re
import unicodedata
from itertools import accumulate
from typing import Final

_SHORTEST, _LONGEST = 12, 19
"""How many digits a card number has (ISO/IEC 7812-1)."""
_GROUPS_MAX: Final = 6
"""A card shows its number in four or five groups. It also bounds the work on a text that is nothing but digits."""
_ISSUED: Final = (
    (4000, 4999, (13, 16, 19)),  # Visa
    (5100, 5599, (16,)),  # Mastercard
    (2221, 2720, (16,)),
    (3400, 3499, (15,)),  # American Express
    (3700, 3799, (15,)),
    (3000, 3059, (14,)),  # Diners Club
    (3600, 3699, (14, 16, 19)),
    (3800, 3999, (14, 16, 19)),
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (6000, 6099, (16, 17, 18, 19)),  # Discover, RuPay, UnionPay, Verve
    (6200, 6299, (16, 17, 18, 19)),
    (6400, 6599, (16, 17, 18, 19)),
    (5000, 5099, (12, 13, 14, 15, 16, 17, 18, 19)),  # Verve, Maestro
    (5600, 5999, (12, 13, 14, 15, 16, 17, 18, 19)),
    (6700, 6799, (12, 13, 14, 15, 16, 17, 18, 19)),
)
"""The ranges that networks issue, by the first four digits, and their lengths. Without them one account or telephone number
in ten would pass for a card."""
_LENGTHS: Final = {str(first): lengths for low, high, lengths in _ISSUED for first in range(low, high + 1)}
_DIGITS: Final = re.compile(r"\d+")
_GAP: Final = r"[\s._/\-\u00ad\u200b-\u200f\u2010-\u2015\u2060\u2212\ufeff\uff0d]{1,3}+"
"""What may stand within one number; anything else, or more of it, and two numbers stand beside each other."""
_RUN: Final = re.compile(rf"\d++(?:{_GAP}\d++)*+")
"""Groups of digits that may belong together. Nothing is tried twice, however long it is."""
_RANDOM: Final = re.compile(
    r"(?<![a-z0-9])(?!\d{12,19}d\d{4})([0-9a-f]{32,}|[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(?![a-z0-9])",
    re.IGNORECASE,
)
"""128 bits or more in hexadecimal, or a UUID: our ids, keys, digests. Chance puts a card number into one of two thousand."""
_VALUES: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
"""What a digit counts at every second place: the sum of the digits of its double."""


def holds_card_number(text: str) -> bool:
    """Whether a card number stands anywhere in `text`: an issued range, the right length and a valid check digit.

    Digits of any script, together or in groups with blanks, dashes, dots or invisible characters between them. Long
    hexadecimal tokens are left out: a request must be able to name any id.
    """
    return any(_in_groups(_DIGITS.findall(_ascii(run))) for run in _RUN.findall(_RANDOM.sub("id", text)))


def _ascii(run: str) -> str:
    """The same digits as ASCII."""
    return run if run.isascii() else "".join(str(unicodedata.decimal(each, each)) for each in run)


def _in_groups(groups: list[str]) -> bool:
    """Whether neighbouring groups make a card number.

    One request may bring a hundred thousand groups, so each look is short: at a length, then at what the first digits allow;
    the check digit costs two look-ups in sums that are made once.
    """
    digits = "".join(groups)
    if len(digits) < _SHORTEST:
        return False
    ends = list(accumulate(map(len, groups), initial=0))
    sums = _check_sums(digits)
    for width in range(1, _GROUPS_MAX + 1):
        for begin, end in zip(ends, ends[width:], strict=False):
            if _SHORTEST <= end - begin <= _LONGEST and end - begin in _LENGTHS.get(digits[begin : begin + 4], ()):
                added = sums[end % 2]
                if (added[end] - added[begin]) % 10 == 0 and len(set(digits[begin:end])) > 1:
                    return True
    return False


def _check_sums(digits: str) -> tuple[list[int], list[int]]:
    """For numbers that end before an even place, and an odd one: what all digits before each place come to (Luhn)."""
    plain = digits.encode().translate(_VALUES)
    doubled = plain.translate(_DOUBLED)
    even, odd = bytearray(plain), bytearray(plain)
    even[::2], odd[1::2] = doubled[::2], doubled[1::2]
    return list(accumulate(even, initial=0)), list(accumulate(odd, initial=0))
