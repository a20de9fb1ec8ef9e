"""A payout against a provider that says what it likes: what is booked, what is a case, and what is never sent twice."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from activities.bulk_effects import BulkEffects
from activities.distribution_payouts import DistributionPayoutActivities, _Sorted
from activities.effects import Effects
from activities.gateways.protocols import (
    INSUFFICIENT_BALANCE,
    PayoutAnswer,
    PayoutFact,
    PayoutOrder,
    RailNotSent,
    RailRejected,
    RailUnknown,
)
from activities.gateways.registry import PAYOUT_CAPABILITIES
from activities.payout_steps import PayoutSteps
from contracts.base import Scope
from contracts.distribution import DistributionTask
from domain import accounts
from domain.beneficiary import BeneficiaryStatus
from domain.errors import NotFound
from domain.money import Money
from domain.payout import PENDING_CHECKS, PayoutStatus
from infra.database import Database, Tx
from models import distribution_payouts as rows
from models import ledger
from models.base import insert
from models.beneficiary import BeneficiaryRow, get_beneficiary
from models.case import open_cases
from models.distribution import Distribution
from models.payout import Payout, PayoutRequest, get_payout, reserve_payout
from tests.fixtures.api import set_scope

AMOUNT, WALLET, FEE = 20_000, 100_000, 50
NOW = datetime(2026, 6, 1, tzinfo=UTC)
F = PayoutFact
Said = PayoutFact | PayoutAnswer | Exception


@dataclass
class Provider:
    """Says what it is told to say: to a start, and to look-ups (the last one for ever)."""

    start: Said = F.PENDING
    looks: list[Said] = field(default_factory=lambda: [F.PENDING])
    started: list[PayoutOrder] = field(default_factory=list)
    capabilities = PAYOUT_CAPABILITIES["paystack"]

    async def payout_rail(self, tx: Tx, provider: str) -> Any:
        assert provider == "paystack"
        return self

    async def start_transfer(self, order: PayoutOrder) -> PayoutAnswer:
        self.started.append(order)
        return self._say(self.start)

    async def look_up_transfer(self, *, reference: str, provider_id: str | None = None) -> PayoutAnswer:
        return self._say(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])

    def _say(self, said: Said) -> PayoutAnswer:
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, PayoutAnswer) else answer(said)


def answer(fact: PayoutFact, **changes: Any) -> PayoutAnswer:
    given = {"provider_id": "TRF_1", "amount_minor": AMOUNT, "currency": "NGN", "fee_minor": FEE} | changes
    return PayoutAnswer(fact=fact, **given) if fact is not F.ABSENT else PayoutAnswer(fact=fact)


@dataclass
class Till:
    """One tenant's payout, and the provider it meets."""

    database: Database
    scope: Scope
    payout_id: str
    user_id: str
    provider: Provider = field(default_factory=Provider)

    async def advance(self, times: int = 1) -> str:
        """So many steps; the state after them."""
        for _ in range(times):
            steps = PayoutSteps(self.database, self.provider, Effects(self.database))  # type: ignore[arg-type]
            progress = await steps.advance(self.scope, self.payout_id, NOW)
        return str(progress.status)

    async def row(self) -> Payout:
        async with self.database.transaction(self.scope) as tx:
            found = await get_payout(tx, self.payout_id)
        assert found is not None
        return found

    async def cases(self) -> list[str]:
        async with self.database.transaction(self.scope) as tx:
            return [each.kind for each in await open_cases(tx, 10)]

    async def balances(self) -> tuple[int, int, int]:
        """What is available in the wallet, what the provider has paid out for us, and what it cost."""
        async with self.database.transaction(self.scope) as tx:
            wallet = await ledger.balance(tx, f"wallet:{self.user_id}:NGN")
            paystack = await ledger.balance(tx, "provider:paystack:NGN")
            try:
                fees = (await ledger.balance(tx, "provider_fees:NGN")).posted_minor
            except NotFound:
                fees = 0
        return wallet.available_minor, -paystack.posted_minor, fees


