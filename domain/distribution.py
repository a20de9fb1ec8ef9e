"""A distribution run: profit declared for a period becomes one line for each holder, exact to the minor unit.

distributable = declared profit x profit share        (rounded once, by the run's own rule)
share         = the holder's part of it               (largest remainder over the weights: the shares sum exactly)
due           = share + carried in + adjustment       (carried in from the earlier run; below zero: still to be recovered)
gross         = due, if what remains of it reaches the minimum payout; else 0, and `due` is carried to the next run
net           = gross - withholding tax - platform fee - provider fee

So per line and in total: share + carried in + adjustment = gross + carried out, and gross = net + tax + fees. Tax and
fees are taken when a line is paid, not when it is carried. Nothing in an approved run is ever changed: what is learned
later (a chargeback after the record date) is an adjustment of the next run, and never makes a line negative.

`docs/distributions.md` has every rule in SQL; a test holds the two together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from domain.allocation import RemainderRule, split
from domain.errors import Conflict, InvalidRequest
from domain.money import BPS, MAX_AMOUNT, Money, Rounding, portion
from domain.states import Machine


class DistributionStatus(StrEnum):
    """The run's state (FEATURES (c))."""

    DRAFT = "draft"
    CALCULATING = "calculating"
    CALCULATED = "calculated"
    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    FUNDING = "funding"
    PAYING = "paying"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    REJECTED = "rejected"
    CANCELED = "canceled"


_D = DistributionStatus
DISTRIBUTION = Machine(
    "distribution",
    {
        _D.DRAFT: frozenset({_D.CALCULATING, _D.CANCELED}),
        _D.CALCULATING: frozenset({_D.CALCULATED, _D.CANCELED}),
        _D.CALCULATED: frozenset({_D.CALCULATING, _D.PENDING_APPROVAL, _D.CANCELED}),
        _D.PENDING_APPROVAL: frozenset({_D.APPROVED, _D.REJECTED, _D.CALCULATED, _D.CANCELED}),
        _D.APPROVED: frozenset({_D.FUNDING, _D.CANCELED}),
        _D.FUNDING: frozenset({_D.PAYING, _D.CANCELED}),
        _D.PAYING: frozenset({_D.PARTIALLY_PAID, _D.PAID}),
        _D.PARTIALLY_PAID: frozenset({_D.PAYING, _D.PAID}),
        _D.PAID: frozenset({_D.PARTIALLY_PAID, _D.PAYING}),  # a bank returned a line: it is open again, and paid again
    },
)


class LineStatus(StrEnum):
    """One holder's state in a run (FEATURES (c)). UNKNOWN blocks the line until a look-up or an operator answers."""

    CALCULATED = "calculated"
    HELD = "held"
    """Not to be paid yet: no verified identity, or nowhere to pay to."""
    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"
    """The bank sent it back after it was paid; the run stays as it is, the line goes on."""
    CARRIED_FORWARD = "carried_forward"
    CREDITED_TO_WALLET = "credited_to_wallet"
    UNCLAIMED = "unclaimed"


_L = LineStatus
_SET_ASIDE = frozenset({_L.CARRIED_FORWARD, _L.CREDITED_TO_WALLET, _L.UNCLAIMED})
LINE = Machine(
    "distribution line",
    {
        _L.CALCULATED: frozenset({_L.HELD, _L.QUEUED, _L.CARRIED_FORWARD}),
        _L.HELD: frozenset({_L.QUEUED}) | _SET_ASIDE,
        _L.QUEUED: frozenset({_L.SENDING, _L.HELD, _L.CREDITED_TO_WALLET, _L.FAILED}),
        _L.SENDING: frozenset({_L.UNKNOWN, _L.PAID, _L.FAILED}),
        _L.UNKNOWN: frozenset({_L.SENDING, _L.PAID, _L.FAILED}),
        _L.PAID: frozenset({_L.RETURNED}),
        _L.FAILED: frozenset({_L.QUEUED, _L.HELD}) | _SET_ASIDE,
        _L.RETURNED: frozenset({_L.QUEUED, _L.HELD}) | _SET_ASIDE,
    },
)


class PayTo(StrEnum):
    """Where a run's lines go."""

    WALLET = "wallet"
    """Every line into its holder's wallet."""
    PREFERENCE = "preference"
    """Where the holder wants it: a verified beneficiary of its own, else the wallet."""


