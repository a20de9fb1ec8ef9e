"""Whom a person wants to be paid to: added by its owner, checked by the bank, reviewed by an admin where names differ."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, Field, SecretStr, StringConstraints
from starlette.responses import JSONResponse

from activities.gateways.registry import PAYOUT_CAPABILITIES
from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Currency, Envelope, ShortText, StrictModel, page, success
from api.notices import announce
from api.paging import Cursor, Limit, before, next_cursor
from api.policy import authorize
from api.reads import owner_seen
from api.routing import api_router
from contracts.ids import workflow_id
from contracts.payout import BeneficiaryInput
from contracts.visibility import ENTITY, PROVIDER
from domain.beneficiary import BENEFICIARY, BeneficiaryStatus, masked
from domain.errors import Conflict, InvalidRequest, NotFound
from infra.crypto import Vault
from infra.database import Database
from models.base import insert, move, newest_first
from models.beneficiary import BeneficiaryRow, get_beneficiary, number_purpose
from models.case import resolve_case
from models.notification import notify
from models.provider import account_of

router = api_router(prefix="/v1", tags=["beneficiaries"])
_B = BeneficiaryStatus


class BeneficiaryRequest(StrictModel):
    """An account outside. `bank_code`: the provider's own code of the bank, or of the operator for mobile money.

    The number is no part of the comparison with an earlier request under the same key: no hash of it is kept.
    """

    provider: Literal["paystack"] = "paystack"
    kind: Literal["bank", "mobile_money"] = "bank"
    currency: Currency
    bank_code: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_-]{1,20}$")]
    account_number: Annotated[SecretStr, Field(min_length=6, max_length=20, description="Digits only")]
    name: ShortText


class ReviewRequest(StrictModel):
    """What a person found out about a holder's name."""

    decision: Literal["accept", "reject"]
    note: ShortText


class BeneficiaryView(BaseModel):
    """A beneficiary. `account`: the last digits of its number. `holder_name`: whose account it is, by the bank's word."""

    id: str
    owner_id: str
    provider: str
    kind: str
    currency: str
    bank_code: str
    account: str
    name: str
    holder_name: str | None
    status: BeneficiaryStatus
    error_code: str | None
    created_at: datetime


def beneficiary_view(row: BeneficiaryRow) -> BeneficiaryView:
    """One beneficiary as its owner and the admins see it."""
    return BeneficiaryView(**row.model_dump(), account=masked(row.number_end))


@router.post("/beneficiaries", status_code=202, response_model=Envelope[BeneficiaryView])
async def add_beneficiary(
    request: Request, body: BeneficiaryRequest, principal: Annotated[Principal, requires("beneficiary.create")]
) -> JSONResponse:
    """Add an account to be paid to. It is `pending` until the bank has said whose it is."""
    number = body.account_number.get_secret_value()
    if not (number.isascii() and number.isdigit()):
        raise InvalidRequest("invalid_account_number", "An account number is digits only.", field="account_number")
    vault: Vault = request.app.state.vault

    async def handle(unit: Unit) -> Reply:
        await _check_rail(unit, body)
        row = BeneficiaryRow(
            tenant_id=unit.scope.tenant_id,
            mode=unit.scope.mode,
            id=unit.new_id("ben"),
            owner_id=principal.user_id,
            sealed_number="",
            number_end=number[-4:],
            status=_B.PENDING,
            created_at=unit.as_of,
            **body.model_dump(include={"provider", "kind", "currency", "bank_code", "name"}),
        )
        row.sealed_number = vault.seal(number, purpose=number_purpose(row))
        await insert(unit.tx, row)
        await unit.timeline(row.id, "beneficiary_added")
        await unit.audit("beneficiary.added", "beneficiary", row.id)
        await unit.start(
            "BeneficiaryWorkflow",
            workflow_id("beneficiary", unit.scope, row.id),
            BeneficiaryInput(scope=unit.scope, beneficiary_id=row.id, as_of=unit.as_of),
            search_attributes={ENTITY.name: row.id, PROVIDER.name: row.provider},
            summary=f"beneficiary {row.id}",
        )
        return Reply(202, beneficiary_view(row))

    return await execute(request, principal, "beneficiary.create", body, handle)


async def _check_rail(unit: Unit, body: BeneficiaryRequest) -> None:
    """The tenant pays out through this provider, in this currency."""
    if await account_of(unit.tx, body.provider) is None:
        raise InvalidRequest(
            "provider_unavailable", f"Payouts through {body.provider} are not set up.", field="provider"
        )
    if body.currency not in PAYOUT_CAPABILITIES[body.provider].minimum_minor:
        text = f"{body.provider} pays nobody out in {body.currency}."
        raise InvalidRequest("currency_unsupported", text, field="currency")


