"""Answers, refusals and the errors every endpoint of a provider words in its own way."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Status and JSON body of a response."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A definite no in the provider's format, raised before anything changed.

    `executed` says whether Stripe would count execution as begun (the answer is then kept for the Idempotency-Key);
    validation errors are not kept.
    """

    def __init__(self, answer: Answer, *, executed: bool = False) -> None:
        super().__init__(str(answer.status))
        self.answer = answer
        self.executed = executed


@dataclass(frozen=True)
class Idempotency:
    """A client's key and a fingerprint of the request it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Vendor:
    """How a provider words the errors that every endpoint shares."""

    unauthorized: Answer
    server_error: Answer
    too_many: Answer
    in_flight: Answer
    other_body: Answer
