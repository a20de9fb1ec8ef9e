"""What an operator sees of a running workflow: status, blocked reason and next action as search attributes, and one line."""

from datetime import datetime

from temporalio import workflow
from temporalio.common import TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from contracts.base import Scope
    from contracts.visibility import BLOCKED, ENTITY, MODE, NEXT_ACTION_AT, STATUS, TENANT, typed


def show(status: str, *, next_action_at: datetime | None = None, blocked: str | None = None, line: str = "") -> None:
    """Publish the state. Ids and enums only: all of this is stored in clear."""
    workflow.upsert_search_attributes(
        [
            STATUS.value_set(status),
            BLOCKED.value_set(blocked) if blocked else BLOCKED.value_unset(),
            NEXT_ACTION_AT.value_set(next_action_at) if next_action_at else NEXT_ACTION_AT.value_unset(),
        ]
    )
    waits = f", acts next at {next_action_at:%Y-%m-%d %H:%M} UTC" if next_action_at else ""
    stuck = f" — blocked: {blocked}" if blocked else ""
    workflow.set_current_details(f"{line or status}{waits}{stuck}")


def found_by(scope: Scope, entity_id: str) -> TypedSearchAttributes:
    """The attributes a child workflow of ours is found by in the UI: tenant, mode and business id."""
    return typed({TENANT.name: str(scope.tenant_id), MODE.name: scope.mode, ENTITY.name: entity_id})
