"""A distribution at the edge: what is asked for, what is shown, and the row that a declaration makes."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from psycopg.rows import DictRow
from pydantic import BaseModel, Field

from api.campaign_terms import Bps, MoneyBody
from api.commands import Unit
from api.envelope import Day, LongText, ShortText, StrictModel, WebAddress
from api.policy import authorize
from api.views import MoneyView, TimelineView
from contracts.base import Scope
from contracts.distribution import DistributionInput
from contracts.ids import workflow_id
from contracts.visibility import ENTITY
from domain.distribution import DistributionStatus, DistributionTerms, LineStatus, PayTo, ShareRule
from domain.distribution_run import CalculateOn
from domain.errors import InvalidRequest, NotFound
from domain.milestone import MOST
from domain.money import MAX_AMOUNT, Rounding
from infra.database import Tx
from models.campaign import Campaign
from models.distribution import Distribution, get_distribution
from models.distribution_lines import DistributionLine, count_lines
from models.timeline import story

Minor = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
RoundingName = Literal["floor", "half_even"]


class ScheduleBody(StrictModel):
    """When a run calculates and submits itself: once its record date is over, or then and once the money of a milestone
    (its number) is released. It is canceled if that goes back to the investors instead."""

    at: Literal["record_date", "milestone"]
    milestone: Annotated[int, Field(ge=1, le=MOST)] | None = None


class DistributionRequest(StrictModel):
    """A declared profit, and the terms by which it is shared; amounts in the campaign's currency.

    The holders' part of it is the campaign's `profit_share_bps`. `record_date`: who holds at its end is paid; it must be
    over, unless the run has a `schedule`. `minimum_payout`, `provider_fee`: minor units a line. `dry_run`: calculate, keep the
    totals, and pay nothing. `pay_to`: all lines into wallets, or each where its holder prefers it.
    """

    declared_profit: MoneyBody
    period_start: Day
    period_end: Day
    record_date: Day
    rule: Literal["by_amount", "by_amount_days"] = "by_amount"
    share_rounding: RoundingName = "floor"
    tax_bps: Bps = 0
    tax_rounding: RoundingName = "half_even"
    platform_fee_bps: Bps = 0
    platform_fee_rounding: RoundingName = "floor"
    provider_fee: Minor = 0
    minimum_payout: Minor = 0
    pay_to: Literal["wallet", "preference"] = "wallet"
    evidence: LongText
    evidence_url: WebAddress | None = None
    dry_run: bool = False
    schedule: ScheduleBody | None = None


class RejectRequest(StrictModel):
    """Why not. Without `final` the run goes back to be calculated and handed in again."""

    reason: ShortText
    final: bool = False


class CloseRequest(StrictModel):
    """What becomes of the lines that could not be paid: carried into the next run, or unclaimed."""

    rest: Literal["carry_forward", "unclaimed"]
    reason: ShortText


class RetryRequest(StrictModel):
    """Where what is tried again goes: as the holders prefer it by now, or into the wallet whatever they prefer."""

    to: Literal["preference", "wallet"] = "preference"


class PayoutPreferenceRequest(StrictModel):
    """Where profit goes: `wallet`, or the id of a verified beneficiary of one's own."""

    destination: ShortText


class PayoutPreferenceView(BaseModel):
    """Where a person's profit goes: `wallet`, or a beneficiary's id."""

    user_id: str
    destination: str


class PayoutHoldRequest(StrictModel):
    """Hold a person's distribution lines, or let them go."""

    held: bool
    reason: ShortText


class TotalsView(BaseModel):
    """A run's totals, or a line's figures, in minor units. `to_fund`: what must be there before the first line is paid."""

    share: int
    carried_in: int
    adjustment: int
    gross: int
    tax: int
    platform_fee: int
    provider_fee: int
    net: int
    carried_out: int


class TermsView(BaseModel):
    """By what a run is calculated, down to who gets the units that a division leaves over; and where its lines go."""

    period_start: date
    period_end: date
    record_date: date
    zone: str
    rule: ShareRule
    profit_share_bps: int
    share_rounding: Rounding
    remainder: str
    tax_bps: int
    tax_rounding: Rounding
    platform_fee_bps: int
    platform_fee_rounding: Rounding
    provider_fee_minor: int
    minimum_payout_minor: int
    pay_to: PayTo


class ScheduleView(BaseModel):
    """When a run calculates and submits itself."""

    at: CalculateOn
    milestone: int | None


class CountView(BaseModel):
    """How many lines stand so, and their net in minor units."""

    status: LineStatus
    lines: int
    net: int


class DistributionView(BaseModel):
    """One run. `counts` and `timeline` are shown with the one run only."""

    id: str
    campaign_id: str
    status: DistributionStatus
    dry_run: bool
    declared_profit: MoneyView
    distributable: MoneyView
    to_fund: MoneyView
    terms: TermsView
    schedule: ScheduleView | None
    evidence: str
    evidence_url: str | None
    lines: int
    totals: TotalsView
    error_code: str | None
    blocked_reason: str | None
    next_action_at: datetime | None
    declared_by: str
    submitted_by: str | None
    decided_by: str | None
    decided_at: datetime | None
    workflow_id: str
    created_at: datetime
    counts: list[CountView] | None = None
    timeline: list[TimelineView] | None = None


class DistributionLineView(BaseModel):
    """What one holder gets. `weight`: minor units held, or those times days, as text: it may be longer than a number.

    `beneficiary_id`: where it is paid out to, None for the wallet; `payout_id`: the newest payout of it.
    """

    line_no: int
    holder_id: str
    weight: str
    figures: TotalsView
    status: LineStatus
    error_code: str | None
    carried_into: str | None
    beneficiary_id: str | None
    payout_id: str | None


