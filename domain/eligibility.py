"""Who may put money into a campaign: how well the person is known, and where it lives.

Asked when a pledge is made, and again before a pledge's money is captured: whoever is no longer eligible then gets the
money back. The second question is asked of all of a campaign's pledges in one statement
(`models/settlement.py`), which says the same as `may_invest`.
"""

from collections.abc import Sequence
from typing import Final

from domain.errors import Conflict

MAX_KYC_LEVEL: Final = 3
"""0: nothing is verified; 1: name and contact; 2: an identity document; 3: residence and source of funds as well."""


def may_invest(*, kyc_level: int, country: str | None, min_kyc_level: int, countries: Sequence[str] | None) -> bool:
    """Whether a person may invest. `countries`: ISO 3166-1 alpha-2 codes, None: from anywhere."""
    return kyc_level >= min_kyc_level and (countries is None or country in countries)


def check_eligible(*, kyc_level: int, country: str | None, min_kyc_level: int, countries: Sequence[str] | None) -> None:
    """Refuse whoever may not invest. Raises Conflict `kyc_required` or `country_not_allowed`."""
    if may_invest(kyc_level=kyc_level, country=country, min_kyc_level=min_kyc_level, countries=countries):
        return
    if kyc_level < min_kyc_level:
        raise Conflict(
            "kyc_required", f"This campaign takes investors of verification level {min_kyc_level} and above."
        )
    raise Conflict("country_not_allowed", "This campaign does not take investors from where you live.")
