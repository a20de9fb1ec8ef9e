"""One payment with everything its facts touch, read under lock, and the small moves that keep them in step."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.base import Message, Scope
from contracts.ids import attempt_key, workflow_id
from contracts.outbox import OutboxKind, OutboxMessage
from contracts.visibility import ENTITY, MODE, TENANT, TaskQueue
from domain import accounts
from domain.campaign import TAKES_MONEY
from domain.investment import InvestmentStatus
from domain.money import Money
from domain.payment import PAYMENT, AttemptStatus, PaymentStatus
from infra.correlation import current_id
from infra.database import Tx
from models import notification, timeline
from models.base import move
from models.campaign import Campaign, get_campaign, reach_goal
from models.case import open_case
from models.investment import Investment, get_investment, move_investment
from models.outbox import enqueue
from models.payment import Payment, PaymentAttempt, change_attempt

_MONEY_IN = frozenset({InvestmentStatus.HELD, InvestmentStatus.CAPTURED})


@dataclass
class Book:
    """What `payment_facts` works on. `notices`: the subject under which messages are queued (and later sent)."""

    tx: Tx
    scope: Scope
    payment: Payment
    attempt: PaymentAttempt
    investment: Investment | None
    campaign: Campaign | None
    lifetime: timedelta
    as_of: datetime
    notices: str

    @property
    def amount(self) -> Money:
        """What was asked."""
        return Money(self.attempt.amount_minor, self.attempt.currency)

    @property
    def destination(self) -> accounts.AccountSpec:
        """The account the money goes to: the campaign's escrow, or the payer's wallet."""
        if self.investment is not None:
            return accounts.escrow(self.investment.campaign_id, self.payment.currency)
        return accounts.wallet(self.payment.payer_id, self.payment.currency)

    @property
    def over_for_money(self) -> bool:
        """Money is no longer wanted: the payment ended, or the campaign was decided before this pledge's money came."""
        closed = self.campaign is not None and self.campaign.status not in TAKES_MONEY
        return PAYMENT.is_terminal(self.payment.status) or closed

    def key(self, step: str) -> str:
        """The ledger key of one step of this attempt: the auditor joins ledger and attempts by it."""
        return attempt_key(self.attempt.reference, step)

    @property
    def hold_key(self) -> str:
        """The key of the attempt's hold."""
        return self.key("hold")

    async def change_attempt(self, **changes: Any) -> None:
        """Set columns of the attempt, here and in its row."""
        for name, value in changes.items():
            setattr(self.attempt, name, value)
        await change_attempt(self.tx, self.attempt.reference, **changes)

    async def move_payment(self, status: PaymentStatus, **changes: Any) -> bool:
        """Move the intent along its table and tell its story; False when its present status forbids it."""
        if not await move(self.tx, Payment, PAYMENT, self.payment.id, status, **changes):
            return False
        self.payment.status = status
        for name, value in changes.items():
            setattr(self.payment, name, value)
        code = changes.get("error_code")
        await self.story(f"payment_{status}", **({"code": code} if code else {}))
        return True

    async def move_pledge(self, status: InvestmentStatus) -> None:
        """Move the investment and the campaign's counters, where the payment is for an investment.

        Raises NoLongerWanted when the campaign was decided meanwhile: the step is repeated, and sees it.
        """
        campaign = self.campaign
        if self.investment is None or campaign is None:
            return
        wanted = status in _MONEY_IN and campaign.status in TAKES_MONEY
        if not await move_investment(self.tx, self.investment, status, wanted=wanted):
            return
        await self.story(f"investment_{status}", only_pledge=True)
        if wanted and campaign.close_when_funded and await reach_goal(self.tx, campaign.id, self.as_of):
            campaign.goal_reached_at = self.as_of
            await self.signal("campaign", campaign.id, "funding_changed")

    async def story(self, event: str, *, only_pledge: bool = False, **detail: Any) -> None:
        """Append to the timelines of the payment and of what it pays for."""
        whose = [] if only_pledge else [self.payment.id]
        if self.investment is not None:
            whose.append(self.investment.id)
        await timeline.record(self.tx, self.scope, whose, event, self.as_of, detail)

    async def open_case(self, kind: str, subject_id: str = "", *, again: bool = False, **detail: Any) -> None:
        """Put something before an admin: about the attempt, or `subject_id`. `again` as in `models.case.open_case`."""
        await open_case(
            self.tx, self.scope, kind=kind, subject_id=subject_id or self.attempt.reference, detail=detail,
            as_of=self.as_of, again=again,
        )  # fmt: skip

    async def notify(self, template: str, *, once: str = "") -> None:
        """Queue a message to the payer, in this transaction."""
        params = {
            "amount_minor": self.attempt.amount_minor,
            "currency": self.attempt.currency,
            "payment_id": self.payment.id,
            "purpose": self.payment.purpose,
            "campaign": self.campaign.title if self.campaign else "",
            "code": self.payment.error_code or "",
        }
        await notification.notify(
            self.tx, self.scope, subject_id=self.notices, user_id=self.payment.payer_id, template=template,
            params=params, as_of=self.as_of, once=once or self.payment.id,
        )  # fmt: skip

    async def signal(self, noun: str, entity_id: str, name: str) -> None:
        """Wake a running workflow after this transaction commits."""
        await send(self.tx, self.scope, OutboxKind.SIGNAL, noun, entity_id, signal=name)

    async def start(self, noun: str, workflow: str, entity_id: str, input: Message, *, wake: str = "") -> None:
        """Start a workflow after this transaction commits; with `wake`, or wake it if it runs."""
        kind = OutboxKind.SIGNAL_WITH_START if wake else OutboxKind.START
        await send(self.tx, self.scope, kind, noun, entity_id, workflow=workflow, input=input, signal=wake or None)


async def open_book(
    tx: Tx,
    scope: Scope,
    payment: Payment,
    attempt: PaymentAttempt,
    *,
    lifetime: timedelta,
    as_of: datetime,
    notices: str = "",
) -> Book:
    """Read, and lock in the order payment (the caller's) → investment, what the facts of this payment touch."""
    investment = campaign = None
    if payment.purpose == "investment":
        investment = await get_investment(tx, payment.subject_id, lock=True)
        assert investment is not None
        campaign = await get_campaign(tx, investment.campaign_id)
    return Book(tx, scope, payment, attempt, investment, campaign, lifetime, as_of, notices or payment.id)


async def send(
    tx: Tx, scope: Scope, kind: OutboxKind, noun: str, entity_id: str, *, workflow: str | None = None,
    input: Message | None = None, signal: str | None = None,
) -> None:  # fmt: skip
    """Write one outbox row; the relay hands it to Temporal when the transaction has committed."""
    target = workflow_id(noun, scope, entity_id)
    await enqueue(
        tx,
        OutboxMessage(
            id=0,
            scope=scope,
            order_key=target,
            kind=kind,
            workflow_id=target,
            workflow_type=workflow,
            task_queue=TaskQueue.MAIN if workflow else None,
            signal_name=signal,
            payload=input.model_dump(mode="json") if input is not None else None,
            search_attributes={TENANT.name: str(scope.tenant_id), MODE.name: scope.mode, ENTITY.name: entity_id}
            if workflow
            else {},
            static_summary=f"{noun} {entity_id}" if workflow else "",
            request_id=current_id() or f"{noun}/{entity_id}",
        ),
    )


def unknown_attempt(attempt: PaymentAttempt) -> bool:
    """Whether only a look-up may follow."""
    return attempt.status in (AttemptStatus.UNKNOWN, AttemptStatus.STARTED)