class ShareRule(StrEnum):
    """What a holder's part is measured by."""

    BY_AMOUNT = "by_amount"
    """Minor units held at the record date."""
    BY_AMOUNT_DAYS = "by_amount_days"
    """The same, times the days of the period for which they were held."""


class InvalidTerms(InvalidRequest):
    """A run cannot be calculated by these terms; `field` says which of them."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__("invalid_terms", message, field=field)


@dataclass(frozen=True, slots=True)
class DistributionTerms:
    """All that a run is calculated by, stored with it. Amounts in minor units of `currency`, rates in basis points.

    Period and record date are calendar days in the tenant's `zone` (IANA), and belong to what they name: who invested on
    the record date is a holder. `tax_bps` and `platform_fee_bps` are both taken of the gross, each rounded by its own
    rule; `provider_fee_minor` is flat. Raises InvalidTerms, or InvalidMoney for a profit that is no amount of money.
    """

    currency: str
    declared_profit_minor: int
    profit_share_bps: int
    share_rounding: Rounding
    rule: ShareRule
    period_start: date
    period_end: date
    record_date: date
    zone: str
    tax_bps: int
    tax_rounding: Rounding
    platform_fee_bps: int
    platform_fee_rounding: Rounding
    provider_fee_minor: int
    minimum_payout_minor: int
    remainder: RemainderRule = RemainderRule.LARGEST_REMAINDER_BY_ID

    def __post_init__(self) -> None:
        """Refuse terms that say nothing, or that would leave nothing of a line."""
        if Money(self.declared_profit_minor, self.currency).amount_minor < 0:
            raise InvalidTerms("A loss is not distributed.", field="declared_profit_minor")
        for field in ("profit_share_bps", "tax_bps", "platform_fee_bps"):
            if not _is_count(getattr(self, field), BPS):
                raise InvalidTerms(f"A rate is 0 to {BPS:,} basis points.", field=field)
        for field in ("provider_fee_minor", "minimum_payout_minor"):
            if not _is_count(getattr(self, field), MAX_AMOUNT):
                raise InvalidTerms("Not below zero, in whole minor units.", field=field)
        if self.tax_bps + self.platform_fee_bps >= BPS:
            raise InvalidTerms("Tax and platform fee together leave nothing.", field="platform_fee_bps")
        if not self.period_start <= self.period_end:
            raise InvalidTerms("A period ends on the day it starts, or later.", field="period_end")
        if self.record_date < self.period_start:
            raise InvalidTerms("The record date is not before the period.", field="record_date")
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise InvalidTerms("Not an IANA time zone.", field="zone") from None

    @property
    def distributable_minor(self) -> int:
        """What the holders have of the declared profit."""
        return portion(self.declared_profit_minor, self.profit_share_bps, self.share_rounding)


def _is_count(value: object, most: int) -> bool:
    """A whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


@dataclass(frozen=True, slots=True)
class Holding:
    """One captured investment: `amount_minor` held from `since` until `until` (None: still held), both with their zone.

    A holder may have several. One that lost a part of its amount is two: the part that ended, and the rest.
    """

    holder_id: str
    amount_minor: int
    since: datetime
    until: datetime | None = None


def weight(terms: DistributionTerms, holding: Holding) -> int | None:
    """What one holding counts by the terms' rule; None when it is not held at the end of the record date.

    Days are those of the tenant's zone, the first and the last one included: from the period's start or the day of the
    investment, whichever is later, to the record date or the period's end, whichever is earlier. So no day is counted in
    two periods, and somebody who came after the period's end is a holder without weight. The amount is above zero.
    """
    zone = ZoneInfo(terms.zone)
    since = holding.since.astimezone(zone).date()
    ended = holding.until is not None and holding.until.astimezone(zone).date() <= terms.record_date
    if since > terms.record_date or ended:
        return None
    if terms.rule is ShareRule.BY_AMOUNT:
        return holding.amount_minor
    first, last = max(terms.period_start, since), min(terms.period_end, terms.record_date)
    return holding.amount_minor * max(0, (last - first).days + 1)


