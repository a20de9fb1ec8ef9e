"""Dashboards: an investor's holdings and returns, an owner's campaigns and obligations, an admin's counts."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, success
from api.policy import authorize
from api.routing import api_router
from api.views import MoneyView
from domain.campaign import CampaignStatus, progress_bps
from domain.dashboard import Flow, Performance, performance
from domain.errors import NotFound
from domain.health import HealthWarning
from domain.milestone import TrancheStatus
from infra.database import Database, Tx
from models import dashboard
from models.clock import business_date, business_now
from models.user import get_user

router = api_router(prefix="/v1", tags=["dashboards"])


class PerformanceView(BaseModel):
    """Money in, money back, what was earned and what is still invested; and the returns that follow, if there are any.

    `yearly_return`: XIRR, 0.1 = 10 % a year. What is invested counts as given back today, at what was paid for it.
    """

    paid_in: MoneyView
    given_back: MoneyView
    earned: MoneyView
    invested: MoneyView
    multiple: Decimal | None
    total_return: Decimal | None
    yearly_return: Decimal | None


class HoldingPerformanceView(PerformanceView):
    """One campaign's."""

    campaign_id: str
    title: str
    status: CampaignStatus


class UpcomingView(BaseModel):
    """What will happen: a `payment` to finish, the `decision` on a held pledge, a `vote` on a missed milestone, a
    `distribution`. `at` null: not dated."""

    kind: str
    campaign_id: str
    campaign: str
    at: datetime | None
    amount: MoneyView


class OwnedView(BaseModel):
    """One campaign of the owner. `sources`: held and captured money by where it was paid from; `warnings`: what to mend.

    Of what was captured: `in_escrow`, `released` to the owner, `returned` to investors; `unsent` is released, less the fee, and
    neither sent nor in the wallet.
    """

    campaign_id: str
    title: str
    status: CampaignStatus
    goal: MoneyView
    pledged: MoneyView
    held: MoneyView
    captured: MoneyView
    in_escrow: MoneyView
    released: MoneyView
    returned: MoneyView
    unsent: MoneyView
    progress_bps: int
    investors: int
    sources: dict[str, int]
    warnings: list[HealthWarning]
    deadline_at: datetime


class ObligationView(BaseModel):
    """An approved distribution that nobody has funded yet."""

    distribution_id: str
    campaign_id: str
    campaign: str
    status: str
    amount: MoneyView
    period_end: date


class OpenTrancheView(BaseModel):
    """A part of a funded campaign's money that wants something: evidence, a review, a vote, or to be sent (`unsent`)."""

    campaign_id: str
    campaign: str
    number: int
    title: str
    status: TrancheStatus
    due_at: datetime | None
    amount: MoneyView
    unsent: MoneyView


class DashboardView(BaseModel):
    """A person's dashboard. `totals` by currency; `holdings` and `campaigns` newest first, at most 200 of each."""

    user_id: str
    as_of: datetime
    totals: dict[str, PerformanceView]
    holdings: list[HoldingPerformanceView]
    upcoming: list[UpcomingView]
    campaigns: list[OwnedView]
    tranches: list[OpenTrancheView]
    obligations: list[ObligationView]


class TenantView(BaseModel):
    """How many there are of what, by state; open cases and campaigns' warnings by kind; campaigns' money by currency, in
    minor units."""

    as_of: datetime
    people: int
    campaigns: dict[str, int]
    distributions: dict[str, int]
    cases: dict[str, int]
    warnings: dict[str, int]
    money: dict[str, dict[str, int]]


def _figures(found: Performance, currency: str) -> dict[str, Any]:
    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount=amount_minor, currency=currency)

    return {
        "paid_in": money(found.paid_in_minor),
        "given_back": money(found.given_back_minor),
        "earned": money(found.earned_minor),
        "invested": money(found.invested_minor),
        "multiple": found.multiple,
        "total_return": found.total_return,
        "yearly_return": found.yearly,
    }


def _totals(flows: Iterable[Flow], today: date) -> dict[str, PerformanceView]:
    by_currency: dict[str, list[Flow]] = {}
    for each in flows:
        by_currency.setdefault(each.currency, []).append(each)
    return {
        currency: PerformanceView(**_figures(performance(found, today=today), currency))
        for currency, found in sorted(by_currency.items())
    }


