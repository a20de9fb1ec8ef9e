"""Payments: lists and details; wallet top-ups; and an operator's ruling about an unknown outcome."""

from typing import Annotated, Literal

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Amount, Currency, Envelope, ShortText, StrictModel
from api.investing import Instrument, ReturnUrl, check_source, new_payment, wait_for_next_action
from api.paging import Cursor, Limit, before
from api.reads import Reader, owner_seen, reads
from api.routing import api_router
from api.views import PaymentView, payment_view
from contracts.ids import workflow_id
from contracts.payment import PaymentInput, Ruling, RulingOutcome
from contracts.visibility import ENTITY, PROVIDER
from domain.errors import Conflict, NotFound
from domain.payment import AttemptStatus
from models import pages
from models.base import insert
from models.payment import current_attempt, get_payment

router = api_router(prefix="/v1", tags=["payments"])


class DepositRequest(StrictModel):
    """A wallet top-up."""

    amount: Amount
    currency: Currency
    provider: Literal["paystack", "stripe"]
    instrument: Instrument | None = None
    return_url: ReturnUrl | None = None


class RulingRequest(StrictModel):
    """What really happened, said by a named operator who asked the provider."""

    outcome: Literal["charged", "not_charged"]
    reason: ShortText


@router.post("/deposits", status_code=202, response_model=Envelope[PaymentView])
async def deposit(
    request: Request, body: DepositRequest, principal: Annotated[Principal, requires("deposit.create")]
) -> JSONResponse:
    """Put money into one's wallet. The answer says what the payer must do next."""

    async def handle(unit: Unit) -> Reply:
        await check_source(unit, body.provider, body.currency, body.return_url)
        payment = new_payment(unit, purpose="deposit", subject_id=principal.user_id, capture="immediate", body=body)
        await insert(unit.tx, payment)
        await unit.timeline(payment.id, "deposit_requested", amount_minor=body.amount, currency=body.currency)
        await unit.audit("deposit.created", "payment", payment.id, amount_minor=body.amount)
        await unit.start(
            "PaymentWorkflow",
            workflow_id("payment", unit.scope, payment.id),
            PaymentInput(scope=unit.scope, payment_id=payment.id, as_of=unit.as_of),
            search_attributes={ENTITY.name: payment.id, PROVIDER.name: body.provider},
            summary=f"deposit {payment.id}",
        )
        return Reply(202, payment_view(unit.scope, payment))

    answer = await execute(request, principal, "deposit.create", body, handle)
    return await wait_for_next_action(request, principal.scope, answer)


@router.get("/payments", response_model=Envelope[list[PaymentView]])
async def list_payments(
    reader: Annotated[Reader, reads("payment.read")],
    purpose: Literal["investment", "deposit"] | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """One's own, newest first; an admin sees everybody's."""
    place = pages.Place(before(cursor), limit)
    return await reader.page(lambda who: pages.payments(payer_id=owner_seen(who), purpose=purpose, place=place), limit)


@router.get("/payments/{payment_id}", response_model=Envelope[PaymentView])
async def read_payment(payment_id: str, reader: Annotated[Reader, reads("payment.read")]) -> Response:
    """One payment with its attempts, refunds and timeline."""
    return await reader.one(lambda _: pages.payment(payment_id))


@router.post("/admin/payments/{payment_id}/resolve-unknown", status_code=202, response_model=Envelope[PaymentView])
async def resolve_unknown(
    request: Request,
    payment_id: str,
    body: RulingRequest,
    principal: Annotated[Principal, requires("payment.resolve_unknown")],
) -> JSONResponse:
    """Answer for a provider that cannot tell whether it took the money. Audited with the reason."""

    async def handle(unit: Unit) -> Reply:
        payment = await get_payment(unit.tx, payment_id, lock=True)
        if payment is None:
            raise NotFound("payment")
        attempt = await current_attempt(unit.tx, payment_id)
        if attempt is None or attempt.status is not AttemptStatus.UNKNOWN:
            raise Conflict("outcome_known", "The payment's outcome is not unknown.")
        await unit.audit("payment.ruled", "payment", payment.id, outcome=body.outcome, reason=body.reason)
        ruling = Ruling(outcome=RulingOutcome(body.outcome), operator_id=principal.user_id, reason=body.reason)
        await unit.signal_with_start(
            "PaymentWorkflow",
            workflow_id("payment", unit.scope, payment.id),
            PaymentInput(scope=unit.scope, payment_id=payment.id, as_of=unit.as_of, resume=True),
            "outcome_ruled",
            ruling,
            search_attributes={ENTITY.name: payment.id},
            summary=f"payment {payment.id}",
        )
        return Reply(202, payment_view(unit.scope, payment))

    return await execute(request, principal, "payment.resolve_unknown", body, handle)
