"""The only translation from errors of the domain and of rails to what Temporal understands.

A business refusal is final and expected (non-retryable, BENIGN: no alarm). "Nothing was sent" is retried, after the
rail's own Retry-After if it gave one. Everything else is a bug or a fault and keeps its own class: the activity retries.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.gateways.protocols import RailNotSent
from domain.errors import DomainError


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Wrap an activity's body. Messages carry codes only: they end up in histories."""
    try:
        yield
    except DomainError as error:
        raise ApplicationError(
            error.code, type=error.code, non_retryable=True, category=ApplicationErrorCategory.BENIGN
        ) from error
    except RailNotSent as error:
        raise ApplicationError(
            error.code,
            type="rail_not_sent",
            next_retry_delay=error.retry_after,
            category=ApplicationErrorCategory.BENIGN,
        ) from error
