"""The main command: reserve a pledge under the campaign's limits, and set its payment going, in one transaction."""

import asyncio
import json
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import JSONResponse

from api.commands import Reply, Unit
from api.envelope import Amount, Currency, StrictModel
from api.views import investment_view
from contracts.base import Scope
from contracts.ids import attempt_key, provider_key, workflow_id
from contracts.investment import InvestmentInput
from contracts.visibility import ENTITY, PROVIDER
from domain import accounts
from domain.campaign import CampaignKind, check_open
from domain.eligibility import check_eligible
from domain.errors import InvalidRequest, NotFound
from domain.investment import InvestmentStatus, RefundTo, check_ticket
from domain.money import Money
from domain.payment import WALLET, AttemptStatus, PaymentStatus
from domain.return_url import MAX_LENGTH, check_return_url
from infra.database import Database
from models import ledger
from models.base import insert
from models.campaign import Campaign, get_campaign, reach_goal
from models.investment import Investment, add_investment, committed_by
from models.notification import notify
from models.payment import Payment, PaymentAttempt, first_action
from models.provider import account_of, return_urls
from models.user import get_user

Instrument = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,120}$")]
ReturnUrl = Annotated[str, Field(min_length=8, max_length=MAX_LENGTH)]

_WAIT_PAUSES: Final = (0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.6, 0.7)
"""Seconds between two looks for a next action, four in all: soon at first, then rarely, for many may wait at once."""


class InvestRequest(StrictModel):
    """How much, from where.

    `instrument`: a payment-method token from the provider's own client library (Stripe). `return_url`: where the payer
    goes after a hosted page; it must be on the tenant's list. `refund_to`: where the money would go, should it be given back.
    """

    amount: Amount
    currency: Currency
    provider: Literal["paystack", "stripe", "wallet"]
    instrument: Instrument | None = None
    return_url: ReturnUrl | None = None
    refund_to: Literal["source", "wallet"] = "source"


async def invest(unit: Unit, campaign_id: str, body: InvestRequest) -> Reply:
    """Check, reserve, write. Raises a domain error naming the rule that refuses; then nothing is left behind.

    A wallet's money is held before the campaign's row is, as everybody does it (`models.payment.get_payment`). So that the
    campaign's rules are still named first, they are looked at before; what they come to is decided under the lock.
    """
    await check_source(unit, body.provider, body.currency, body.return_url)
    if body.provider == WALLET:
        await _hold_wallet(unit, await _open_campaign(unit, campaign_id, body), body)
    campaign = await _open_campaign(unit, campaign_id, body, lock=True)
    investment = await (_from_wallet if body.provider == WALLET else _from_provider)(unit, campaign, body)
    await unit.timeline(investment.id, "investment_pledged", amount_minor=body.amount, currency=body.currency)
    if investment.status is not InvestmentStatus.PLEDGED:  # the wallet's money is there at once
        await unit.timeline(investment.id, f"investment_{investment.status}")
    await unit.audit(
        "investment.created", "investment", investment.id, amount_minor=body.amount, campaign_id=campaign.id
    )
    if campaign.close_when_funded and await reach_goal(unit.tx, campaign.id, unit.as_of):
        await unit.signal(workflow_id("campaign", unit.scope, campaign.id), "funding_changed")
    settled = investment.status if body.provider == WALLET else None
    await unit.start(
        "InvestmentWorkflow",
        workflow_id("investment", unit.scope, investment.id),
        InvestmentInput(
            scope=unit.scope,
            investment_id=investment.id,
            payment_id=investment.payment_id,
            as_of=unit.as_of,
            settled_as=settled,
            notices=settled is not None,
        ),
        search_attributes={ENTITY.name: investment.id, PROVIDER.name: body.provider},
        summary=f"investment {investment.id}",
    )
    return Reply(202, investment_view(unit.scope, investment))


