"""Many effects at once, under the rules of one: claimed together, called a few at a time, recorded together by the caller.

Only the plain case is carried out here: nothing was ever sent under the key, or its outcome is recorded already. Whatever an
earlier call may have done is resolved by whoever carries out that one line (`Effects.run`), and so is what this call left
unknown. So there is one place that resolves, and this one never calls twice.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic

from activities.effects import A, Effect, Settled, check_same_request, count_call, heartbeating, refused
from activities.gateways.protocols import RailNotSent, RailRejected, RailUnknown
from infra.database import Database, Tx
from infra.turns import in_turns
from models.effect import Claim, Outcome, Wanted, claim_many, settle_many

CALLS_AT_ONCE: Final = 8
"""Calls of one chunk in flight together."""
BEGIN_WITHIN_SECONDS: Final = 5
"""A call that could not begin so soon after its claim is not made: the lease of an exclusive effect (`LEASE_SECONDS`) allows for
this and one call, and grace periods count from the claim."""


class NotPlain(Exception):
    """An earlier call under this key has no recorded outcome: it is resolved, not repeated, and not here."""


@dataclass(frozen=True)
class BulkCall(Generic[A]):
    """One effect, what its claim found, and the call itself, which is made at most once."""

    effect: Effect[A]
    found: Claim
    send: Callable[[], Awaitable[A]]


Outcomes = Settled[A] | RailUnknown | RailNotSent | NotPlain
"""A definite outcome, not yet recorded; or why there is none. `RailUnknown` and `RailNotSent` are written on the effect."""


class BulkEffects:
    """Needs the database; holds no state of its own."""

    def __init__(
        self, db: Database, *, at_once: int = CALLS_AT_ONCE, begin_within_seconds: int = BEGIN_WITHIN_SECONDS
    ) -> None:
        self._db, self._at_once, self._begin_within_seconds = db, at_once, begin_within_seconds

    async def claim(self, tx: Tx, effects: Sequence[Effect[A]]) -> list[Claim]:
        """Write the intentions down, or find them written; in the order of `effects`, all of one scope and with different
        keys. `tx` commits before anything is sent."""
        if not effects:
            return []
        scope = effects[0].scope
        wanted = [Wanted(each.key, each.provider, each.operation, each.request_hash) for each in effects]
        found = await claim_many(tx, tenant=scope.tenant_id, mode=scope.mode, wanted=wanted)
        for effect, claimed in zip(effects, found, strict=True):
            check_same_request(effect, claimed)
        return found

    async def call(self, calls: Sequence[BulkCall[A]]) -> list[Outcomes[A]]:
        """Make the calls, a few at a time; what became of each, in their order. Raises nothing of a rail's.

        To be called as soon as the claims are committed.
        """
        latest = time.monotonic() + self._begin_within_seconds
        async with heartbeating():
            outcomes = await in_turns([partial(_carry_out, call, latest) for call in calls], self._at_once)
        await self._mark(calls, outcomes)
        return outcomes

    async def record(self, tx: Tx, settled: Sequence[Settled[A]]) -> None:
        """Record definite outcomes in the transaction that carries their consequences."""
        await settle_many(tx, [each.outcome for each in settled])

    async def _mark(self, calls: Sequence[BulkCall[A]], outcomes: Sequence[Outcomes[A]]) -> None:
        """As a single call does: what was not sent may be sent by the next, what is unknown is to be resolved."""
        open_ones = [
            Outcome(
                call.effect.key, "unsent" if isinstance(outcome, RailNotSent) else "unknown", error_code=outcome.code
            )
            for call, outcome in zip(calls, outcomes, strict=True)
            if isinstance(outcome, RailNotSent | RailUnknown)
        ]
        if open_ones:
            async with self._db.transaction(calls[0].effect.scope) as tx:
                await settle_many(tx, open_ones)


async def _carry_out(call: BulkCall[A], latest: float) -> Outcomes[A]:
    effect, found = call.effect, call.found
    if found.status == "done" and found.result is not None:
        return Settled(effect, answer=effect.answer.model_validate(found.result))
    if found.status == "failed":
        return Settled(effect, refusal=found.error_code or "refused")
    if not found.fresh:
        return NotPlain(effect.key)
    if time.monotonic() >= latest:
        return RailNotSent("not_begun_in_time")
    try:
        answer = await call.send()
    except RailRejected as error:
        count_call(effect, "rejected", error.code)
        try:
            return refused(effect, error)
        except RailNotSent as not_set_up:
            return not_set_up
    except RailNotSent as error:
        count_call(effect, "not_sent", error.code)
        return error
    except RailUnknown as error:
        count_call(effect, "unknown", error.code)
        return error
    count_call(effect, "answered", "")
    return Settled(effect, answer=answer)
