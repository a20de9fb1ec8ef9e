"""One message on its way to Temporal: written in the command's transaction, delivered afterwards, at least once."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from contracts.base import Message, Scope


class OutboxKind(StrEnum):
    """What the message asks of Temporal."""

    START = "start"
    SIGNAL = "signal"
    SIGNAL_WITH_START = "signal_with_start"


class OutboxMessage(Message):
    """A start, a signal, or both at once (atomic on the server).

    `id` is the outbox row's number and becomes Temporal's request id, so that a repeated delivery of a signal is
    recognised. `payload` is the workflow's input, `signal_payload` the signal's argument: plain JSON objects that hold
    ids and enums, no personal data. `search_attributes` are name → value as in `contracts.visibility`, datetimes in
    ISO 8601. Messages of one `order_key` (the workflow id, normally) are delivered in the order they were written.
    """

    id: int
    scope: Scope
    order_key: str
    kind: OutboxKind
    workflow_id: str
    workflow_type: str | None = None
    task_queue: str | None = None
    signal_name: str | None = None
    payload: dict[str, Any] | None = None
    signal_payload: dict[str, Any] | None = None
    search_attributes: dict[str, str] = Field(default_factory=dict)
    static_summary: str = ""
    request_id: str
    attempts: int = 0