async def _open_campaign(unit: Unit, campaign_id: str, body: InvestRequest, *, lock: bool = False) -> Campaign:
    """The campaign, which takes this pledge: for sure with `lock`. Raises the domain error of the rule that refuses it."""
    campaign = await get_campaign(unit.tx, campaign_id, lock=lock)
    if campaign is None:
        raise NotFound("campaign")
    check_open(campaign.status, deadline_at=campaign.deadline_at, as_of=unit.as_of)
    await _check_investor(unit, campaign)
    check_ticket(
        amount_minor=body.amount,
        currency=body.currency,
        campaign_currency=campaign.currency,
        min_ticket_minor=campaign.min_ticket_minor,
        max_per_investor_minor=campaign.max_per_investor_minor,
        already_committed_minor=await committed_by(unit.tx, campaign.id, unit.principal.user_id),
        cap_minor=campaign.cap_minor,
        committed_minor=campaign.pledged_minor + campaign.held_minor + campaign.captured_minor,
    )
    return campaign


async def _check_investor(unit: Unit, campaign: Campaign) -> None:
    """Raises Conflict `kyc_required` or `country_not_allowed`. A campaign that asks for nothing costs no look at the person."""
    if campaign.min_kyc_level == 0 and campaign.countries is None:
        return
    investor = await get_user(unit.tx, unit.principal.user_id)
    assert investor is not None
    check_eligible(
        kyc_level=investor.kyc_level,
        country=investor.country,
        min_kyc_level=campaign.min_kyc_level,
        countries=campaign.countries,
    )


async def check_source(unit: Unit, provider: str, currency: str, return_url: str | None) -> None:
    """The tenant takes this currency through this provider, and would send the payer back there.

    Raises InvalidRequest `provider_unavailable`, `currency_unsupported` or `return_url_not_allowed`.
    """
    if return_url is not None:
        check_return_url(return_url, await return_urls(unit.tx))
    if provider == WALLET:
        return
    account = await account_of(unit.tx, provider)
    if account is None:
        raise InvalidRequest("provider_unavailable", f"Payments through {provider} are not set up.", field="provider")
    if currency not in account.currencies:
        raise InvalidRequest("currency_unsupported", f"{provider} does not take {currency} here.", field="currency")


def new_payment(unit: Unit, *, purpose: str, subject_id: str, capture: str, body: Any) -> Payment:
    """The intent's row, not yet inserted. `body` has amount, currency, provider, instrument and return_url."""
    return Payment(
        tenant_id=unit.scope.tenant_id,
        mode=unit.scope.mode,
        id=unit.new_id("pay"),
        purpose=purpose,
        subject_id=subject_id,
        payer_id=unit.principal.user_id,
        provider=body.provider,
        amount_minor=body.amount,
        currency=body.currency,
        capture=capture,
        status=PaymentStatus.CREATED,
        instrument=getattr(body, "instrument", None),
        return_url=getattr(body, "return_url", None),
        created_at=unit.as_of,
    )


def _pledge(
    unit: Unit, campaign: Campaign, body: InvestRequest, status: InvestmentStatus
) -> tuple[Investment, Payment]:
    investment_id = unit.new_id("inv")
    immediate = campaign.kind is CampaignKind.KEEP_WHAT_YOU_RAISE
    payment = new_payment(
        unit,
        purpose="investment",
        subject_id=investment_id,
        capture="immediate" if immediate else "deferred",
        body=body,
    )
    investment = Investment(
        tenant_id=unit.scope.tenant_id,
        mode=unit.scope.mode,
        id=investment_id,
        campaign_id=campaign.id,
        investor_id=unit.principal.user_id,
        payment_id=payment.id,
        provider=body.provider,
        amount_minor=body.amount,
        currency=body.currency,
        status=status,
        refund_to=RefundTo(body.refund_to),
        created_at=unit.as_of,
    )
    return investment, payment


async def _from_provider(unit: Unit, campaign: Campaign, body: InvestRequest) -> Investment:
    """Reserve the place; the payment's process collects the money."""
    investment, payment = _pledge(unit, campaign, body, InvestmentStatus.PLEDGED)
    await insert(unit.tx, payment)
    await add_investment(unit.tx, investment)
    return investment