@pytest.fixture
async def till(database: Database, scope: Scope, owner_url: str) -> Till:
    user = f"usr_{uuid4().hex}"
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, scope)
        owner.execute(
            "insert into users (tenant_id, mode, id, email, name, role, password_hash) "
            "values (%s, %s, %s, %s, 'Ada', 'investor', '!')",
            (scope.tenant_id, str(scope.mode), user, f"{user}@people.test"),
        )
    async with database.transaction(scope) as tx:
        amount = Money(WALLET, "NGN")
        gift = accounts.deposit_captured("gift", provider="stripe", user_id=user, amount=amount, as_of=NOW)
        await ledger.post(tx, gift)
        beneficiary = BeneficiaryRow(
            tenant_id=scope.tenant_id, mode=scope.mode, id=f"ben_{uuid4().hex}", owner_id=user, provider="paystack",
            kind="bank", currency="NGN", bank_code="058", name="Ada", sealed_number="x", number_end="1", recipient="RCP_1",
            status=BeneficiaryStatus.VERIFIED, created_at=NOW,
        )  # fmt: skip
        await insert(tx, beneficiary)
        order = PayoutRequest(
            id=f"pyo_{uuid4().hex}", owner_id=user, beneficiary=beneficiary, source=accounts.wallet(user, "NGN"),
            amount=Money(AMOUNT, "NGN"), reason="withdrawal", subject_id=user, requested_by=user,
        )  # fmt: skip
        payout = await reserve_payout(tx, scope, order, NOW)
        assert (await reserve_payout(tx, scope, order, NOW)).id == payout.id, "asking again finds the first"
    return Till(database, scope, payout.id, user)


@pytest.mark.parametrize(
    "other",
    [
        {"amount": Money(AMOUNT + 1, "NGN")},
        {"source": accounts.wallet("usr_1", "NGN")},
        {"owner_id": "usr_1"},
        {"subject_id": "trn_1"},
        {"reason": "tranche"},
        {"beneficiary": "ben_1"},
    ],
)
async def test_a_known_id_is_no_answer_to_a_wish_for_other_money(till: Till, other: dict[str, Any]) -> None:
    async with till.database.transaction(till.scope) as tx:
        payout = await get_payout(tx, till.payout_id)
        assert payout is not None
        beneficiary = await get_beneficiary(tx, payout.beneficiary_id)
        assert beneficiary is not None
        order = PayoutRequest(
            id=payout.id, owner_id=till.user_id, beneficiary=beneficiary, source=accounts.wallet(till.user_id, "NGN"),
            amount=payout.amount, reason=payout.reason, subject_id=payout.subject_id, requested_by=till.user_id,
        )  # fmt: skip
        assert (await reserve_payout(tx, till.scope, order, NOW)).id == payout.id
        if "beneficiary" in other:
            other = {"beneficiary": beneficiary.model_copy(update={"id": other["beneficiary"]})}
        with pytest.raises(AssertionError, match="other money"):
            await reserve_payout(tx, till.scope, replace(order, **other), NOW)


async def test_what_was_sent_is_booked_once_with_its_fee(till: Till) -> None:
    till.provider.looks = [F.PENDING, F.SUCCEEDED]
    assert await till.advance() == "pending"
    assert await till.balances() == (WALLET - AMOUNT, 0, 0)
    assert await till.advance(4) == "succeeded"
    assert await till.balances() == (WALLET - AMOUNT, AMOUNT + FEE, FEE)
    assert len(till.provider.started) == 1


@pytest.mark.parametrize("said", [F.FAILED, RailRejected("invalid_transfer_recipient")])
async def test_a_definite_no_gives_the_money_back(till: Till, said: Said) -> None:
    till.provider.start, till.provider.looks = said, [F.ABSENT]
    assert await till.advance(3) == "failed"
    assert await till.balances() == (WALLET, 0, 0)
    assert len(till.provider.started) == 1 and await till.cases() == []


@pytest.mark.parametrize("fact", [F.SUCCEEDED, F.PENDING])
async def test_a_no_that_is_taken_back_is_a_case(till: Till, fact: PayoutFact) -> None:
    till.provider.start, till.provider.looks = F.FAILED, [fact]
    assert await till.advance(3) == "failed", "a terminal state has no way back"
    assert await till.cases() == ["late_payout"]
    assert await till.balances() == (WALLET, 0, 0), "nobody's wallet is charged on a guess"


@pytest.mark.parametrize("fact", [F.RETURNED, F.FAILED])
async def test_a_yes_that_is_taken_back_is_booked_back(till: Till, fact: PayoutFact) -> None:
    till.provider.start, till.provider.looks = F.SUCCEEDED, [fact]
    assert await till.advance(3) == "returned"
    assert await till.balances() == (WALLET, FEE, FEE), "the fee stays with the provider"


