"""The chart of accounts, and one posting template per money event. Pure: storage posts what a template returns.

Sign: a leg is a signed amount of minor units, positive = debit, negative = credit; the legs of a posting sum to zero
per currency. Assets grow by debits; liabilities (what we owe users, campaigns, strangers) grow by credits.
A `pending` posting is a hold: it counts against what is available at once, and is resolved exactly once by a `post`
(full or part), a `void` or an `expire` that names the hold's key and carries no legs of its own.

A noun with many templates keeps them in a file of its own (`domain/distribution_postings.py`). `docs/money.md` shows
each template as a table. The refusals a posting can meet are at the end of this file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

from domain.errors import Conflict, InvalidRequest, NotFound
from domain.money import CURRENCIES, MAX_AMOUNT, Money

HOT_STRIPES = 16
"""Balance rows of an account that many writers touch at once."""

_REMEMBERED = 4096
"""How many accounts of each kind a process keeps ready, checked once: most postings name accounts named before."""

_CODE = re.compile(r"[a-z_]+(:[A-Za-z0-9_.-]{1,80})*:[A-Z]{3}")
_KEY = re.compile(r"[\x21-\x7e]{1,300}")


class AccountKind(StrEnum):
    """What an account stands for; assets and expenses grow by debits, the others by credits."""

    ASSET = "asset"
    EXPENSE = "expense"
    LIABILITY = "liability"
    REVENUE = "revenue"
    SUSPENSE = "suspense"

    @property
    def debit_normal(self) -> bool:
        """Whether a debit increases the balance."""
        return self in (AccountKind.ASSET, AccountKind.EXPENSE)


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """What an account is opened with at its first posting.

    `bounded`: its available balance (posted less what leaving holds claim) never goes below zero. `stripes`: how many
    rows carry its balance, so that as many writers can add to it without waiting for each other.
    """

    code: str
    currency: str
    kind: AccountKind
    bounded: bool
    stripes: int = 1

    def __post_init__(self) -> None:
        """Refuse a code that does not end in its currency, or holds anything but plain characters."""
        if (
            not _CODE.fullmatch(self.code)
            or not self.code.endswith(f":{self.currency}")
            or self.currency not in CURRENCIES
        ):
            raise InvalidPosting(f"not an account code of {self.currency}: {self.code!r}")

    @property
    def debits_freely(self) -> bool:
        """Whether a debit can break no bound: the account is unbounded, or grows by it."""
        return not self.bounded or self.kind.debit_normal

    @property
    def credits_freely(self) -> bool:
        """As `debits_freely`, of a credit."""
        return not self.bounded or not self.kind.debit_normal


@lru_cache(maxsize=_REMEMBERED)
def provider_clearing(provider: str, currency: str) -> AccountSpec:
    """What a payment provider holds for us: grows when a payer pays, falls by refunds and payouts. Unbounded, hot."""
    return AccountSpec(
        f"provider:{provider}:{currency}", currency, AccountKind.ASSET, bounded=False, stripes=HOT_STRIPES
    )


@lru_cache(maxsize=_REMEMBERED)
def wallet(user_id: str, currency: str) -> AccountSpec:
    """What we owe one user. Bounded: nobody spends what is not there."""
    return AccountSpec(f"wallet:{user_id}:{currency}", currency, AccountKind.LIABILITY, bounded=True)


@lru_cache(maxsize=_REMEMBERED)
def escrow(campaign_id: str, currency: str) -> AccountSpec:
    """What investors have put into one campaign. Bounded, and hot: everybody pays into it in its last hour."""
    return AccountSpec(
        f"escrow:{campaign_id}:{currency}", currency, AccountKind.LIABILITY, bounded=True, stripes=HOT_STRIPES
    )


def suspense(currency: str) -> AccountSpec:
    """Money that came in for something that was already over, until it is sent back or attached. Bounded.

    One stripe: late money is rare, and is claimed for its refund in the transaction that books it. With more stripes
    two such transactions would each hold one and wait for the other's.
    """
    return AccountSpec(f"suspense:{currency}", currency, AccountKind.SUSPENSE, bounded=True)


@lru_cache(maxsize=_REMEMBERED)
def tax_withheld(currency: str) -> AccountSpec:
    """Tax kept back from people, owed to the tax office. Unbounded: a reversal may come after it was handed over. Hot."""
    return AccountSpec(f"tax_withheld:{currency}", currency, AccountKind.LIABILITY, bounded=False, stripes=HOT_STRIPES)


@lru_cache(maxsize=_REMEMBERED)
def platform_fees(currency: str) -> AccountSpec:
    """What the tenant earns by its fees. Unbounded, hot."""
    return AccountSpec(f"platform_fees:{currency}", currency, AccountKind.REVENUE, bounded=False, stripes=HOT_STRIPES)


@lru_cache(maxsize=_REMEMBERED)
def provider_fees(currency: str) -> AccountSpec:
    """What providers charge, less what of it was passed on to people (a credit). Unbounded, hot."""
    return AccountSpec(f"provider_fees:{currency}", currency, AccountKind.EXPENSE, bounded=False, stripes=HOT_STRIPES)


class Phase(StrEnum):
    """How a posting moves money. The last four name a target and take their legs from it."""

    SINGLE = "single"
    PENDING = "pending"
    POST = "post"
    VOID = "void"
    EXPIRE = "expire"
    REVERSAL = "reversal"

    @property
    def needs_target(self) -> bool:
        """Whether it acts on an earlier posting."""
        return self not in (Phase.SINGLE, Phase.PENDING)


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a posting: positive debits the account, negative credits it."""

    account: AccountSpec
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Posting:
    """One transaction to be written, identified for ever by `key`.

    `target` is the key of the hold (post, void, expire) or of the transaction (reversal) it acts on; `amount` the part
    of a hold to post, None for all of it. `effective_at` is the business time; when it was recorded is the
    database's to say. Raises InvalidPosting when the shape does not fit the phase or the legs do not sum to zero.
    """

    key: str
    event: str
    phase: Phase
    effective_at: datetime
    legs: tuple[Leg, ...] = ()
    target: str | None = None
    amount: Money | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        """Check the shape; the database checks it again for whoever comes another way."""
        if not _KEY.fullmatch(self.key):
            raise InvalidPosting("a key is 1 to 300 printable ASCII characters without spaces")
        if self.effective_at.tzinfo is None or (self.expires_at is not None and self.expires_at.tzinfo is None):
            raise InvalidPosting("times carry their zone")
        if self.phase.needs_target:
            if self.legs or not self.target or self.expires_at is not None:
                raise InvalidPosting(f"a {self.phase} names its target and has neither legs nor an expiry")
        elif self.target or len(self.legs) < 2:
            raise InvalidPosting(f"a {self.phase} has at least two legs and no target")
        if self.amount is not None and (self.phase is not Phase.POST or self.amount.amount_minor <= 0):
            raise InvalidPosting("only a post takes an amount, and it is above zero")
        if self.expires_at is not None and self.phase is not Phase.PENDING:
            raise InvalidPosting("only a hold expires")
        _check_balanced(self.legs)

    @property
    def payload_hash(self) -> str:
        """32 hex digits over everything that moves money. Dates are left out: a retry may come later."""
        legs = sorted(f"{leg.account.code}={leg.amount_minor}" for leg in self.legs)
        payload = "|".join((self.event, self.phase, self.target or "", str(self.amount or ""), *legs))
        return blake2b(payload.encode(), digest_size=16).hexdigest()