def _holdings(flows: Iterable[Flow], campaigns: list[dict[str, Any]], today: date) -> list[HoldingPerformanceView]:
    by_campaign: dict[str, list[Flow]] = {}
    for each in flows:
        by_campaign.setdefault(each.campaign_id, []).append(each)
    return [
        HoldingPerformanceView(
            campaign_id=row["id"],
            title=row["title"],
            status=row["status"],
            **_figures(performance(found, today=today), found[0].currency),
        )
        for row in campaigns
        if (found := by_campaign.get(row["id"]))
    ]


_OWNED_MONEY = ("goal", "pledged", "held", "captured", "in_escrow", "released", "returned", "unsent")


def _owned(row: dict[str, Any]) -> OwnedView:
    def money(name: str) -> MoneyView:
        return MoneyView(amount=row[f"{name}_minor"], currency=row["currency"])

    return OwnedView(
        campaign_id=row["id"],
        **{name: row[name] for name in ("title", "status", "investors", "sources", "warnings", "deadline_at")},
        **{name: money(name) for name in _OWNED_MONEY},
        progress_bps=progress_bps(row["held_minor"] + row["captured_minor"], row["goal_minor"]),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a dashboard is made of, as it was read."""

    now: datetime
    today: date
    flows: list[Flow]
    campaigns: list[dict[str, Any]]
    upcoming: list[dict[str, Any]]
    owned: list[dict[str, Any]]
    tranches: list[dict[str, Any]]
    obligations: list[dict[str, Any]]


async def _read(tx: Tx, user_id: str) -> _Facts:
    now = await business_now(tx)
    _, today = await business_date(tx, now)
    return _Facts(
        now=now,
        today=today,
        flows=await dashboard.flows_of(tx, user_id),
        campaigns=await dashboard.campaigns_of(tx, user_id),
        upcoming=await dashboard.upcoming_of(tx, user_id),
        owned=await dashboard.owned_by(tx, user_id),
        tranches=await dashboard.tranches_of(tx, user_id),
        obligations=await dashboard.obligations_of(tx, user_id),
    )


def _dashboard(user_id: str, facts: _Facts) -> DashboardView:
    """Works out the returns, which takes a while for many flows: not for the event loop."""
    return DashboardView(
        user_id=user_id,
        as_of=facts.now,
        totals=_totals(facts.flows, facts.today),
        holdings=_holdings(facts.flows, facts.campaigns, facts.today),
        upcoming=[
            UpcomingView(
                kind=row["kind"], campaign_id=row["campaign_id"], campaign=row["title"], at=row["at"],
                amount=MoneyView(amount=row["minor"], currency=row["currency"]),
            )
            for row in facts.upcoming
        ],
        campaigns=[_owned(row) for row in facts.owned],
        tranches=[
            OpenTrancheView(
                **{name: row[name] for name in ("campaign_id", "campaign", "number", "title", "status", "due_at")},
                amount=MoneyView(amount=row["amount_minor"], currency=row["currency"]),
                unsent=MoneyView(amount=row["unsent_minor"], currency=row["currency"]),
            )
            for row in facts.tranches
        ],
        obligations=[
            ObligationView(
                distribution_id=row["id"], campaign_id=row["campaign_id"], campaign=row["title"], status=row["status"],
                amount=MoneyView(amount=row["minor"], currency=row["currency"]), period_end=row["period_end"],
            )
            for row in facts.obligations
        ],
    )  # fmt: skip


@router.get("/users/{user_id}/dashboard", response_model=Envelope[DashboardView])
async def read_dashboard(
    request: Request, user_id: str, principal: Annotated[Principal, requires("dashboard.read")]
) -> JSONResponse:
    """What a person's money does and what its campaigns need: one's own, anybody's to an admin."""
    authorize(principal, "dashboard.read", owner_id=user_id)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        if await get_user(tx, user_id) is None:
            raise NotFound("user")
        facts = await _read(tx, user_id)
    return success(request, await asyncio.to_thread(_dashboard, user_id, facts))


@router.get("/admin/dashboard", response_model=Envelope[TenantView])
async def read_tenant_dashboard(
    request: Request, principal: Annotated[Principal, requires("dashboard.read_tenant")]
) -> JSONResponse:
    """The tenant at a glance."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        found = await dashboard.tenant_counts(tx)
        as_of = await business_now(tx)
    return success(request, TenantView(as_of=as_of, **found))
