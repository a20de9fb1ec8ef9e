"""Beneficiaries: whom a person wants to be paid to. The number is sealed; what people see are its last digits."""

from datetime import datetime
from typing import ClassVar

from sqlmodel import Field

from domain.beneficiary import BeneficiaryStatus
from infra.database import Tx
from models.base import Scoped, by_id


class BeneficiaryRow(Scoped, table=True):
    """One account outside. `holder_name` is whose it is by the bank's word, `recipient` the provider's handle for it."""

    __tablename__: ClassVar[str] = "beneficiaries"

    id: str = Field(primary_key=True)
    owner_id: str
    provider: str
    kind: str
    currency: str
    bank_code: str
    name: str = Field(repr=False)
    sealed_number: str = Field(repr=False)
    number_end: str
    holder_name: str | None = Field(default=None, repr=False)
    recipient: str | None = None
    status: BeneficiaryStatus
    error_code: str | None = None
    created_at: datetime


def number_purpose(row: BeneficiaryRow) -> str:
    """What the sealed number is bound to: it opens for this beneficiary only, so rows cannot be swapped."""
    return f"{row.tenant_id}/{row.mode}/beneficiary/{row.id}/number"


async def get_beneficiary(tx: Tx, beneficiary_id: str, *, lock: bool = False) -> BeneficiaryRow | None:
    """One beneficiary."""
    return await by_id(tx, BeneficiaryRow, beneficiary_id, lock=lock)
