"""The books: one's own wallet, and every account for admins."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.dependencies import requires
from api.envelope import Envelope, Timestamp, decode_cursor, encode_cursor, page, success
from api.paging import Cursor, Limit
from api.routing import api_router
from infra.database import Database
from models import ledger

router = api_router(prefix="/v1", tags=["ledger"])
Code = Annotated[str, Path(pattern=r"^[a-z_]+(:[A-Za-z0-9_.-]{1,80})*:[A-Z]{3}$", max_length=200)]


class BalanceView(BaseModel):
    """An account from its normal side, in minor units. `available` = posted less what holds claim."""

    code: str
    currency: str
    kind: str
    posted: int
    pending_in: int
    pending_out: int
    available: int


class EntryView(BaseModel):
    """One leg. `amount` is signed: positive = debit. `pending` legs are holds and their release."""

    transaction_id: int
    account: str
    amount: int
    currency: str
    pending: bool
    key: str
    event: str
    phase: str
    effective_at: datetime
    posted_at: datetime


def _view(balance: ledger.Balance) -> BalanceView:
    return BalanceView(
        code=balance.code,
        currency=balance.currency,
        kind=balance.kind,
        posted=balance.posted_minor,
        pending_in=balance.pending_in_minor,
        pending_out=balance.pending_out_minor,
        available=balance.available_minor,
    )


def _entry(line: ledger.EntryLine) -> EntryView:
    return EntryView(
        transaction_id=line.transaction_id,
        account=line.code,
        amount=line.amount_minor,
        currency=line.currency,
        pending=line.pending,
        key=line.key,
        event=line.event,
        phase=line.phase,
        effective_at=line.effective_at,
        posted_at=line.posted_at,
    )


async def _entries(request: Request, principal: Principal, code: str, limit: int, cursor: str | None) -> JSONResponse:
    place = decode_cursor(cursor, int, int) if cursor else None
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        lines = await (ledger.entries(tx, code, place, limit) if place else ledger.entries(tx, code, limit=limit))
    more = encode_cursor(lines[-1].transaction_id, lines[-1].leg) if len(lines) == limit else None
    return page(request, [_entry(line) for line in lines], more)


@router.get("/wallet", tags=["wallet"], response_model=Envelope[list[BalanceView]])
async def read_wallet(request: Request, principal: Annotated[Principal, requires("wallet.read")]) -> JSONResponse:
    """One's balances, one per currency ever used."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        found = await ledger.accounts(tx, f"wallet:{principal.user_id}:")
    return success(request, [_view(each) for each in found])


@router.get("/wallet/{currency}/entries", tags=["wallet"], response_model=Envelope[list[EntryView]])
async def read_wallet_entries(
    request: Request,
    currency: Annotated[str, Path(pattern="^[A-Z]{3}$")],
    principal: Annotated[Principal, requires("wallet.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """Everything that moved one's wallet, newest first."""
    return await _entries(request, principal, f"wallet:{principal.user_id}:{currency}", limit, cursor)


@router.get("/accounts", response_model=Envelope[list[BalanceView]])
async def list_accounts(
    request: Request,
    principal: Annotated[Principal, requires("ledger.read")],
    prefix: Annotated[str, Query(max_length=100, pattern=r"^[A-Za-z0-9_:.-]*$")] = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """Every account with its balance, by code."""
    after = decode_cursor(cursor, str)[0] if cursor else ""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        found = await ledger.accounts(tx, prefix, after, limit)
    return page(
        request, [_view(each) for each in found], encode_cursor(found[-1].code) if len(found) == limit else None
    )


@router.get("/accounts/{code}/balance", response_model=Envelope[BalanceView])
async def read_balance(
    request: Request,
    code: Code,
    principal: Annotated[Principal, requires("ledger.read")],
    as_of: Timestamp | None = None,
    on: Literal["effective", "posted"] = "effective",
) -> JSONResponse:
    """One balance, now or as of a date. `on`: by the day it happened, or by the day it was written down."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        found = await ledger.balance(tx, code, as_of, on)
    return success(request, _view(found))


@router.get("/accounts/{code}/entries", response_model=Envelope[list[EntryView]])
async def read_entries(
    request: Request,
    code: Code,
    principal: Annotated[Principal, requires("ledger.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """The legs of one account, newest first."""
    return await _entries(request, principal, code, limit, cursor)
