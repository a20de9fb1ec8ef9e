"""A beneficiary: an account outside that a person wants to be paid to, checked before any money goes there.

pending → verified | needs_review | rejected;  needs_review → verified | rejected;  every one but rejected → disabled
"""

import unicodedata
from enum import StrEnum
from typing import Final

from domain.errors import Conflict
from domain.states import Machine


class BeneficiaryStatus(StrEnum):
    """A beneficiary's state, as it is on the wire."""

    PENDING = "pending"
    VERIFIED = "verified"
    NEEDS_REVIEW = "needs_review"
    REJECTED = "rejected"
    DISABLED = "disabled"


_B = BeneficiaryStatus

BENEFICIARY: Final = Machine(
    "beneficiary",
    {
        _B.PENDING: frozenset({_B.VERIFIED, _B.NEEDS_REVIEW, _B.REJECTED, _B.DISABLED}),
        _B.NEEDS_REVIEW: frozenset({_B.VERIFIED, _B.REJECTED, _B.DISABLED}),
        _B.VERIFIED: frozenset({_B.DISABLED}),
    },
)
_WORDS_NEEDED: Final = 2
"""One shared first name is no match, unless it is all there is on both sides."""


def check_payable(status: BeneficiaryStatus) -> None:
    """Raises Conflict `beneficiary_not_verified` unless money may be sent there."""
    if status is not _B.VERIFIED:
        raise Conflict("beneficiary_not_verified", "The beneficiary is not verified, or was disabled.")


def names_match(given: str, holder: str) -> bool:
    """Whether the name a person gave is the holder's as the bank has it.

    Case, accents, punctuation and order do not count. All words of the shorter name must be in the longer one, two at
    least: banks add middle names and drop them.
    """
    few, many = sorted((_words(given), _words(holder)), key=len)
    return few == many or (len(few) >= _WORDS_NEEDED and few <= many)


def _words(name: str) -> frozenset[str]:
    plain = "".join(each for each in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(each))
    return frozenset("".join(each if each.isalnum() else " " for each in plain).split())


def masked(number_end: str) -> str:
    """An account or telephone number as people see it: its last digits only."""
    return f"••••{number_end}"
