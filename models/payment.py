"""Payments (intents), their attempts at providers, and refunds."""

from datetime import datetime
from typing import Any, ClassVar, LiteralString

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from contracts.base import Scope
from domain.payment import AttemptStatus, PaymentStatus, RefundStatus
from infra.database import Database, Tx
from models.base import Scoped, by_id, read, read_all, update


class Payment(Scoped, table=True):
    """Money in, as its payer wanted it. Amounts in minor units of `currency`."""

    __tablename__: ClassVar[str] = "payments"

    id: str = Field(primary_key=True)
    purpose: str
    subject_id: str
    payer_id: str
    provider: str
    amount_minor: int
    currency: str
    capture: str
    status: PaymentStatus
    next_action: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    return_url: str | None = None
    instrument: str | None = None
    customer: str | None = None
    authorized_until: datetime | None = None
    expires_at: datetime | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    attempts: int = 0
    checks: int = 0
    cancel_reason: str | None = None
    error_code: str | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    created_at: datetime


class PaymentAttempt(Scoped, table=True):
    """One call to a provider about a payment, and what the provider last said of it.

    `held`: a pending posting for it stands in the ledger. `sent_at` is wall-clock time, `started_at` business time.
    """

    __tablename__: ClassVar[str] = "payment_attempts"

    reference: str = Field(primary_key=True)
    payment_id: str
    ordinal: int
    provider: str
    provider_id: str | None = None
    status: AttemptStatus
    amount_minor: int
    currency: str
    reported_minor: int | None = None
    reported_currency: str | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    held: bool = False
    decline_code: str | None = None
    started_at: datetime
    sent_at: datetime | None = None


class Refund(Scoped, table=True):
    """Money back to where it came from. `source_account` is the ledger account it leaves."""

    __tablename__: ClassVar[str] = "refunds"

    id: str = Field(primary_key=True)
    payment_id: str
    attempt_reference: str
    provider: str
    provider_id: str | None = None
    amount_minor: int
    currency: str
    reason: str
    source_account: str
    status: RefundStatus
    checks: int = 0
    error_code: str | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    created_at: datetime


async def get_payment(tx: Tx, payment_id: str, *, lock: bool = False) -> Payment | None:
    """One payment.

    Lock order everywhere: payment, then investment, then ledger accounts, then the campaign's row: its counters are
    everybody's, and held shortest. Only what is released or returned of a funded campaign is decided under its row first:
    `models.milestone.get_tranche`.
    """
    return await by_id(tx, Payment, payment_id, lock=lock)


async def first_action(
    database: Database, scope: Scope, payment_id: str
) -> tuple[PaymentStatus, dict[str, Any] | None]:
    """Where the payment stands, and what its payer must do next."""
    row = await database.ask(scope, "select status, next_action from payments where id = $1", (payment_id,))
    assert row is not None, payment_id
    return PaymentStatus(row["status"]), row["next_action"]


async def get_attempt(tx: Tx, reference: str) -> PaymentAttempt | None:
    """One attempt by our reference."""
    return await read(tx, PaymentAttempt, "select * from payment_attempts where reference = %s", (reference,))


async def current_attempt(tx: Tx, payment_id: str) -> PaymentAttempt | None:
    """The attempt that stands for a payment: the newest that holds its money, else the newest."""
    return await read(
        tx,
        PaymentAttempt,
        "select * from payment_attempts where payment_id = %s order by held desc, ordinal desc limit 1",
        (payment_id,),
    )


async def other_hold(tx: Tx, attempt: PaymentAttempt) -> bool:
    """Whether another attempt of the same payment holds its money (a renewal, or what it renews)."""
    row = await (
        await tx.execute(
            "select 1 from payment_attempts where payment_id = %s and held and reference <> %s limit 1",
            (attempt.payment_id, attempt.reference),
        )
    ).fetchone()
    return row is not None


async def attempts_of(tx: Tx, payment_id: str) -> list[PaymentAttempt]:
    """Every attempt of a payment, oldest first."""
    return await read_all(
        tx, PaymentAttempt, "select * from payment_attempts where payment_id = %s order by ordinal", (payment_id,)
    )


async def attempt_of_provider_id(tx: Tx, provider: str, provider_id: str) -> PaymentAttempt | None:
    """The attempt a provider knows as `provider_id`."""
    return await read(
        tx,
        PaymentAttempt,
        "select * from payment_attempts where provider = %s and provider_id = %s",
        (provider, provider_id),
    )


async def change_attempt(tx: Tx, reference: str, **changes: Any) -> None:
    """Set columns of one attempt."""
    await update(tx, PaymentAttempt, {"reference": reference}, changes)


async def change_payment(tx: Tx, payment_id: str, **changes: Any) -> None:
    """Set columns of one payment, never its status (see `models.base.move`)."""
    assert "status" not in changes
    await update(tx, Payment, {"id": payment_id}, changes)


async def get_refund(tx: Tx, refund_id: str, *, lock: bool = False) -> Refund | None:
    """One refund."""
    return await by_id(tx, Refund, refund_id, lock=lock)


async def refunds_of(tx: Tx, payment_id: str) -> list[Refund]:
    """Every refund of a payment, oldest first."""
    return await read_all(
        tx, Refund, "select * from refunds where payment_id = %s order by created_at, id", (payment_id,)
    )


async def add_refunded(tx: Tx, refund: Refund, *, counts_for_payment: bool, back_through_provider: bool) -> None:
    """Book a succeeded refund on its attempt where it went back the way it came, and on its payment unless the money was
    never the payment's (late money)."""
    if back_through_provider:
        await _count_refunded(tx, "payment_attempts", "reference", refund.attempt_reference, refund.amount_minor)
    if counts_for_payment:
        await _count_refunded(tx, "payments", "id", refund.payment_id, refund.amount_minor)


async def take_refunded_back(tx: Tx, refund: Refund, *, counted_for_payment: bool) -> None:
    """A refund that `add_refunded` booked, back through its attempt's provider, has not reached its payer after all."""
    await _count_refunded(tx, "payment_attempts", "reference", refund.attempt_reference, -refund.amount_minor)
    if counted_for_payment:
        await _count_refunded(tx, "payments", "id", refund.payment_id, -refund.amount_minor)


async def _count_refunded(tx: Tx, table: LiteralString, key: LiteralString, row_id: str, minor: int) -> None:
    await tx.execute(
        f"update {table} set refunded_minor = refunded_minor + %s, updated_at = now() where {key} = %s",  # noqa: S608
        (minor, row_id),
    )