async def test_returned_before_we_heard_of_its_success(till: Till) -> None:
    till.provider.looks = [answer(F.RETURNED, fee_minor=None)]
    assert await till.advance(2) == "returned"
    assert await till.balances() == (WALLET, 0, 0)


async def test_an_unknown_outcome_is_not_sent_again(till: Till) -> None:
    """Neither while the look-up has no answer, nor while "absent" proves nothing."""
    till.provider.start = RailUnknown("timeout")
    till.provider.looks = [RailNotSent("server_error"), RailUnknown("timeout"), F.ABSENT]
    assert await till.advance(5) == "unknown"
    assert len(till.provider.started) == 1
    assert (await till.row()).checks == 5
    assert await till.balances() == (WALLET - AMOUNT, 0, 0), "the hold stands"


async def test_what_is_pending_for_days_is_a_case_until_its_end(till: Till) -> None:
    till.provider.start, till.provider.looks = F.PENDING, [F.PENDING]
    assert await till.advance(PENDING_CHECKS) == "pending"
    assert ((await till.row()).blocked_reason, await till.cases()) == (None, [])
    assert await till.advance(2) == "pending"
    assert ((await till.row()).blocked_reason, await till.cases()) == ("payout_pending", ["payout_pending"])
    till.provider.looks = [F.SUCCEEDED]
    assert await till.advance() == "succeeded"
    assert ((await till.row()).blocked_reason, await till.cases()) == (None, [])


async def test_what_was_not_sent_may_be_taken_back(till: Till, owner_url: str) -> None:
    """The provider did not take the call: its beneficiary is looked at again before the next one, and it may be canceled."""
    till.provider.start, till.provider.looks = RailNotSent("connect_failed"), [F.ABSENT]
    with pytest.raises(RailNotSent):
        await till.advance()
    assert (await till.row()).status == "approved"
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, till.scope)
        owner.execute("update beneficiaries set status = 'disabled'")
    till.provider.start = F.SUCCEEDED
    assert await till.advance() == "failed"
    assert len(till.provider.started) == 1 and await till.balances() == (WALLET, 0, 0)


async def test_days_of_waiting_for_balance_are_no_days_on_its_way(till: Till) -> None:
    """It is pending since a moment, however long it waited for a top-up."""
    till.provider.start, till.provider.looks = RailRejected(INSUFFICIENT_BALANCE), [F.PENDING]
    await till.advance(PENDING_CHECKS + 5)
    assert (await till.row()).checks > PENDING_CHECKS
    till.provider.start = F.PENDING
    assert await till.advance(2) == "pending"
    row = await till.row()
    assert (row.blocked_reason, row.looked_up < 3, "payout_pending" in await till.cases()) == (None, True, False)


async def test_the_providers_list_is_as_good_as_a_look_up(till: Till) -> None:
    """Of a run's many payouts the list is read: what is on it as pending for days is a case, and closes with its end."""
    till.provider.start = F.PENDING
    await till.advance(PENDING_CHECKS)
    row = await till.row()
    run = Distribution.model_construct(id=row.subject_id)
    task = DistributionTask(scope=till.scope, distribution_id=row.subject_id, as_of=NOW)
    effects = Effects(till.database)
    steps = PayoutSteps(till.database, till.provider, effects)  # type: ignore[arg-type]
    outside = DistributionPayoutActivities(till.database, till.provider, BulkEffects(till.database), steps)  # type: ignore[arg-type]
    assert await outside._apply(task, run, [answer(F.PENDING, reference=row.reference)]) == 0, "it was not due"
    assert ((await till.row()).blocked_reason, await till.cases()) == ("payout_pending", ["payout_pending"])
    await outside._apply(task, run, [answer(F.SUCCEEDED, reference=row.reference)])
    assert ((await till.row()).status, await till.cases()) == ("succeeded", [])
    assert (await till.balances())[0] == WALLET - AMOUNT


async def test_where_the_provider_takes_nothing_the_whole_run_waits(till: Till, owner_url: str) -> None:
    """What was not even tried waits with what was, or a hundred thousand lines would be tried without a pause."""
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, till.scope)
        owner.execute("update payouts set reason = 'distribution', subject_id = 'dst_1'")
    run, later = Distribution.model_construct(id="dst_1"), NOW + timedelta(minutes=15)
    async with till.database.transaction(till.scope) as tx:
        await rows.postpone_rest(tx, run, {"stripe"}, later)
        assert (await rows.open_work(tx, run, NOW)).unsent, "another provider's"
        await rows.postpone_rest(tx, run, {"paystack"}, later)
        waiting = await rows.open_work(tx, run, NOW)
        assert (waiting.unsent, waiting.next_at) == (False, later)
        assert (await rows.open_work(tx, run, later)).unsent


