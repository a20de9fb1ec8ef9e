"""Payouts: money out of any ledger account to a verified beneficiary, reserved in the ledger before anything else happens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from sqlmodel import Field

from contracts.base import Scope
from domain.accounts import AccountSpec
from domain.errors import Conflict
from domain.money import Money
from domain.payout import APPROVAL_WINDOW, ENDED, PAYOUT, PayoutStatus, first_status
from domain.payout_postings import payout_released, payout_requested
from infra.database import Tx
from models import ledger, timeline
from models.base import Scoped, by_id, insert, move, newest_first, update
from models.beneficiary import BeneficiaryRow
from models.case import resolve_about

_CASES: Final = ("unknown_outcome", "provider_balance", "payout_mismatch", "payout_pending")


class Payout(Scoped, table=True):
    """Money out. Amounts in minor units of `currency`.

    `reason` is a word for what it is (`withdrawal`), `subject_id` the business thing it is for; `source_account` is the
    ledger account it leaves; `recipient` the provider's handle for the beneficiary, as it was when the payout was made.
    `fee_minor` is what the provider took besides. `decided_by` approved or rejected it.
    """

    __tablename__: ClassVar[str] = "payouts"

    id: str = Field(primary_key=True)
    reference: str
    owner_id: str
    beneficiary_id: str
    reason: str
    subject_id: str
    source_account: str
    provider: str
    provider_id: str | None = None
    recipient: str
    amount_minor: int
    fee_minor: int = 0
    currency: str
    status: PayoutStatus
    requested_by: str
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None
    checks: int = 0
    error_code: str | None = None
    blocked_reason: str | None = None
    next_action_at: datetime | None = None
    created_at: datetime

    @property
    def amount(self) -> Money:
        """What the beneficiary gets."""
        return Money(self.amount_minor, self.currency)

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done by itself."""
        return self.status in ENDED

    @property
    def looked_up(self) -> int:
        """How often it was looked up since it was sent: `checks` also counts the times it waited for that."""
        return self.checks if self.status in (PayoutStatus.PENDING, PayoutStatus.UNKNOWN) else 0


@dataclass(frozen=True)
class PayoutRequest:
    """What a caller wants sent: `amount` out of `source` to a beneficiary of `owner_id`.

    `id` is derived from the caller's own business key, so that asking again finds the first. `approved`: a second person
    has approved it already, as part of something larger (a distribution run).
    """

    id: str
    owner_id: str
    beneficiary: BeneficiaryRow
    source: AccountSpec
    amount: Money
    reason: str
    subject_id: str
    requested_by: str
    approved: bool = False


async def reserve_payout(tx: Tx, scope: Scope, request: PayoutRequest, as_of: datetime) -> Payout:
    """Write a payout and hold its money, before anybody approves or is asked; a known id is answered with its row.

    An id stands for one wish for ever: that its row is about the same money is asserted.

    The caller has checked the beneficiary, and starts `PayoutWorkflow` with the same transaction. Raises InsufficientFunds,
    and Conflict `beneficiary_not_verified` where the provider has no handle for the beneficiary.
    """
    known = await get_payout(tx, request.id)
    if known is not None:
        assert _same(known, request), f"{request.id} was reserved for other money"
        return known
    beneficiary, amount = request.beneficiary, request.amount
    if beneficiary.recipient is None:
        raise Conflict("beneficiary_not_verified", "The beneficiary is not verified, or was disabled.")
    hold = payout_requested(
        request.id, source=request.source, provider=beneficiary.provider, amount=amount, as_of=as_of
    )
    await ledger.post(tx, hold)  # locks the account: of two requests at once the second one counts the first
    status = PayoutStatus.APPROVED
    if not request.approved:
        lately = await _left_lately(tx, request.source.code, as_of)
        limit = await _approval_minor(tx)
        status = first_status(amount_minor=amount.amount_minor, left_lately_minor=lately, approval_minor=limit)
    payout = Payout(
        tenant_id=scope.tenant_id,
        mode=scope.mode,
        id=request.id,
        reference=request.id.replace("_", "-"),
        owner_id=request.owner_id,
        beneficiary_id=beneficiary.id,
        reason=request.reason,
        subject_id=request.subject_id,
        source_account=request.source.code,
        provider=beneficiary.provider,
        recipient=beneficiary.recipient,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        status=status,
        requested_by=request.requested_by,
        created_at=as_of,
    )
    await insert(tx, payout)
    detail: dict[str, Any] = {"amount_minor": amount.amount_minor, "currency": amount.currency, "status": status}
    await timeline.record(tx, scope, [payout.id], "payout_requested", as_of, detail)
    return payout


def _same(known: Payout, request: PayoutRequest) -> bool:
    """Whether a payout is what the request asks for."""
    asked = (request.owner_id, request.source.code, request.beneficiary.id, request.reason, request.subject_id)
    found = (known.owner_id, known.source_account, known.beneficiary_id, known.reason, known.subject_id)
    return asked == found and known.amount == request.amount


async def release_payout(
    tx: Tx, scope: Scope, payout: Payout, status: PayoutStatus, as_of: datetime, **changes: Any
) -> bool:
    """End a payout of which nothing was sent, and give its money back; False when its present status forbids it."""
    if not await move(tx, Payout, PAYOUT, payout.id, status, next_action_at=None, blocked_reason=None, **changes):
        return False
    await ledger.post(tx, payout_released(payout.id, as_of=as_of))
    await close_cases(tx, scope, [payout.id], f"not sent: {status}", as_of)
    code = changes.get("error_code")
    await timeline.record(tx, scope, [payout.id], f"payout_{status}", as_of, {"code": code} if code else {})
    return True


async def close_cases(tx: Tx, scope: Scope, payout_ids: Sequence[str], resolution: str, as_of: datetime) -> None:
    """Whatever was opened about the payouts is settled."""
    await resolve_about(tx, scope, payout_ids, _CASES, resolution, as_of)


async def get_payout(tx: Tx, payout_id: str, *, lock: bool = False) -> Payout | None:
    """One payout. Lock order: payout, then ledger accounts."""
    return await by_id(tx, Payout, payout_id, lock=lock)


async def payout_of_event(tx: Tx, provider: str, reference: str | None, provider_id: str | None) -> Payout | None:
    """The payout a provider's event names, by our reference or else by the provider's id."""
    by, value = ("reference", reference) if reference is not None else ("provider_id", provider_id)
    if value is None:
        return None
    found = await newest_first(tx, Payout, {"provider": provider, by: value}, before=None, limit=1)
    return found[0] if found else None


async def change_payout(tx: Tx, payout_id: str, **changes: Any) -> None:
    """Set columns of one payout, never its status (see `models.base.move`)."""
    assert "status" not in changes
    await update(tx, Payout, {"id": payout_id}, changes)


async def _left_lately(tx: Tx, source_account: str, as_of: datetime) -> int:
    """What left an account within the approval's window, or is about to, in minor units."""
    row = await (
        await tx.execute(
            """select coalesce(sum(amount_minor), 0)::bigint as minor from payouts
                where source_account = %s and created_at > %s and status not in ('failed', 'canceled', 'rejected')""",
            (source_account, as_of - APPROVAL_WINDOW),
        )
    ).fetchone()
    assert row is not None
    return int(row["minor"])


async def _approval_minor(tx: Tx) -> int:
    """From which amount on the tenant wants a second person, in minor units of whatever currency."""
    row = await (await tx.execute("select payout_approval_minor as minor from tenant_settings")).fetchone()
    return int(row["minor"]) if row else 0
