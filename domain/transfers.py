"""What a posting's legs move, as transfers: from one account to one other, so that each is balanced by its shape. Pure."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from domain.accounts import AccountSpec, InvalidPosting, Leg


class Transfer(NamedTuple):
    """What moves from one account to another of the same currency: `amount_minor` is above zero."""

    debit: AccountSpec
    credit: AccountSpec
    amount_minor: int


def pair_up(legs: Sequence[Leg]) -> list[Transfer]:
    """The transfers that move what balanced `legs` move, the same for the same legs.

    Currency by currency, the debits are laid end to end and beside them the credits, in their order: where a debit and a
    credit overlap, that much moves between their accounts. n legs make at most n - 1 transfers; two make one. Raises
    InvalidPosting when something is left over.
    """
    if len(legs) == 2:  # nearly all there are
        first, second = legs
        if first.amount_minor == -second.amount_minor and first.account.currency == second.account.currency:
            debit, credit = (first, second) if first.amount_minor > 0 else (second, first)
            return [Transfer(debit.account, credit.account, debit.amount_minor)]
    transfers = []
    for currency in sorted({leg.account.currency for leg in legs}):
        debits, credits = (
            deque((leg.account, sign * leg.amount_minor) for leg in legs
                  if leg.account.currency == currency and sign * leg.amount_minor > 0)
            for sign in (1, -1)
        )  # fmt: skip
        while debits and credits:
            (to, owed), (source, given) = debits.popleft(), credits.popleft()
            moved = min(owed, given)
            transfers.append(Transfer(to, source, moved))
            if owed > moved:
                debits.appendleft((to, owed - moved))
            if given > moved:
                credits.appendleft((source, given - moved))
        if debits or credits:
            raise InvalidPosting(f"the legs do not sum to zero in {currency}")
    return transfers
