"""A person's statement: the wallet's movements, the investments and the holdings of a period; to read, or as a PDF."""

import asyncio
from datetime import UTC, date, datetime
from typing import Annotated, Final

from fastapi import Path, Query, Request
from pydantic import BaseModel, BeforeValidator
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, success
from api.routing import api_router
from api.views import MoneyView
from domain.money import exponent
from domain.statement import MAX_DRAWN, MAX_LINES, Period, Statement
from infra.database import Database
from models.clock import business_date, business_now
from models.statement import statement_of

router = api_router(prefix="/v1", tags=["wallet"])

_DRAWN_AT_ONCE: Final = asyncio.Semaphore(2)
"""Drawing is processor time; the event loop and the other requests shall have some."""


def _day(value: object) -> date:
    if not isinstance(value, str) or len(value) != len("2026-01-31"):
        raise ValueError("must be a day: YYYY-MM-DD")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("must be a day: YYYY-MM-DD") from error


Day = Annotated[date, BeforeValidator(_day)]
Code = Annotated[str, Path(pattern="^[A-Z]{3}$")]
First = Annotated[Day, Query(alias="from", description="The first day, of the tenant's zone")]
Last = Annotated[Day, Query(alias="to", description="The last day, included")]


class MovementView(BaseModel):
    """One change of the wallet: positive came in. `balance`: what was there after it."""

    at: datetime
    event: str
    reference: str
    amount: MoneyView
    balance: MoneyView


class TradeView(BaseModel):
    """Money that went into a campaign (negative) or came back, from whatever source it was paid."""

    at: datetime
    event: str
    investment_id: str
    campaign: str
    amount: MoneyView


class HoldingView(BaseModel):
    """What is invested in one campaign at the end of the period."""

    campaign_id: str
    campaign: str
    amount: MoneyView


class StatementView(BaseModel):
    """A period of whole days. `closing` is `opening` and every movement; holds are no movements."""

    holder: str
    institution: str
    currency: str
    first_day: date
    last_day: date
    zone: str
    opening: MoneyView
    closing: MoneyView
    movements: list[MovementView]
    investments: list[TradeView]
    holdings: list[HoldingView]
    invested: MoneyView


def _view(found: Statement) -> StatementView:
    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount=amount_minor, currency=found.currency)

    return StatementView(
        holder=found.holder,
        institution=found.institution,
        currency=found.currency,
        first_day=found.period.first,
        last_day=found.period.last,
        zone=found.period.zone,
        opening=money(found.opening_minor),
        closing=money(found.closing_minor),
        movements=[
            MovementView(
                at=each.at, event=each.event, reference=each.reference, amount=money(each.amount_minor), balance=money(balance)
            )
            for each, balance in zip(found.movements, found.balances, strict=True)
        ],
        investments=[
            TradeView(
                at=each.at, event=each.event, investment_id=each.investment_id, campaign=each.campaign,
                amount=money(each.amount_minor),
            )
            for each in found.trades
        ],
        holdings=[
            HoldingView(campaign_id=each.campaign_id, campaign=each.campaign, amount=money(each.amount_minor))
            for each in found.holdings
        ],
        invested=money(found.invested_minor),
    )  # fmt: skip


async def _statement(
    request: Request, principal: Principal, currency: str, first: date, last: date, limit: int
) -> tuple[Statement, datetime]:
    """The statement, and the business time it is made at."""
    exponent(currency)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        now = await business_now(tx)
        zone, _ = await business_date(tx, now)
        return await statement_of(tx, principal.user_id, currency, Period(first, last, zone), limit=limit), now


@router.get("/statements/{currency}", response_model=Envelope[StatementView])
async def read_statement(
    request: Request,
    currency: Code,
    principal: Annotated[Principal, requires("wallet.read")],
    first: First,
    last: Last,
) -> JSONResponse:
    """One's own statement of a period: at most 366 days and 5,000 lines of a kind."""
    found, _ = await _statement(request, principal, currency, first, last, MAX_LINES)
    return success(request, _view(found))


@router.get(
    "/statements/{currency}/pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def download_statement(
    request: Request,
    currency: Code,
    principal: Annotated[Principal, requires("wallet.read")],
    first: First,
    last: Last,
) -> Response:
    """The same statement as a PDF; at most 1,000 lines of a kind."""
    found, made_at = await _statement(request, principal, currency, first, last, MAX_DRAWN)
    async with _DRAWN_AT_ONCE:
        drawn = await asyncio.to_thread(_draw, found, made_at.astimezone(UTC))
    name = f"statement-{currency}-{first}-{last}.pdf"
    return Response(
        drawn, media_type="application/pdf", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _draw(found: Statement, made_at: datetime) -> bytes:
    # Fonts and their tools take half a second to import: the API's start does not wait for them.
    from api.statement_pdf import render

    return render(found, made_at=made_at)
