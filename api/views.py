"""What the API shows of campaigns, investments, payments and the rest: closed models, so a new column is never exposed.

Answers to commands are made here, from rows; reads answer with the same documents made by Postgres (`models/pages.py`).
"""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel

from contracts.base import Scope
from contracts.ids import workflow_id
from contracts.payment import NextAction
from domain.business import Category
from domain.campaign import CampaignKind, CampaignStatus
from domain.cover import cover_urls
from domain.health import HealthWarning
from domain.investment import InvestmentStatus, RefundTo
from domain.payment import WALLET, PaymentStatus
from models.campaign import Campaign
from models.investment import Investment
from models.payment import Payment


class MoneyView(BaseModel):
    """An amount in minor units of its currency."""

    amount: int
    currency: str


class TimelineView(BaseModel):
    """One thing that happened, at business time."""

    at: datetime
    event: str
    detail: dict[str, Any]


class ReviewView(BaseModel):
    """What a reviewer decided, and why."""

    at: datetime
    decision: str
    note: str | None
    reviewer_id: str


class WarningView(BaseModel):
    """What its owner should mend, and since when (`domain/health.py`)."""

    kind: HealthWarning
    since: datetime


class UpdateView(BaseModel):
    """News from a campaign's owner."""

    id: str
    campaign_id: str
    author_id: str
    title: str
    body: str
    created_at: datetime


class MilestoneTermView(BaseModel):
    """One milestone as it was offered: due at a time, or so many days after the funding."""

    title: str
    due_at: datetime | None
    due_days: int | None
    share_bps: int


class CampaignView(BaseModel):
    """A campaign with its three counters: money is in exactly one of pledged, held and captured.

    `cover`: where its picture is, by width in pixels. `reviews` and `warnings` are shown to its owner and to admins, with
    the one campaign.
    """

    id: str
    slug: str | None
    owner_id: str
    title: str
    description: str
    kind: CampaignKind
    status: CampaignStatus
    goal: MoneyView
    cap: MoneyView
    min_ticket: MoneyView
    max_per_investor: MoneyView | None
    pledged: MoneyView
    held: MoneyView
    captured: MoneyView
    profit_share_bps: int
    success_floor_bps: int
    waiting_seconds: int
    close_when_funded: bool
    min_kyc_level: int
    countries: list[str] | None
    milestones: list[MilestoneTermView] | None
    platform_fee_bps: int
    profit_until: date | None
    category: Category | None
    country: str | None
    cover: dict[str, str] | None
    go_live_at: datetime | None
    deadline_at: datetime
    deadline_extensions: int
    verified_at: datetime | None
    blocked_reason: str | None
    next_action_at: datetime | None
    workflow_id: str
    created_at: datetime
    reviews: list[ReviewView] | None = None
    warnings: list[WarningView] | None = None
    timeline: list[TimelineView] | None = None


class ScorePartsView(BaseModel):
    """Points for each reason: progress ≤ 400, investors ≤ 250, time left ≤ 200, news ≤ 150."""

    progress: int
    investors: int
    time_left: int
    news: int


class ScoreView(BaseModel):
    """Why the campaign stands where it does under `sort=recommended`: the total is the sum of the parts."""

    total: int
    parts: ScorePartsView


class ReadCampaignView(CampaignView):
    """A campaign as it is read: with how many people's money is held or captured, and what the feed sorts by.

    `progress_bps`: held and captured money in basis points of the goal. These three may be a moment older than the rest.
    """

    investors: int
    progress_bps: int
    score: ScoreView


class InvestmentView(BaseModel):
    """A pledge. `next_action`: what the payer must do to pay, where that is not done by itself. `refund_to`: where its money
    would go, should it be given back."""

    id: str
    campaign_id: str
    investor_id: str
    payment_id: str
    provider: str
    amount: MoneyView
    status: InvestmentStatus
    refund_to: RefundTo
    next_action: NextAction | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    workflow_id: str
    created_at: datetime
    timeline: list[TimelineView] | None = None


class RefundView(BaseModel):
    """Money on its way back."""

    id: str
    amount: MoneyView
    reason: str
    status: str
    created_at: datetime


class AttemptView(BaseModel):
    """One call to a provider."""

    reference: str
    provider: str
    provider_id: str | None
    status: str
    decline_code: str | None


class PaymentView(BaseModel):
    """Money in: the intent, its attempts and its refunds."""

    id: str
    purpose: str
    subject_id: str
    provider: str
    amount: MoneyView
    captured: MoneyView
    refunded: MoneyView
    status: PaymentStatus
    error_code: str | None
    next_action: NextAction | None
    expires_at: datetime | None
    blocked_reason: str | None
    next_action_at: datetime | None
    workflow_id: str | None
    created_at: datetime
    attempts: list[AttemptView] | None = None
    refunds: list[RefundView] | None = None
    timeline: list[TimelineView] | None = None


def campaign_view(scope: Scope, row: Campaign) -> CampaignView:
    """One campaign as anybody of the tenant sees it."""

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount=amount_minor, currency=row.currency)

    return CampaignView(
        **row.model_dump(
            include={
                "id", "slug", "owner_id", "title", "description", "kind", "status", "profit_share_bps", "success_floor_bps",
                "waiting_seconds", "close_when_funded", "min_kyc_level", "countries", "platform_fee_bps", "profit_until",
                "category", "country", "go_live_at", "deadline_at",
                "deadline_extensions", "verified_at", "blocked_reason", "next_action_at", "created_at",
            }
        ),
        cover=cover_urls(row.id, row.cover),
        goal=money(row.goal_minor),
        cap=money(row.cap_minor),
        min_ticket=money(row.min_ticket_minor),
        max_per_investor=money(row.max_per_investor_minor) if row.max_per_investor_minor else None,
        pledged=money(row.pledged_minor),
        held=money(row.held_minor),
        captured=money(row.captured_minor),
        milestones=[MilestoneTermView(**each) for each in row.milestones] if row.milestones else None,
        workflow_id=workflow_id("campaign", scope, row.id),
    )  # fmt: skip


def investment_view(scope: Scope, row: Investment, payment: Payment | None = None) -> InvestmentView:
    """One pledge; with its payment where the reader wants to know what happens next."""
    return InvestmentView(
        **row.model_dump(
            include={"id", "campaign_id", "investor_id", "payment_id", "provider", "status", "refund_to", "created_at"}
        ),
        amount=MoneyView(amount=row.amount_minor, currency=row.currency),
        next_action=NextAction.model_validate(payment.next_action) if payment and payment.next_action else None,
        blocked_reason=payment.blocked_reason if payment else None,
        next_action_at=payment.next_action_at if payment else None,
        workflow_id=workflow_id("investment", scope, row.id),
    )


def payment_view(scope: Scope, row: Payment) -> PaymentView:
    """One payment."""

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount=amount_minor, currency=row.currency)

    shown = {"id", "purpose", "subject_id", "provider", "status", "error_code", "expires_at", "blocked_reason",
             "next_action_at", "created_at"}  # fmt: skip
    return PaymentView(
        **row.model_dump(include=shown),
        amount=money(row.amount_minor),
        captured=money(row.captured_minor),
        refunded=money(row.refunded_minor),
        next_action=NextAction.model_validate(row.next_action) if row.next_action else None,
        workflow_id=None if row.provider == WALLET else workflow_id("payment", scope, row.id),
    )
