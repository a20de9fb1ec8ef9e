"""The base of every message, and the scope (tenant and mode) that each of them carries."""

from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Frozen; unknown fields are ignored, so that old code can read what newer code wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Mode(StrEnum):
    """Which world a row belongs to. The two never mix: not in tables, ids, workflows, ledgers or providers."""

    TEST = "test"
    LIVE = "live"


class Scope(Message):
    """Tenant and mode: the context of every query, id and workflow."""

    tenant_id: UUID
    mode: Mode

    def __str__(self) -> str:
        """`<tenant>/<mode>`, as it stands in workflow ids."""
        return f"{self.tenant_id}/{self.mode}"