class OwnLineView(BaseModel):
    """One's own line of a run."""

    distribution_id: str
    campaign_id: str
    currency: str
    period_start: date
    period_end: date
    record_date: date
    figures: TotalsView
    status: LineStatus
    created_at: datetime


class PayoutHoldView(BaseModel):
    """Whether a person's lines wait."""

    user_id: str
    held: bool
    reason: str


def declared(unit: Unit, campaign: Campaign, body: DistributionRequest, zone: str) -> Distribution:
    """The run's row, not yet inserted. Raises InvalidTerms, or InvalidRequest `currency_mismatch`."""
    if body.declared_profit.currency != campaign.currency:
        text = f"The campaign's money is in {campaign.currency}."
        raise InvalidRequest("currency_mismatch", text, field="declared_profit.currency")
    terms = DistributionTerms(
        currency=campaign.currency,
        declared_profit_minor=body.declared_profit.amount,
        profit_share_bps=campaign.profit_share_bps,
        share_rounding=Rounding(body.share_rounding),
        rule=ShareRule(body.rule),
        period_start=body.period_start,
        period_end=body.period_end,
        record_date=body.record_date,
        zone=zone,
        tax_bps=body.tax_bps,
        tax_rounding=Rounding(body.tax_rounding),
        platform_fee_bps=body.platform_fee_bps,
        platform_fee_rounding=Rounding(body.platform_fee_rounding),
        provider_fee_minor=body.provider_fee,
        minimum_payout_minor=body.minimum_payout,
    )
    return Distribution(
        tenant_id=unit.scope.tenant_id,
        mode=unit.scope.mode,
        id=unit.new_id("dst"),
        campaign_id=campaign.id,
        funder_id=campaign.owner_id,
        evidence=body.evidence,
        evidence_url=body.evidence_url,
        dry_run=body.dry_run,
        pay_to=PayTo(body.pay_to),
        calculate_on=CalculateOn(body.schedule.at) if body.schedule else None,
        milestone=body.schedule.milestone if body.schedule else None,
        status=DistributionStatus.DRAFT,
        declared_by=unit.principal.user_id,
        created_at=unit.as_of,
        **{name: getattr(terms, name) for name in DistributionTerms.__dataclass_fields__},
    )


async def locked(unit: Unit, distribution_id: str, action: str, campaign_id: str | None = None) -> Distribution:
    """The run, held until the command commits. Raises NotFound, also for one that is not the caller's to `action`."""
    run = await get_distribution(unit.tx, distribution_id, lock=True)
    if run is None or campaign_id not in (None, run.campaign_id):
        raise NotFound("distribution")
    authorize(unit.principal, action, owner_id=run.funder_id)
    return run


async def wake_run(unit: Unit, distribution_id: str) -> None:
    """Have a run's process look at the row, starting it if it has ended."""
    await unit.signal_with_start(
        "DistributionWorkflow",
        workflow_id("distribution", unit.scope, distribution_id),
        DistributionInput(scope=unit.scope, distribution_id=distribution_id, as_of=unit.as_of),
        "changed",
        search_attributes={ENTITY.name: distribution_id},
        summary=f"distribution {distribution_id}",
    )


def distribution_view(scope: Scope, row: Distribution) -> DistributionView:
    """One run as its owner and the admins see it."""

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount=amount_minor, currency=row.currency)

    shown = {"id", "campaign_id", "status", "dry_run", "evidence", "evidence_url", "lines", "error_code", "blocked_reason",
             "next_action_at", "declared_by", "submitted_by", "decided_by", "decided_at", "created_at"}  # fmt: skip
    return DistributionView(
        **row.model_dump(include=shown),
        declared_profit=money(row.declared_profit_minor),
        distributable=money(row.terms.distributable_minor),
        to_fund=money(row.to_fund_minor),
        terms=TermsView(**row.model_dump(include=set(TermsView.model_fields))),
        schedule=ScheduleView(at=row.calculate_on, milestone=row.milestone) if row.calculate_on else None,
        totals=_figures(row.model_dump() | {"provider_fee_minor": row.provider_fees_minor}),
        workflow_id=workflow_id("distribution", scope, row.id),
    )


async def whole_view(tx: Tx, scope: Scope, row: Distribution) -> DistributionView:
    """One run with how many of its lines stand how, and its timeline."""
    counts = await count_lines(tx, row.id)
    return distribution_view(scope, row).model_copy(
        update={
            "counts": [CountView(status=each, lines=n, net=minor) for each, (n, minor) in sorted(counts.items())],
            "timeline": [
                TimelineView(at=each.at, event=each.event, detail=each.detail) for each in await story(tx, row.id)
            ],
        }
    )


def line_view(row: DistributionLine) -> DistributionLineView:
    """One line as the run's owner and the admins see it."""
    return DistributionLineView(
        line_no=row.line_no,
        holder_id=row.holder_id,
        weight=str(row.weight),
        figures=_figures(row.model_dump()),
        status=row.status,
        error_code=row.error_code,
        carried_into=row.carried_into,
        beneficiary_id=row.beneficiary_id,
        payout_id=row.payout_id,
    )


def own_line_view(row: DictRow) -> OwnLineView:
    """One's own line, from `models.distribution_lines.lines_of_holder`."""
    return OwnLineView(
        **{name: row[name] for name in OwnLineView.model_fields if name != "figures"}, figures=_figures(row)
    )


def _figures(row: dict[str, Any]) -> TotalsView:
    return TotalsView(**{name: row[f"{name}_minor"] for name in TotalsView.model_fields})
