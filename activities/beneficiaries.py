"""The check of a beneficiary: whose account it is, by the bank's own word, and the provider's handle for it.

Both calls move no money and may be repeated after any outcome, so they need no claim.
"""

from datetime import datetime

from temporalio import activity

from activities.effects import NOT_SET_UP, heartbeating
from activities.errors import translated
from activities.gateways.protocols import (
    Beneficiary,
    BeneficiaryKind,
    PayoutRail,
    RailNotSent,
    RailRejected,
    RailUnknown,
)
from activities.rails import Rails
from contracts.base import Scope
from contracts.payout import BeneficiaryInput, BeneficiaryProgress
from domain.beneficiary import BENEFICIARY, BeneficiaryStatus, masked, names_match
from domain.errors import NotFound
from infra.crypto import Vault
from infra.database import Database
from models import timeline
from models.base import move
from models.beneficiary import BeneficiaryRow, get_beneficiary, number_purpose
from models.case import open_case
from models.notification import notify

_B = BeneficiaryStatus


class BeneficiaryActivities:
    """Opens the sealed number for the duration of the calls, and nowhere else."""

    def __init__(self, db: Database, rails: Rails, vault: Vault) -> None:
        self._db, self._rails, self._vault = db, rails, vault

    @activity.defn
    async def verify_beneficiary(self, task: BeneficiaryInput) -> BeneficiaryProgress:
        """Ask the bank for the holder's name, compare it, and have the provider make its handle."""
        async with translated(), heartbeating():
            async with self._db.transaction(task.scope) as tx:
                row = await get_beneficiary(tx, task.beneficiary_id)
                if row is None:
                    raise NotFound("beneficiary")
                if row.status is not _B.PENDING:
                    return BeneficiaryProgress(status=row.status)
                rail = await self._rails.payout_rail(tx, row.provider)
            try:
                found = await self._check(rail, row)
            except RailRejected as refused:
                if refused.code in NOT_SET_UP:
                    raise RailNotSent(refused.code) from refused
                return await self._record(task.scope, row, task.as_of, _B.REJECTED, error_code=refused.code)
            except RailUnknown as error:
                raise RailNotSent(error.code) from error
            status, holder, recipient, code = found
            return await self._record(
                task.scope, row, task.as_of, status, error_code=code, holder_name=holder, recipient=recipient
            )

    async def _check(
        self, rail: PayoutRail, row: BeneficiaryRow
    ) -> tuple[BeneficiaryStatus, str | None, str, str | None]:
        """Status, holder's name, the provider's handle, and why it wants a person's eyes."""
        number = self._vault.unseal(row.sealed_number, purpose=number_purpose(row)).get_secret_value()
        status, holder, code = _B.VERIFIED, None, None
        if row.currency not in rail.capabilities.resolves_accounts:
            status, code = _B.NEEDS_REVIEW, "holder_unknown"
        else:
            holder = await rail.resolve_account(bank_code=row.bank_code, account_number=number, currency=row.currency)
            if not names_match(row.name, holder):
                status, code = _B.NEEDS_REVIEW, "name_mismatch"
        recipient = await rail.create_recipient(
            Beneficiary(
                name=holder or row.name,
                account_number=number,
                bank_code=row.bank_code,
                currency=row.currency,
                kind=BeneficiaryKind(row.kind),
            )
        )
        return status, holder, recipient, code

    async def _record(
        self,
        scope: Scope,
        row: BeneficiaryRow,
        as_of: datetime,
        status: BeneficiaryStatus,
        *,
        error_code: str | None,
        holder_name: str | None = None,
        recipient: str | None = None,
    ) -> BeneficiaryProgress:
        async with self._db.transaction(scope) as tx:
            changes = {"error_code": error_code, "holder_name": holder_name, "recipient": recipient}
            if not await move(tx, BeneficiaryRow, BENEFICIARY, row.id, status, **changes):
                now = await get_beneficiary(tx, row.id)  # disabled meanwhile, or recorded by whoever came before
                assert now is not None
                return BeneficiaryProgress(status=now.status)
            told = {"code": error_code} if error_code else {}
            await timeline.record(tx, scope, [row.id], f"beneficiary_{status}", as_of, told)
            if status is _B.NEEDS_REVIEW:
                detail: dict[str, object] = {"code": error_code, "owner_id": row.owner_id}
                await open_case(tx, scope, kind="beneficiary_mismatch", subject_id=row.id, detail=detail, as_of=as_of)
            params = {
                "amount_minor": 0,
                "currency": row.currency,
                "number": masked(row.number_end),
                "code": error_code or "",
            }
            await notify(
                tx, scope, subject_id=row.id, user_id=row.owner_id, template=f"beneficiary_{status}", params=params,
                as_of=as_of,
            )  # fmt: skip
        return BeneficiaryProgress(status=status)
