"""Payouts: withdrawals from one's wallet, and what an admin does about any payout: approve, reject, look again."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Amount, Currency, Envelope, ShortText, StrictModel, page, success
from api.paging import Cursor, Limit, before, next_cursor
from api.payouts import check_sendable, own_beneficiary, start_payout, wake_payout
from api.policy import authorize
from api.reads import owner_seen
from api.routing import api_router
from api.views import MoneyView, TimelineView
from contracts.base import Scope
from contracts.ids import workflow_id
from domain import accounts
from domain.errors import Conflict, NotFound
from domain.money import Money
from domain.payout import PAYOUT, PayoutStatus, check_cancelable, check_decision
from infra.database import Database
from models import timeline
from models.base import move, newest_first
from models.notification import notify
from models.payout import (
    Payout,
    PayoutRequest,
    change_payout,
    get_payout,
    release_payout,
    reserve_payout,
)

router = api_router(prefix="/v1", tags=["payouts"])
_P = PayoutStatus


class WithdrawalRequest(StrictModel):
    """How much of one's wallet, to which of one's beneficiaries."""

    beneficiary_id: ShortText
    amount: Amount
    currency: Currency


class RejectionRequest(StrictModel):
    """Why not. The owner reads it."""

    note: ShortText


class PayoutView(BaseModel):
    """Money out. `reason` says for what, `subject_id` for which thing of ours; `reference` is how the provider knows it."""

    id: str
    reason: str
    subject_id: str
    owner_id: str
    beneficiary_id: str
    source_account: str
    provider: str
    reference: str
    amount: MoneyView
    fee: MoneyView
    status: PayoutStatus
    requested_by: str
    decided_by: str | None
    decided_at: datetime | None
    note: str | None
    error_code: str | None
    blocked_reason: str | None
    next_action_at: datetime | None
    workflow_id: str
    created_at: datetime
    timeline: list[TimelineView] | None = None


def payout_view(scope: Scope, row: Payout, story: list[TimelineView] | None = None) -> PayoutView:
    """One payout as its owner and the admins see it."""
    return PayoutView(
        **row.model_dump(),
        amount=MoneyView(amount=row.amount_minor, currency=row.currency),
        fee=MoneyView(amount=row.fee_minor, currency=row.currency),
        workflow_id=workflow_id("payout", scope, row.id),
        timeline=story,
    )


@router.post("/payouts", status_code=202, response_model=Envelope[PayoutView])
async def withdraw(
    request: Request, body: WithdrawalRequest, principal: Annotated[Principal, requires("payout.create")]
) -> JSONResponse:
    """Send money from one's wallet to a verified beneficiary. It is held at once; large amounts wait for an admin."""

    async def handle(unit: Unit) -> Reply:
        beneficiary = await own_beneficiary(unit, body.beneficiary_id, principal.user_id)
        amount = Money(body.amount, body.currency)
        check_sendable(beneficiary, amount, currency_field="currency", amount_field="amount")
        order = PayoutRequest(
            id=unit.new_id("pyo"),
            owner_id=principal.user_id,
            beneficiary=beneficiary,
            source=accounts.wallet(principal.user_id, body.currency),
            amount=amount,
            reason="withdrawal",
            subject_id=principal.user_id,
            requested_by=principal.user_id,
        )
        payout = await reserve_payout(unit.tx, unit.scope, order, unit.as_of)
        await unit.audit("payout.requested", "payout", payout.id, amount_minor=body.amount, currency=body.currency)
        await start_payout(unit, payout)
        return Reply(202, payout_view(unit.scope, payout))

    return await execute(request, principal, "payout.create", body, handle)