@router.get("/beneficiaries", response_model=Envelope[list[BeneficiaryView]])
async def list_beneficiaries(
    request: Request,
    principal: Annotated[Principal, requires("beneficiary.read")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> JSONResponse:
    """One's own, newest first; an admin sees everybody's."""
    place = before(cursor)
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        wanted = {"owner_id": owner_seen(principal)}
        rows = await newest_first(tx, BeneficiaryRow, wanted, before=place, limit=limit)
    return page(request, [beneficiary_view(row) for row in rows], next_cursor(rows, limit))


@router.get("/beneficiaries/{beneficiary_id}", response_model=Envelope[BeneficiaryView])
async def read_beneficiary(
    request: Request, beneficiary_id: str, principal: Annotated[Principal, requires("beneficiary.read")]
) -> JSONResponse:
    """One beneficiary."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        row = await get_beneficiary(tx, beneficiary_id)
    if row is None:
        raise NotFound("beneficiary")
    authorize(principal, "beneficiary.read", owner_id=row.owner_id)
    return success(request, beneficiary_view(row))


@router.delete("/beneficiaries/{beneficiary_id}", response_model=Envelope[BeneficiaryView])
async def disable_beneficiary(
    request: Request, beneficiary_id: str, principal: Annotated[Principal, requires("beneficiary.disable")]
) -> JSONResponse:
    """No more money goes there; what has not been sent yet fails. The row and its history stay."""

    async def handle(unit: Unit) -> Reply:
        row = await _locked(unit, beneficiary_id, "beneficiary.disable")
        if not await move(unit.tx, BeneficiaryRow, BENEFICIARY, row.id, _B.DISABLED):
            raise Conflict("beneficiary_over", "The beneficiary was rejected or disabled before.")
        await _settle_case(unit, row.id, "disabled")
        await unit.timeline(row.id, "beneficiary_disabled")
        await unit.audit("beneficiary.disabled", "beneficiary", row.id)
        return Reply(200, beneficiary_view(await _fresh(unit, row.id)))

    return await execute(request, principal, "beneficiary.disable", None, handle, key_required=False)


@router.post("/admin/beneficiaries/{beneficiary_id}/review", response_model=Envelope[BeneficiaryView])
async def review_beneficiary(
    request: Request,
    beneficiary_id: str,
    body: ReviewRequest,
    principal: Annotated[Principal, requires("beneficiary.review")],
) -> JSONResponse:
    """Decide where the bank's name for the holder is not the one that was given, or where the bank tells none."""

    async def handle(unit: Unit) -> Reply:
        row = await _locked(unit, beneficiary_id, "beneficiary.review")
        if row.status is not _B.NEEDS_REVIEW:
            raise Conflict("not_under_review", "The beneficiary does not wait for a review.")
        status = _B.VERIFIED if body.decision == "accept" else _B.REJECTED
        code = None if status is _B.VERIFIED else "refused_by_reviewer"
        await move(unit.tx, BeneficiaryRow, BENEFICIARY, row.id, status, error_code=code)
        await _settle_case(unit, row.id, str(status))
        await unit.timeline(row.id, f"beneficiary_{status}")
        await unit.audit("beneficiary.reviewed", "beneficiary", row.id, decision=body.decision, note=body.note)
        params = {"amount_minor": 0, "currency": row.currency, "number": masked(row.number_end), "code": code or ""}
        await notify(
            unit.tx, unit.scope, subject_id=row.id, user_id=row.owner_id, template=f"beneficiary_{status}",
            params=params, as_of=unit.as_of,
        )  # fmt: skip
        await announce(unit, row.id, row.id)
        return Reply(200, beneficiary_view(await _fresh(unit, row.id)))

    return await execute(request, principal, "beneficiary.review", body, handle)


async def _locked(unit: Unit, beneficiary_id: str, action: str) -> BeneficiaryRow:
    row = await get_beneficiary(unit.tx, beneficiary_id, lock=True)
    if row is None:
        raise NotFound("beneficiary")
    authorize(unit.principal, action, owner_id=row.owner_id)
    return row


async def _fresh(unit: Unit, beneficiary_id: str) -> BeneficiaryRow:
    row = await get_beneficiary(unit.tx, beneficiary_id)
    assert row is not None
    return row


async def _settle_case(unit: Unit, beneficiary_id: str, resolution: str) -> None:
    await resolve_case(
        unit.tx, unit.scope, kind="beneficiary_mismatch", subject_id=beneficiary_id, resolution=resolution,
        as_of=unit.as_of,
    )  # fmt: skip