def _wallet_reference(unit: Unit) -> str:
    """Of the only attempt of a pledge from the wallet, as the ledger's keys name it."""
    payment_id = unit.new_id("pay")
    return f"ch-{provider_key(f'{unit.scope}/{payment_id}/1', length=32)}"


async def _hold_wallet(unit: Unit, campaign: Campaign, body: InvestRequest) -> None:
    """Hold the wallet's money with the request itself; keep-what-you-raise takes it at once. Raises InsufficientFunds."""
    reference = _wallet_reference(unit)
    hold_key = attempt_key(reference, "hold")
    hold = accounts.wallet_pledged(
        hold_key,
        user_id=unit.principal.user_id,
        campaign_id=campaign.id,
        amount=Money(body.amount, body.currency),
        as_of=unit.as_of,
    )
    await ledger.post(unit.tx, hold)
    if campaign.kind is CampaignKind.KEEP_WHAT_YOU_RAISE:  # of an open campaign that does not change
        taken = accounts.pledge_captured(attempt_key(reference, "capture"), hold=hold_key, as_of=unit.as_of)
        await ledger.post(unit.tx, taken)


async def _from_wallet(unit: Unit, campaign: Campaign, body: InvestRequest) -> Investment:
    """The pledge whose money `_hold_wallet` has held, or taken."""
    taken = campaign.kind is CampaignKind.KEEP_WHAT_YOU_RAISE
    investment, payment = _pledge(unit, campaign, body, InvestmentStatus.CAPTURED if taken else InvestmentStatus.HELD)
    reference = _wallet_reference(unit)
    payment.attempts = 1
    payment.status = PaymentStatus.SUCCEEDED if taken else PaymentStatus.REQUIRES_CAPTURE
    payment.captured_minor = body.amount if taken else 0
    attempt = PaymentAttempt(
        tenant_id=unit.scope.tenant_id,
        mode=unit.scope.mode,
        reference=reference,
        payment_id=payment.id,
        ordinal=1,
        provider=WALLET,
        status=AttemptStatus.CAPTURED if taken else AttemptStatus.AUTHORIZED,
        amount_minor=body.amount,
        currency=body.currency,
        captured_minor=payment.captured_minor,
        held=not taken,
        started_at=unit.as_of,
    )
    await insert(unit.tx, payment)
    await insert(unit.tx, attempt)
    await add_investment(unit.tx, investment)
    await notify(
        unit.tx,
        unit.scope,
        subject_id=investment.id,
        user_id=unit.principal.user_id,
        template="receipt" if taken else "pledge_held",
        params={
            "amount_minor": body.amount,
            "currency": body.currency,
            "payment_id": payment.id,
            "purpose": "investment",
            "campaign": campaign.title,
            "code": "",
        },
        as_of=unit.as_of,
    )
    return investment


async def wait_for_next_action(request: Request, scope: Scope, answer: JSONResponse) -> JSONResponse:
    """Add `next_action` to a stored answer as soon as the payment's process has it, waiting at most four seconds.

    The first next action of a payment never changes, so a repeat of the request gets the same answer. Without one (no
    action is needed, Temporal is down, the provider is slow) the answer is as stored: the client reads the resource.
    """
    content = json.loads(bytes(answer.body))
    payment_id = content["data"].get("payment_id") or content["data"]["id"]
    database: Database = request.app.state.database
    if request.app.state.temporal.paused or content["data"]["provider"] == WALLET:
        return answer
    for pause in _WAIT_PAUSES:
        status, next_action = await first_action(database, scope, payment_id)
        if next_action is not None or status is not PaymentStatus.CREATED:
            content["data"]["next_action"] = next_action
            break
        await asyncio.sleep(pause)
    headers = {name: answer.headers[name] for name in ("idempotent-replayed",) if name in answer.headers}
    return JSONResponse(content, answer.status_code, headers)