@dataclass(frozen=True, slots=True)
class Line:
    """What one holder gets in a run, in minor units; the top of this module says what follows from what.

    Carried in, adjustment and carried out may be negative (the holder was paid too much); all other figures never are.
    On the payable account: carried in (above zero) + share + added = gross + kept + recovered.
    """

    holder_id: str
    weight: int
    share_minor: int
    carried_in_minor: int
    adjustment_minor: int
    gross_minor: int
    tax_minor: int
    platform_fee_minor: int
    provider_fee_minor: int
    net_minor: int
    carried_out_minor: int

    @property
    def carried_forward(self) -> bool:
        """Whether nothing is paid in this run. Otherwise at least one minor unit is."""
        return self.net_minor == 0

    @property
    def kept_minor(self) -> int:
        """Stays on the payable account for the next run."""
        return max(0, self.carried_out_minor)

    @property
    def recovered_minor(self) -> int:
        """Leaves the payable account for the campaign's: what an adjustment took back."""
        return max(0, -self._from_campaign())

    @property
    def added_minor(self) -> int:
        """Comes from the campaign's account beside the share: what a correction in the holder's favour needs."""
        return max(0, self._from_campaign())

    def _from_campaign(self) -> int:
        """What the share and the money kept from earlier runs leave uncovered; below zero: what they leave over."""
        return self.gross_minor + self.kept_minor - max(0, self.carried_in_minor) - self.share_minor


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of a run's lines, in minor units. `share_minor` is the distributable amount, exactly."""

    share_minor: int
    carried_in_minor: int
    adjustment_minor: int
    gross_minor: int
    tax_minor: int
    platform_fee_minor: int
    provider_fee_minor: int
    net_minor: int
    carried_out_minor: int
    kept_minor: int
    recovered_minor: int
    added_minor: int

    @property
    def to_fund_minor(self) -> int:
        """What must be held on the campaign's account before the first line is paid."""
        return self.share_minor + self.added_minor


@dataclass(frozen=True, slots=True)
class Calculation:
    """A calculated run: one line for each holder, in the order of their ids."""

    lines: tuple[Line, ...]

    @property
    def totals(self) -> Totals:
        """The sums over all lines."""
        return Totals(**{field.name: sum(getattr(each, field.name) for each in self.lines) for field in fields(Totals)})

    def carried_out(self) -> dict[str, int]:
        """What the next run takes as `carried_in`, by holder."""
        return {line.holder_id: line.carried_out_minor for line in self.lines if line.carried_out_minor}


def calculate(
    terms: DistributionTerms,
    holdings: Iterable[Holding],
    *,
    carried_in: Mapping[str, int] | None = None,
    adjustments: Mapping[str, int] | None = None,
) -> Calculation:
    """The run's lines. The same for the same facts, in whatever order they come; a dry run is this and nothing more.

    `carried_in` is the earlier run's `carried_out()`; `adjustments` are signed minor units by holder, negative for what a
    holder was paid too much. Both may name somebody who holds nothing any more: nothing is dropped. Raises Conflict
    `no_holders` when there is profit and no weight to share it by, and `nothing_to_distribute` when no line has anything.
    """
    carried_in, adjustments = carried_in or {}, adjustments or {}
    weights: dict[str, int] = {}
    for holding in holdings:
        counted = weight(terms, holding)
        if counted is not None:
            weights[holding.holder_id] = weights.get(holding.holder_id, 0) + counted
    pot = terms.distributable_minor
    if pot and not any(weights.values()):
        raise Conflict("no_holders", "Nobody holds anything that counts at the record date.")
    shares = split(pot, weights) if pot else {}
    lines = tuple(
        _line(
            terms, each, weight=weights.get(each, 0), share=shares.get(each, 0),
            carried_in=carried_in.get(each, 0), adjustment=adjustments.get(each, 0),
        )
        for each in sorted({*weights, *carried_in, *adjustments})
    )  # fmt: skip
    if not any(line.share_minor or line.carried_in_minor or line.adjustment_minor for line in lines):
        raise Conflict("nothing_to_distribute", "There is nothing to distribute.")
    return Calculation(lines)


def _line(
    terms: DistributionTerms, holder_id: str, *, weight: int, share: int, carried_in: int, adjustment: int
) -> Line:
    """One line: paid with its legs, or carried whole."""
    due = share + carried_in + adjustment
    tax = portion(due, terms.tax_bps, terms.tax_rounding)
    platform_fee = portion(due, terms.platform_fee_bps, terms.platform_fee_rounding)
    net = due - tax - platform_fee - terms.provider_fee_minor
    if due <= 0 or net < max(1, terms.minimum_payout_minor):
        return Line(holder_id, weight, share, carried_in, adjustment, 0, 0, 0, 0, 0, due)
    return Line(
        holder_id, weight, share, carried_in, adjustment, due, tax, platform_fee, terms.provider_fee_minor, net, 0
    )
