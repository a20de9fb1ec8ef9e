"""The auditor beside a system at work, and beside a provider whose list is not as neat as ours."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from activities.gateways.protocols import PaymentFact, PaymentPage, RailAnswer, RefundAnswer, RefundFact, RefundPage
from activities.reconciliation import Reconciliation, reconcile
from contracts.base import Scope
from infra.database import Database
from models.provider import ProviderAccount
from tests.fixtures.pledges import NGN
from tests.fixtures.postgres import role_url
from tests.fixtures.settling import Settling
from tests.models.test_stuck_rows import Planter


@dataclass
class Lists:
    """What a provider lists. `meanwhile`: what happens between the pages."""

    payments: list[RailAnswer] = field(default_factory=list)
    refunds: list[RefundAnswer] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[object]] | None = None

    def build(self, account: ProviderAccount) -> "Lists":
        return self

    async def list_payments(self, *, since: datetime, cursor: str | None) -> PaymentPage:
        if self.meanwhile is not None:
            await self.meanwhile()
        return PaymentPage(payments=self.payments)

    async def list_refunds(self, *, since: datetime, cursor: str | None) -> RefundPage:
        return RefundPage(refunds=self.refunds)


@pytest.fixture
async def one(database: Database, scope: Scope, owner_url: str) -> Settling:
    """One held pledge, and the account it was paid through."""
    Planter(owner_url, scope).put(
        "provider_accounts",
        id=f"pac_{uuid4().hex}", provider="stripe", base_url="http://x", sealed_secret_key="x", currencies=[NGN],
    )  # fmt: skip
    return await Settling.make(database, scope, owner_url, ["stripe"], outcome="capture")


def listed(one: Settling, captured: int, **more: Any) -> RailAnswer:
    """The pledge's payment in the provider's list."""
    values = {"provider_id": one.provider_id(0), "reference": one.provider_id(0).removeprefix("pi-")}
    fact = PaymentFact.CAPTURED if captured else PaymentFact.AUTHORIZED
    return RailAnswer(fact=fact, amount_minor=10_000, captured_minor=captured, currency=NGN, **(values | more))


def given_back(provider_id: str, amount: int) -> RefundAnswer:
    """A refund of a payment in the provider's list."""
    return RefundAnswer(
        fact=RefundFact.SUCCEEDED, provider_id="re_1", payment_provider_id=provider_id, amount_minor=amount
    )


async def audited(one: Settling, lists: Lists) -> Reconciliation:
    db = Database(role_url(one.owner_url, "chama_audit"), name="audit test", max_size=2)
    await db.open()
    try:
        rails: Any = lists
        return await reconcile(db, rails, one.scope)
    finally:
        await db.close()


async def test_what_is_captured_while_the_list_is_read_is_no_finding(one: Settling) -> None:
    lists = Lists([listed(one, 0)])
    lists.meanwhile = one.run
    told = await audited(one, lists)
    assert (told.findings, len(told.in_flight)) == ([], 1)
    told = await audited(one, Lists([listed(one, 10_000)]))
    assert (told.findings, told.in_flight) == ([], [])
    told = await audited(one, Lists([listed(one, 0)]))
    assert len(told.findings) == 1, "what was captured before the list was begun must stand there"


async def test_a_second_payment_under_one_reference_is_a_finding(one: Settling) -> None:
    await one.run()
    first, second = listed(one, 10_000), listed(one, 10_000, provider_id="pi_second")
    for order in ([first, second], [second, first]):
        told = await audited(one, Lists(order))
        assert len(told.findings) == 1 and "provider 20000 captured" in told.findings[0], told.findings
    told = await audited(one, Lists([first, first]))
    assert told.findings == [], "a page may repeat what another showed"


async def test_a_second_payment_that_went_back_is_over(one: Settling) -> None:
    await one.run()
    lists = Lists([listed(one, 10_000), listed(one, 10_000, provider_id="pi_second")])
    for amount, findings in ((4_000, 1), (10_000, 0)):
        lists.refunds = [given_back("pi_second", amount)]
        assert len((await audited(one, lists)).findings) == findings
    lists.refunds = [given_back(one.provider_id(0), 10_000)]
    assert len((await audited(one, lists)).findings) == 1, "ours went back, and the second did not"


async def test_what_could_not_be_booked_is_over_when_it_went_back(one: Settling) -> None:
    """Taken in another currency: nothing of it is in our books, and an operator gives it back at the provider."""
    reference = one.provider_id(0).removeprefix("pi-")
    one.sql("update payment_attempts set status = 'integrity_failure' where reference = %s", reference)
    lists = Lists([listed(one, 10_000)])
    for amount, findings in ((4_000, 1), (10_000, 0)):
        lists.refunds = [given_back(one.provider_id(0), amount)]
        assert len((await audited(one, lists)).findings) == findings