@pytest.mark.parametrize(
    ("error", "checks", "minutes"),
    [
        (RailNotSent("rate_limited", retry_after=timedelta(minutes=40)), 0, 40),  # as the provider asks
        (RailNotSent("connect_failed"), 30, 15),  # twelve hours, if it were a look-up
        (RailNotSent(INSUFFICIENT_BALANCE), 30, 15),
    ],
)
async def test_how_long_an_unwilling_provider_is_left_alone(
    till: Till, error: RailNotSent, checks: int, minutes: int
) -> None:
    payout = (await till.row()).model_copy(update={"checks": checks})
    chunk = _Sorted()
    chunk.add(payout, error)
    assert chunk.not_taken == [payout]
    assert chunk.pause(chunk.not_taken, PayoutStatus.APPROVED) == timedelta(minutes=minutes)


async def test_after_the_grace_it_is_sent_under_the_same_reference(till: Till, owner_url: str) -> None:
    till.provider.start, till.provider.looks = RailUnknown("timeout"), [F.ABSENT]
    assert await till.advance(2) == "unknown"
    with psycopg.connect(owner_url) as owner:
        set_scope(owner, till.scope)
        owner.execute("update effects set sent_at = sent_at - interval '2 minutes'")
    till.provider.start = F.SUCCEEDED
    assert await till.advance() == "succeeded"
    first, second = till.provider.started
    assert first == second


async def test_want_of_balance_waits_and_may_be_repeated(till: Till) -> None:
    till.provider.start, till.provider.looks = RailRejected(INSUFFICIENT_BALANCE), [F.ABSENT]
    assert await till.advance(3) == "approved"
    assert (await till.row()).blocked_reason == "provider_balance"
    assert await till.cases() == ["provider_balance"]
    assert len(till.provider.started) == 3, "each was refused before it took effect"
    till.provider.start = F.SUCCEEDED
    assert await till.advance() == "succeeded"
    assert await till.cases() == [] and (await till.row()).blocked_reason is None


@pytest.mark.parametrize("changes", [{"amount_minor": AMOUNT - 1}, {"amount_minor": None}, {"currency": "GHS"}])
async def test_another_amount_is_not_booked(till: Till, changes: dict[str, Any]) -> None:
    till.provider.start, till.provider.looks = answer(F.SUCCEEDED, **changes), [answer(F.SUCCEEDED, **changes)]
    assert await till.advance(2) == "pending"
    assert await till.cases() == ["payout_mismatch"]
    assert await till.balances() == (WALLET - AMOUNT, 0, 0)


async def test_a_known_transfer_that_vanishes_proves_nothing(till: Till) -> None:
    till.provider.looks = [F.ABSENT]
    assert await till.advance(3) == "pending"
    assert len(till.provider.started) == 1
    assert await till.cases() == [], "nor is it another amount: nothing was said of any"


async def test_it_leaves_any_account_and_may_be_approved_before(till: Till) -> None:
    """As a campaign's owner is paid: out of the escrow, far over the tenant's limit, which its own approval has met."""
    escrow, amount = accounts.escrow("cmp_1", "NGN"), Money(50_000_000, "NGN")
    async with till.database.transaction(till.scope) as tx:
        charge = accounts.payment_charged("charge", provider="stripe", into=escrow, amount=amount, as_of=NOW)
        await ledger.post(tx, charge)
        beneficiary = await get_beneficiary(tx, (await till.row()).beneficiary_id)
        assert beneficiary is not None
        order = PayoutRequest(
            id=f"pyo_{uuid4().hex}", owner_id=till.user_id, beneficiary=beneficiary, source=escrow, amount=amount,
            reason="campaign_payout", subject_id="cmp_1", requested_by=till.user_id, approved=True,
        )  # fmt: skip
        payout = await reserve_payout(tx, till.scope, order, NOW)
    till.payout_id = payout.id
    till.provider.start = answer(F.SUCCEEDED, amount_minor=amount.amount_minor)
    assert await till.advance() == "succeeded"
    assert till.provider.started[0].reason == "campaign payout"
    async with till.database.transaction(till.scope) as tx:
        assert (await ledger.balance(tx, escrow.code)).available_minor == 0
