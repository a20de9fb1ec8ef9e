"""Exact splits among holders that have ids: a pot of minor units over weights, none lost and none made up.

The rule's name is `largest_remainder_by_id`, and it is stored with every run that used it. A pot P over weights w with
the sum W: everybody gets floor(P * w / W); the fewer than n units left over go one each to the largest remainders
P * w mod W, and among equal remainders to the lower id. So the parts sum to P, each is within one unit of exact, a
greater weight never gets a smaller share, and the order in which holders are named does not matter.

The same rule in SQL is on the page `docs/distributions.md`; a test holds the two together.
"""

from collections.abc import Mapping
from enum import StrEnum

from domain.money import allocate


class RemainderRule(StrEnum):
    """Who gets the units that a division leaves over. There is one rule; its name stands in what was calculated by it."""

    LARGEST_REMAINDER_BY_ID = "largest_remainder_by_id"


def split(pot_minor: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Each id's share of `pot_minor`, in minor units and in the order of ids. O(n log n).

    The pot may be zero or negative (a clawback: floors are towards minus infinity). A weight of zero gets nothing. Ids
    are compared by code point, as Postgres does under `collate "C"`. Raises InvalidMoney for no weights at all, for
    weights that are all zero, for a negative one, or for anything that is not an int.
    """
    ids = sorted(weights)
    return dict(zip(ids, allocate(pot_minor, [weights[each] for each in ids]), strict=True))