def _check_balanced(legs: Sequence[Leg]) -> None:
    """Raises InvalidPosting unless each leg is a non-zero int within MAX_AMOUNT, each currency sums to zero, and no account
    is on both sides."""
    sums: dict[str, int] = {}
    for leg in legs:
        if type(leg.amount_minor) is not int or not 0 < abs(leg.amount_minor) <= MAX_AMOUNT:
            raise InvalidPosting("a leg is a whole number of minor units, and not zero")
        sums[leg.account.currency] = sums.get(leg.account.currency, 0) + leg.amount_minor
    if any(sums.values()):
        raise InvalidPosting(f"the legs do not sum to zero: {sums}")
    if {leg.account.code for leg in legs if leg.amount_minor > 0} & {
        leg.account.code for leg in legs if leg.amount_minor < 0
    }:
        raise InvalidPosting("an account is either debited or credited by a posting")


def _transfer(debit: AccountSpec, credit: AccountSpec, amount: Money) -> tuple[Leg, Leg]:
    """Two legs of one amount. Raises InvalidPosting for nothing, less than nothing, or another currency."""
    if amount.amount_minor <= 0:
        raise InvalidPosting("an amount that moves is above zero")
    if not debit.currency == credit.currency == amount.currency:
        raise InvalidPosting(f"{amount.currency} cannot move from {credit.code} to {debit.code}")
    return Leg(debit, amount.amount_minor), Leg(credit, -amount.amount_minor)


