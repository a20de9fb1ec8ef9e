"""What a campaign's business does, and where it is: what people look for, no term that moves money."""

from enum import StrEnum
from functools import cache

from babel import Locale


class Category(StrEnum):
    """What the business of a campaign does. A closed list, so that a filter finds all there is."""

    AGRICULTURE = "agriculture"
    ARTS = "arts"
    COMMUNITY = "community"
    EDUCATION = "education"
    ENERGY = "energy"
    FOOD = "food"
    HEALTH = "health"
    HOUSING = "housing"
    MANUFACTURING = "manufacturing"
    RETAIL = "retail"
    SERVICES = "services"
    TECHNOLOGY = "technology"
    TRANSPORT = "transport"
    OTHER = "other"


_NO_COUNTRIES = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "XK", "ZZ"})
"""Codes of two letters that CLDR knows and ISO 3166-1 assigns to no country: reserved, user-assigned, or of CLDR itself."""


@cache
def countries() -> frozenset[str]:
    """The 249 codes of ISO 3166-1 alpha-2, from CLDR's list of territories."""
    codes = (str(code) for code in Locale("en").territories)
    return frozenset(code for code in codes if len(code) == 2 and code.isalpha()) - _NO_COUNTRIES