@router.get("/payouts", response_model=Envelope[list[PayoutView]])
async def list_payouts(
    request: Request,
    principal: Annotated[Principal, requires("payout.read")],
    status: PayoutStatus | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """One's own, newest first; an admin sees everybody's. `status` narrows."""
    place = before(cursor)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        wanted = {"owner_id": owner_seen(principal), "status": status}
        rows = await newest_first(tx, Payout, wanted, before=place, limit=limit)
    return page(request, [payout_view(principal.scope, row) for row in rows], next_cursor(rows, limit))


@router.get("/payouts/{payout_id}", response_model=Envelope[PayoutView])
async def read_payout(
    request: Request, payout_id: str, principal: Annotated[Principal, requires("payout.read")]
) -> JSONResponse:
    """One payout with its timeline."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        row = await get_payout(tx, payout_id)
        told = await timeline.story(tx, payout_id) if row is not None else []
    if row is None:
        raise NotFound("payout")
    authorize(principal, "payout.read", owner_id=row.owner_id)
    return success(request, payout_view(principal.scope, row, [TimelineView(**each.model_dump()) for each in told]))


@router.post("/payouts/{payout_id}/cancel", response_model=Envelope[PayoutView])
async def cancel_payout(
    request: Request, payout_id: str, principal: Annotated[Principal, requires("payout.cancel")]
) -> JSONResponse:
    """Take a payout back before anything was sent; its money is available again at once."""

    async def handle(unit: Unit) -> Reply:
        payout = await _locked(unit, payout_id, "payout.cancel")
        check_cancelable(payout.status)
        await release_payout(unit.tx, unit.scope, payout, _P.CANCELED, unit.as_of)
        await unit.audit("payout.canceled", "payout", payout.id)
        return Reply(200, await _woken(unit, payout))

    return await execute(request, principal, "payout.cancel", None, handle)


@router.post("/admin/payouts/{payout_id}/approve", response_model=Envelope[PayoutView])
async def approve_payout(
    request: Request, payout_id: str, principal: Annotated[Principal, requires("payout.approve")]
) -> JSONResponse:
    """The second person's yes: it is sent now."""

    async def handle(unit: Unit) -> Reply:
        payout = await _decided(unit, payout_id)
        decided: dict[str, Any] = {"decided_by": principal.user_id, "decided_at": unit.as_of}
        await move(unit.tx, Payout, PAYOUT, payout.id, _P.APPROVED, **decided)
        await unit.timeline(payout.id, "payout_approved")
        await unit.audit("payout.approved", "payout", payout.id, amount_minor=payout.amount_minor)
        return Reply(200, await _woken(unit, payout))

    return await execute(request, principal, "payout.approve", None, handle)


@router.post("/admin/payouts/{payout_id}/reject", response_model=Envelope[PayoutView])
async def reject_payout(
    request: Request,
    payout_id: str,
    body: RejectionRequest,
    principal: Annotated[Principal, requires("payout.approve")],
) -> JSONResponse:
    """The second person's no: the money is available again, and the owner is told why."""

    async def handle(unit: Unit) -> Reply:
        payout = await _decided(unit, payout_id)
        decided: dict[str, Any] = {"decided_by": principal.user_id, "decided_at": unit.as_of, "note": body.note}
        await release_payout(unit.tx, unit.scope, payout, _P.REJECTED, unit.as_of, **decided)
        params = {"amount_minor": payout.amount_minor, "currency": payout.currency, "payout_id": payout.id,
                  "reason": payout.reason.replace("_", " "), "code": body.note}  # fmt: skip
        await notify(
            unit.tx, unit.scope, subject_id=payout.id, user_id=payout.owner_id, template="payout_rejected",
            params=params, as_of=unit.as_of,
        )  # fmt: skip
        await unit.audit("payout.rejected", "payout", payout.id, note=body.note)
        return Reply(200, await _woken(unit, payout))

    return await execute(request, principal, "payout.reject", body, handle)


@router.post("/admin/payouts/{payout_id}/check", status_code=202, response_model=Envelope[PayoutView])
async def check_payout(
    request: Request, payout_id: str, principal: Annotated[Principal, requires("payout.check")]
) -> JSONResponse:
    """Look now instead of later: after a top-up, or where the provider has news that it did not tell."""

    async def handle(unit: Unit) -> Reply:
        payout = await _locked(unit, payout_id, "payout.check")
        if payout.ended and payout.status is not _P.SUCCEEDED:
            raise Conflict("payout_over", "Nothing more can become of this payout.")
        await change_payout(unit.tx, payout.id, checks=0)
        await unit.audit("payout.checked", "payout", payout.id)
        return Reply(202, await _woken(unit, payout))

    return await execute(request, principal, "payout.check", None, handle)


async def _locked(unit: Unit, payout_id: str, action: str) -> Payout:
    payout = await get_payout(unit.tx, payout_id, lock=True)
    if payout is None:
        raise NotFound("payout")
    authorize(unit.principal, action, owner_id=payout.owner_id)
    return payout


async def _decided(unit: Unit, payout_id: str) -> Payout:
    """The payout, by whoever may decide about it."""
    payout = await _locked(unit, payout_id, "payout.approve")
    who = unit.principal.user_id
    check_decision(payout.status, requested_by=payout.requested_by, owner_id=payout.owner_id, decided_by=who)
    return payout


async def _woken(unit: Unit, payout: Payout) -> PayoutView:
    """Tell the payout's process that its row says something new; the payout as it is now."""
    await wake_payout(unit, payout, "payout_changed", insist=True)
    now = await get_payout(unit.tx, payout.id)
    assert now is not None
    return payout_view(unit.scope, now)