def payment_authorized(
    key: str, *, provider: str, into: AccountSpec, amount: Money, as_of: datetime, expires_at: datetime | None = None
) -> Posting:
    """The provider promised the money: hold Dr provider, Cr escrow or wallet. It is not yet anybody's to spend."""
    legs = _transfer(provider_clearing(provider, amount.currency), into, amount)
    return Posting(key, "payment_authorized", Phase.PENDING, as_of, legs, expires_at=expires_at)


def payment_captured(key: str, *, hold: str, as_of: datetime, amount: Money | None = None) -> Posting:
    """The provider took what it had authorised (or `amount` of it; the rest is released): posts that hold."""
    return _resolve(key, "payment_captured", Phase.POST, hold, as_of, amount)


def payment_charged(key: str, *, provider: str, into: AccountSpec, amount: Money, as_of: datetime) -> Posting:
    """Money taken at once, on a rail without authorisation: Dr provider, Cr escrow or wallet."""
    return Posting(
        key,
        "payment_captured",
        Phase.SINGLE,
        as_of,
        _transfer(provider_clearing(provider, amount.currency), into, amount),
    )


def authorization_voided(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The authorisation was given back before capture: voids its hold."""
    return _resolve(key, "authorization_voided", Phase.VOID, hold, as_of)


def authorization_expired(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The authorisation ran out: expires its hold, once `as_of` has reached the hold's own expiry."""
    return _resolve(key, "authorization_expired", Phase.EXPIRE, hold, as_of)


def deposit_captured(key: str, *, provider: str, user_id: str, amount: Money, as_of: datetime) -> Posting:
    """A wallet top-up arrived: Dr provider, Cr wallet."""
    legs = _transfer(provider_clearing(provider, amount.currency), wallet(user_id, amount.currency), amount)
    return Posting(key, "deposit_captured", Phase.SINGLE, as_of, legs)


def wallet_pledged(
    key: str, *, user_id: str, campaign_id: str, amount: Money, as_of: datetime, expires_at: datetime | None = None
) -> Posting:
    """Wallet money promised to a campaign: hold Dr wallet, Cr escrow. Spendable nowhere else until resolved."""
    legs = _transfer(wallet(user_id, amount.currency), escrow(campaign_id, amount.currency), amount)
    return Posting(key, "wallet_pledged", Phase.PENDING, as_of, legs, expires_at=expires_at)


def pledge_captured(key: str, *, hold: str, as_of: datetime, amount: Money | None = None) -> Posting:
    """The campaign succeeded: the pledged wallet money is the campaign's."""
    return _resolve(key, "pledge_captured", Phase.POST, hold, as_of, amount)


def pledge_voided(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The campaign failed or the investor canceled: the pledged money is the investor's again."""
    return _resolve(key, "pledge_voided", Phase.VOID, hold, as_of)


def pledge_expired(key: str, *, hold: str, as_of: datetime) -> Posting:
    """Nobody decided in time: the pledged money is the investor's again."""
    return _resolve(key, "pledge_expired", Phase.EXPIRE, hold, as_of)


def pledge_returned(key: str, *, user_id: str, source: AccountSpec, amount: Money, as_of: datetime) -> Posting:
    """Captured money is about to go into the investor's wallet, whence it came or by choice: hold Dr escrow, Cr wallet."""
    return Posting(
        key, "pledge_returned", Phase.PENDING, as_of, _transfer(source, wallet(user_id, amount.currency), amount)
    )


def refund_requested(key: str, *, source: AccountSpec, provider: str, amount: Money, as_of: datetime) -> Posting:
    """Money is about to go back to a payer: hold Dr escrow, wallet or suspense, Cr provider. Before any call."""
    legs = _transfer(source, provider_clearing(provider, amount.currency), amount)
    return Posting(key, "refund_requested", Phase.PENDING, as_of, legs)


def refund_succeeded(key: str, *, hold: str, as_of: datetime, amount: Money | None = None) -> Posting:
    """The provider sent it back (or `amount` of it)."""
    return _resolve(key, "refund_succeeded", Phase.POST, hold, as_of, amount)


def refund_failed(key: str, *, hold: str, as_of: datetime) -> Posting:
    """The provider definitely did not send it: the money is where it was."""
    return _resolve(key, "refund_failed", Phase.VOID, hold, as_of)


def refund_returned(key: str, *, target: str, as_of: datetime) -> Posting:
    """The payer's bank gave a refund back after it had been sent: what was posted, the other way."""
    return Posting(key, "refund_returned", Phase.REVERSAL, as_of, target=target)


def unexpected_money(key: str, *, provider: str, amount: Money, as_of: datetime) -> Posting:
    """Money for something already over, such as a late success: Dr provider, Cr suspense. Never dropped."""
    legs = _transfer(provider_clearing(provider, amount.currency), suspense(amount.currency), amount)
    return Posting(key, "unexpected_money", Phase.SINGLE, as_of, legs)


def suspense_attached(key: str, *, into: AccountSpec, amount: Money, as_of: datetime) -> Posting:
    """Money in suspense found its owner: Dr suspense, Cr escrow or wallet."""
    return Posting(key, "suspense_attached", Phase.SINGLE, as_of, _transfer(suspense(amount.currency), into, amount))


def reversal(key: str, *, target: str, as_of: datetime) -> Posting:
    """A correction: every leg of an earlier posted transaction, the other way. Once each; never of a hold."""
    return Posting(key, "reversal", Phase.REVERSAL, as_of, target=target)


def _resolve(key: str, event: str, phase: Phase, hold: str, as_of: datetime, amount: Money | None = None) -> Posting:
    return Posting(key, event, phase, as_of, target=hold, amount=amount)


class InvalidPosting(InvalidRequest):
    """A posting whose shape breaks a rule: unbalanced, empty, a bad code. A defect of the caller, never of a user."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_posting", message)


class InsufficientFunds(Conflict):
    """A bounded account would go below zero, holds counted."""

    def __init__(self, message: str = "There is not enough money available.") -> None:
        super().__init__("insufficient_funds", message)


class LedgerKeyConflict(Conflict):
    """The key is taken by a posting that moves other money."""

    def __init__(self, message: str) -> None:
        super().__init__("ledger_key_conflict", message)


class HoldResolved(Conflict):
    """The hold was already posted, voided or expired."""

    def __init__(self, message: str) -> None:
        super().__init__("hold_resolved", message)


class ExceedsHold(Conflict):
    """More should be posted than was held, or a part of a hold with more than two legs."""

    def __init__(self, message: str) -> None:
        super().__init__("exceeds_hold", message)


class HoldExpired(Conflict):
    """A post came at or after the hold's expiry."""

    def __init__(self, message: str) -> None:
        super().__init__("hold_expired", message)


class HoldNotExpired(Conflict):
    """An expiry came before the hold's own, or the hold never expires."""

    def __init__(self, message: str) -> None:
        super().__init__("hold_not_expired", message)


class AlreadyReversed(Conflict):
    """The transaction was reversed before."""

    def __init__(self, message: str) -> None:
        super().__init__("already_reversed", message)


class UnknownHold(NotFound):
    """There is no such hold (or, for a reversal, no such posted transaction) in this tenant and mode."""

    def __init__(self, message: str) -> None:
        super().__init__("hold")
        self.code, self.message = "unknown_hold", message
