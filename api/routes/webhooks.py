"""The door for providers: verify on the raw bytes, store once, answer 2xx; everything else happens afterwards.

`/v1/webhooks/payments/{provider}/{endpoint_id}` names one tenant's account. `/v1/webhooks/payments` and
`/webhooks/payment` stand for the default tenant's test account, the provider being known by its signature header.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

from activities.gateways.protocols import SignatureRefused, WebhookEvent
from activities.gateways.registry import RailAccount, build_rail
from activities.hints import is_about_another, tells_nothing_new, tells_nothing_new_of
from api.commands import Unit, run_unit
from api.dependencies import PUBLIC
from api.envelope import Envelope, success
from api.payouts import wake_payout
from api.routing import api_router
from contracts.base import Mode, Scope
from contracts.ids import attempt_key, refund_id, refund_key, refund_of_reference, workflow_id
from contracts.inbox import INBOX, InboxInput
from contracts.payment import PaymentInput
from contracts.visibility import ENTITY
from domain.errors import NotFound, Unauthenticated
from domain.payment import AWAITS_PROVIDER, CAMPAIGN_FAILED
from infra.database import Database
from models.effect import IN_FLIGHT
from models.payment import Payment, PaymentAttempt, attempt_of_provider_id, get_attempt, get_payment
from models.payout import payout_of_event
from models.provider import ProviderAccount, account_by_endpoint, account_for_alias, sealing_purpose
from models.webhook import InboxEvent, receive, refuse, settle_event

log = structlog.get_logger(__name__)
router = api_router(tags=["webhooks"])
_CAUSES: Final = ("start", "capture", "void")
"""Our own calls on an attempt that providers report by events."""
_LOOK_SECONDS: Final = (0.03, 0.07, 0.1, 0.2, 0.3, 0.4)
"""Between two looks, a second or so in all: soon at first, then rarely, for a range of lines records many calls together."""
_SIGNED_BY: Final = {"stripe-signature": "stripe", "x-paystack-signature": "paystack"}


class ReceiptView(BaseModel):
    """The event is kept."""

    received: bool


@router.post(
    "/v1/webhooks/payments/{provider}/{endpoint_id}", dependencies=[PUBLIC], response_model=Envelope[ReceiptView]
)
async def receive_webhook(request: Request, provider: str, endpoint_id: str) -> JSONResponse:
    """One event of one account. 401 for anything the provider did not sign."""
    auth_database: Database = request.app.state.auth_database
    async with auth_database.transaction() as tx:
        account = await account_by_endpoint(tx, endpoint_id)
    if account is None or account.provider != provider:
        raise NotFound("webhook endpoint")
    return await _take(request, account)


@router.post("/v1/webhooks/payments", dependencies=[PUBLIC], response_model=Envelope[ReceiptView])
@router.post("/webhooks/payment", dependencies=[PUBLIC], include_in_schema=False)
async def receive_for_default_tenant(request: Request) -> JSONResponse:
    """The same, for the default tenant."""
    provider = next((name for header, name in _SIGNED_BY.items() if header in request.headers), None)
    if provider is None:
        raise Unauthenticated("signature_refused", "The request carries no provider's signature.")
    auth_database: Database = request.app.state.auth_database
    async with auth_database.transaction() as tx:
        account = await account_for_alias(tx, request.app.state.settings.default_tenant, Mode.TEST, provider)
    if account is None:
        raise NotFound("webhook endpoint")
    return await _take(request, account)


async def _take(request: Request, account: ProviderAccount) -> JSONResponse:
    scope = Scope(tenant_id=account.tenant_id, mode=Mode(account.mode))
    raw = await request.body()
    headers: dict[str, str] = {}
    for name, value in request.headers.items():  # a header sent twice is joined, and so no valid signature
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    try:
        event = _verify(request, account, raw, headers)
    except SignatureRefused as refused:
        database: Database = request.app.state.database
        async with database.transaction(scope) as tx:
            await refuse(tx, scope, account_id=account.id, reason=refused.reason, raw=raw)
        log.warning("webhook.refused", account=account.id, reason=refused.reason)
        raise Unauthenticated("signature_refused", "The signature does not match.") from None

    await _let_our_call_end(request.app.state.database, scope, event)

    async def store(unit: Unit) -> None:
        await _store(unit, account, event, raw)

    await run_unit(request, scope, f"provider:{account.provider}", "webhook.receive", store)
    return success(request, ReceiptView(received=True))


async def _let_our_call_end(database: Database, scope: Scope, event: WebhookEvent) -> None:
    """Wait a moment while the call that caused the event is being recorded.

    Providers often report a payment before we have written down their answer about it. What would wake processes now, and
    have the provider asked again, tells nothing new a moment later. Only that depends on the wait.
    """
    if event.reference is None:
        return
    keys = [attempt_key(event.reference, operation) for operation in _CAUSES]
    # An event about a refund names either the refund, or the payment it is of.
    keys.append(refund_key(refund_of_reference(event.reference)))
    keys.append(refund_key(refund_id(scope, event.reference, CAMPAIGN_FAILED)))
    for seconds in _LOOK_SECONDS:
        if await database.ask(scope, IN_FLIGHT, (keys,)) is None:
            return
        await asyncio.sleep(seconds)


def _verify(request: Request, account: ProviderAccount, raw: bytes, headers: dict[str, str]) -> WebhookEvent:
    vault = request.app.state.vault
    secret = vault.unseal(account.sealed_secret_key, purpose=sealing_purpose(account, "secret_key"))
    opened = RailAccount(provider=account.provider, base_url=account.base_url, secret_key=secret)
    if account.sealed_webhook_secret:
        hook = vault.unseal(account.sealed_webhook_secret, purpose=sealing_purpose(account, "webhook_secret"))
        opened = opened.model_copy(update={"webhook_secret": hook})
    rail = build_rail(opened, request.app.state.http)
    return rail.verify_webhook(raw, headers, datetime.now(UTC))


async def _store(unit: Unit, account: ProviderAccount, event: WebhookEvent, raw: bytes) -> None:
    """Keep the event, and wake whoever waits for it: the payment's own process while it runs, else the inbox's."""
    row = InboxEvent(
        tenant_id=unit.scope.tenant_id,
        mode=unit.scope.mode,
        account_id=account.id,
        provider=account.provider,
        event_id=event.event_id,
        kind=event.kind,
        reference=event.reference,
        provider_id=event.provider_id,
        raw=raw,
    )
    stored = await receive(unit.tx, row)
    if stored is None:
        return
    attempt = await get_attempt(unit.tx, event.reference) if event.reference else None
    if attempt is None and event.provider_id:
        attempt = await attempt_of_provider_id(unit.tx, account.provider, event.provider_id)
    payment = await get_payment(unit.tx, attempt.payment_id, lock=True) if attempt else None
    if attempt is not None and payment is not None and _is_looked_up(row, attempt, payment):
        await unit.signal_with_start(  # started anew, should its process end before this reaches it
            "PaymentWorkflow",
            workflow_id("payment", unit.scope, payment.id),
            PaymentInput(scope=unit.scope, payment_id=payment.id, as_of=unit.as_of, resume=True),
            "provider_reported",
            search_attributes={ENTITY.name: payment.id},
            summary=f"payment {payment.id}",
        )
        return
    if attempt is not None and tells_nothing_new(row, attempt):
        await settle_event(unit.tx, stored, status="processed")
        return
    if attempt is None and await _wake_payout(unit, row):
        await settle_event(unit.tx, stored, status="processed")
        return
    await unit.signal_with_start(
        "InboxWorkflow",
        workflow_id("inbox", unit.scope, INBOX),
        InboxInput(scope=unit.scope),
        "event_received",
        search_attributes={ENTITY.name: INBOX},
        summary="webhook inbox",
    )


def _is_looked_up(row: InboxEvent, attempt: PaymentAttempt, payment: Payment) -> bool:
    """Whether the payment's own process will look up what the event is about: its newest attempt, and no second payment under
    that reference."""
    newest = attempt.ordinal == payment.attempts
    return payment.status in AWAITS_PROVIDER and newest and not is_about_another(row, attempt)


async def _wake_payout(unit: Unit, event: InboxEvent) -> bool:
    """Whether the event is about a payout: the process that has it then looks."""
    payout = await payout_of_event(unit.tx, event.provider, event.reference, event.provider_id)
    if payout is None:
        return False
    if tells_nothing_new_of(event, payout):
        return True
    await wake_payout(unit, payout, "provider_reported", insist=False)
    return True
