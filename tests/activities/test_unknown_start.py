"""How an earlier start, whose answer was lost, is resolved: by the rail's own way, and only as long as that is safe."""

from datetime import timedelta
from typing import Any

import pytest

from activities.attempts import resolve_start
from activities.gateways.paystack import PaystackRail
from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentRail,
    RailAnswer,
    RailCapabilities,
    RailUnknown,
)
from activities.gateways.stripe import StripeRail
from models.effect import Claim

DAY = int(timedelta(days=1).total_seconds())


class _Listed:
    """A rail's look-up alone: the age of a call is what cannot be provoked."""

    name = "listed"

    def __init__(self, capabilities: RailCapabilities, fact: PaymentFact) -> None:
        self.capabilities, self._fact, self.asked = capabilities, fact, 0

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        assert reference == "ch-1" and provider_id is None
        self.asked += 1
        return RailAnswer(fact=self._fact)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is no look-up")


def _rail(kind: type[StripeRail] | type[PaystackRail], fact: PaymentFact = PaymentFact.CAPTURED) -> Any:
    rail: PaymentRail | _Listed = _Listed(kind.capabilities, fact)
    return rail


def _called(*, first: int, last: int | None = None) -> Claim:
    """An effect without an answer, first and last sent so many seconds ago."""
    return Claim(
        fresh=False, status="unknown", result=None, error_code=None, same_request=True,
        known_seconds=first, age_seconds=first if last is None else last,
    )  # fmt: skip


def _order(instrument: str | None = None) -> PaymentOrder:
    """What was asked for: a hosted page, or a charge of a saved card."""
    return PaymentOrder(
        reference="ch-1", key="k-1", amount_minor=100, currency="NGN", capture_now=True,
        payer_email="ada@example.com", return_url=None, instrument=instrument,
    )  # fmt: skip


async def test_a_fresh_key_is_its_own_look_up() -> None:
    rail = _rail(StripeRail)
    assert await resolve_start(rail, _order(), _called(first=60)) is None
    assert rail.asked == 0


async def test_an_old_key_is_looked_up_not_repeated() -> None:
    """Stripe forgets keys after a day: the same request again would be a second payment."""
    found = await resolve_start(_rail(StripeRail), _order(), _called(first=DAY))
    assert found is not None and found.fact is PaymentFact.CAPTURED


async def test_an_old_key_without_a_payment_may_be_sent_again() -> None:
    assert await resolve_start(_rail(StripeRail, PaymentFact.ABSENT), _order(), _called(first=DAY)) is None


async def test_a_rail_without_keys_is_always_looked_up() -> None:
    found = await resolve_start(_rail(PaystackRail), _order(), _called(first=1))
    assert found is not None and found.fact is PaymentFact.CAPTURED


async def test_absence_within_the_grace_period_proves_nothing() -> None:
    with pytest.raises(RailUnknown):
        await resolve_start(_rail(PaystackRail, PaymentFact.ABSENT), _order("AUTH_1"), _called(first=1))
    assert await resolve_start(_rail(PaystackRail, PaymentFact.ABSENT), _order("AUTH_1"), _called(first=DAY)) is None


async def test_the_grace_period_begins_anew_with_every_call() -> None:
    with pytest.raises(RailUnknown):
        await resolve_start(_rail(PaystackRail, PaymentFact.ABSENT), _order("AUTH_1"), _called(first=DAY, last=5))


async def test_a_page_under_a_unique_reference_may_be_asked_for_again_at_once() -> None:
    assert await resolve_start(_rail(PaystackRail, PaymentFact.ABSENT), _order(), _called(first=1)) is None
    with pytest.raises(RailUnknown):
        await resolve_start(_rail(StripeRail, PaymentFact.ABSENT), _order(), _called(first=DAY, last=5))
