"""The one helper for every call to another company (RELIABILITY §7.2): claim → call → done | failed | unknown.

The claim is committed before the call, under a key derived from the business id. Whoever comes again under the same key
(a retry, another worker after a crash, an operator's reset) finds the claim and *resolves* it instead of calling anew:
by an identical keyed request where the rail dedupes (`replay`), by look-up where it does not. The outcome is recorded in
the same transaction as its consequences, by the caller through `Settled`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

import structlog
from prometheus_client import Counter
from temporalio import activity

from activities.gateways.protocols import RailNotSent, RailRejected, RailUnknown
from contracts.base import Message, Scope
from infra.database import Database, Tx
from models.effect import Claim, Outcome, claim, send_again, settle

A = TypeVar("A", bound=Message)
log = structlog.get_logger(__name__)

CALLS = Counter("chama_provider_calls_total", "Calls to providers by outcome.", ["provider", "operation", "outcome"])
NOT_SET_UP: Final = ("unauthorized", "not_configured")
"""Refusals of our credentials. A new payment ends by one; money already held or owed waits until they are mended."""
LEASE_SECONDS = 15
"""How long an exclusive effect belongs to whoever claimed it: the client's timeout and half as much again."""
HEARTBEAT_SECONDS = 1


@dataclass(frozen=True)
class Effect(Generic[A]):
    """One call. `exclusive`: the rail has no key of its own, so two callers must never overlap.

    `formerly`: the request as an earlier release wrote it down; a claim of then is found by it.
    """

    scope: Scope
    key: str
    provider: str
    operation: str
    request: Message
    answer: type[A]
    exclusive: bool = False
    formerly: Message | None = None

    @property
    def request_hash(self) -> bytes:
        """What says that a repeat asks for the same: SHA-256 of the request."""
        return hashlib.sha256(self.request.model_dump_json().encode()).digest()


@dataclass(frozen=True)
class Settled(Generic[A]):
    """A definite outcome, not yet recorded: exactly one of `answer` and `refusal` is set."""

    effect: Effect[A]
    answer: A | None = None
    refusal: str | None = None

    @property
    def outcome(self) -> Outcome:
        """What is recorded of it."""
        if self.answer is not None:
            return Outcome(self.effect.key, "done", result=self.answer.model_dump(mode="json"))
        return Outcome(self.effect.key, "failed", error_code=self.refusal)

    async def record(self, tx: Tx) -> None:
        """Record it in the transaction that carries its consequences."""
        told = self.outcome
        await settle(tx, told.key, status=told.status, result=told.result, error_code=told.error_code)


class Effects:
    """Carries effects out. `send` makes the call; `resolve` finds out what became of an earlier one.

    `resolve` is given the earlier claim, and returns None when it is proven that its call never arrived, or that the rail
    will recognise the repeat: that permits `send`.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(
        self,
        effect: Effect[A],
        send: Callable[[], Awaitable[A]],
        resolve: Callable[[Claim], Awaitable[A | None]],
        found: Claim | None = None,
    ) -> Settled[A]:
        """The definite outcome. Raises RailUnknown when there is none yet, RailNotSent when nothing happened.

        `found`: what `claim` found in a transaction that has committed; without it the claim is made here.
        """
        if found is None:
            async with self._db.transaction(effect.scope) as tx:
                found = await self.claim(tx, effect)
        if found.status == "done" and found.result is not None:
            return Settled(effect, answer=effect.answer.model_validate(found.result))
        if found.status == "failed":
            return Settled(effect, refusal=found.error_code or "refused")
        if effect.exclusive and not found.fresh and found.status == "claimed" and found.age_seconds < LEASE_SECONDS:
            raise RailNotSent("effect_in_flight", retry_after=timedelta(seconds=LEASE_SECONDS - found.age_seconds))
        return await self._call(effect, found, send, resolve)

    async def claim(self, tx: Tx, effect: Effect[A]) -> Claim:
        """Write the intention down, or find it written. `tx` commits before anything is sent."""
        found = await claim(
            tx,
            tenant=effect.scope.tenant_id,
            mode=effect.scope.mode,
            key=effect.key,
            provider=effect.provider,
            operation=effect.operation,
            request_hash=effect.request_hash,
        )
        if not found.same_request and effect.formerly is not None:
            return await self.claim(tx, replace(effect, request=effect.formerly, formerly=None))
        check_same_request(effect, found)
        return found

    async def _call(
        self,
        effect: Effect[A],
        found: Claim,
        send: Callable[[], Awaitable[A]],
        resolve: Callable[[Claim], Awaitable[A | None]],
    ) -> Settled[A]:
        try:
            async with heartbeating():
                answer = None if found.fresh else await resolve(found)
                if answer is None:
                    await self._sending(effect, found)
                    answer = await send()
        except RailRejected as error:
            count_call(effect, "rejected", error.code)
            return refused(effect, error)
        except RailNotSent as error:
            count_call(effect, "not_sent", error.code)
            if found.fresh:
                await self._mark(effect, "unsent", error.code)
            raise
        except RailUnknown as error:
            count_call(effect, "unknown", error.code)
            await self._mark(effect, "unknown", error.code)
            raise
        count_call(effect, "answered", "")
        return Settled(effect, answer=answer)

    async def _sending(self, effect: Effect[A], found: Claim) -> None:
        """Before a call is made again: grace periods count from now."""
        if not found.fresh:
            async with self._db.transaction(effect.scope) as tx:
                await send_again(tx, effect.key)

    async def _mark(self, effect: Effect[A], status: str, code: str) -> None:
        async with self._db.transaction(effect.scope) as tx:
            await settle(tx, effect.key, status=status, error_code=code)


def check_same_request(effect: Effect[A], found: Claim) -> None:
    """Raises AssertionError when the key was claimed for something else: a defect of ours, and no call may be made."""
    if not found.same_request:
        raise AssertionError(f"effect {effect.key} was claimed for another request")


def refused(effect: Effect[A], error: RailRejected) -> Settled[A]:
    """A refusal as an outcome. Raises RailNotSent where it is one of our credentials, and no new payment's end."""
    if error.code in NOT_SET_UP and effect.operation != "start":
        raise RailNotSent(error.code, retry_after=timedelta(minutes=1)) from error
    return Settled(effect, refusal=error.code)


def count_call(effect: Effect[A], outcome: str, code: str) -> None:
    """Count one call to a provider, and log it."""
    CALLS.labels(effect.provider, effect.operation, outcome).inc()
    log.info("provider.call", provider=effect.provider, operation=effect.operation, outcome=outcome, code=code)


@asynccontextmanager
async def heartbeating(progress: Callable[[], Sequence[Any]] = tuple) -> AsyncIterator[None]:
    """Tell Temporal every second that this worker lives, and how far it is; nothing outside an activity.

    The first second is told by the activity's start: most calls are over by then, and each report is a request.
    """
    if not activity.in_activity():
        yield
        return

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            activity.heartbeat(*progress())

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
