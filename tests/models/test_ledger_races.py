"""Many writers at once: exactly k of them get the money, each hold ends once, and the books hold afterwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from contracts.base import Scope
from domain import accounts
from domain.accounts import AccountKind, AccountSpec, Leg, Phase, Posting
from domain.errors import Conflict
from domain.money import Money
from infra.database import Database, Tx, fetch_one
from models import ledger
from models.audit import audit_books
from tests.fixtures.postgres import role_url

DAY = datetime(2030, 1, 1, tzinfo=UTC)


def ngn(amount: int) -> Money:
    return Money(amount, "NGN")


def deposit(key: str, amount: int, user: str) -> Posting:
    return accounts.deposit_captured(key, provider="stripe", user_id=user, amount=ngn(amount), as_of=DAY)


def pledge(key: str, amount: int, user: str) -> Posting:
    return accounts.wallet_pledged(
        key, user_id=user, campaign_id="cmp_1", amount=ngn(amount), as_of=DAY, expires_at=DAY.replace(year=2031)
    )


@pytest.fixture(autouse=True)
async def books_hold(owner_url: str) -> AsyncIterator[None]:
    """Every story here ends with the auditor."""
    yield
    auditor = Database(role_url(owner_url, "chama_audit"), name="audit", max_size=1)
    await auditor.open()
    async with auditor.transaction() as tx:
        assert await audit_books(tx) == []
    await auditor.close()


async def attempt(database: Database, scope: Scope, *postings: Posting, start: asyncio.Barrier | None = None) -> bool:
    """Whether it was written, now and not before; one posting by the door for one.

    `start`: every rival has its transaction open before one posts.
    """
    try:
        async with database.transaction(scope) as tx:
            if start is not None:
                await tx.execute("select 1")  # with which it begins
                await start.wait()
            if len(postings) == 1:
                return not (await ledger.post(tx, postings[0])).replayed
            return not (await ledger.post_many(tx, postings))[0].replayed
    except Conflict:
        return False


async def race(database: Database, scope: Scope, *rivals: Sequence[Posting]) -> int:
    """How many of the rivals, started together, won."""
    start = asyncio.Barrier(len(rivals))
    return sum(await asyncio.gather(*(attempt(database, scope, *rival, start=start) for rival in rivals)))


@pytest.mark.parametrize("k", [0, 1, 7, 31])
async def test_thirty_two_writers_and_money_for_exactly_k(database: Database, scope: Scope, k: int) -> None:
    await attempt(database, scope, deposit("d", 100 * k + 99, "usr_1"))
    assert await race(database, scope, *([pledge(f"p{n}", 100, "usr_1")] for n in range(32))) == k


async def test_exactly_k_out_of_a_striped_account(database: Database, scope: Scope) -> None:
    """Money leaves an escrow through holds that each must see all stripes, while more comes in."""
    source = accounts.escrow("cmp_1", "NGN")

    def charge(n: int) -> Posting:
        return accounts.payment_charged(f"c{n}", provider="stripe", into=source, amount=ngn(100), as_of=DAY)

    def refund(n: int) -> Posting:
        return accounts.refund_requested(f"r{n}", source=source, provider="stripe", amount=ngn(100), as_of=DAY)

    await asyncio.gather(*(attempt(database, scope, charge(n)) for n in range(10)))
    assert await race(database, scope, *([refund(n)] for n in range(32))) == 10
    mixed = [charge(100 + n) for n in range(20)] + [refund(100 + n) for n in range(40)]
    mixed[::3], mixed[1::3], mixed[2::3] = mixed[:20], mixed[20:40], mixed[40:]
    won = await asyncio.gather(*(attempt(database, scope, posting) for posting in mixed))
    async with database.transaction(scope) as tx:
        left = await ledger.balance(tx, source.code)
    assert left.available_minor == 100 * (20 - (sum(won) - 20)) >= 0


async def test_a_hot_account_with_sixteen_writers(database: Database, scope: Scope) -> None:
    target = accounts.escrow("cmp_1", "NGN")

    async def pay(writer: int) -> None:
        for n in range(25):
            key = f"c{writer}/{n}"
            await attempt(
                database,
                scope,
                accounts.payment_charged(key, provider="stripe", into=target, amount=ngn(n + 1), as_of=DAY),
            )

    await asyncio.gather(*(pay(writer) for writer in range(16)))
    async with database.transaction(scope) as tx:
        assert (await ledger.balance(tx, target.code)).posted_minor == 16 * 25 * 26 // 2
        assert (await ledger.balance(tx, "provider:stripe:NGN")).posted_minor == 16 * 25 * 26 // 2


async def test_post_void_and_expiry_race_for_every_hold(database: Database, scope: Scope) -> None:
    """1,000 holds, three rivals each: one wins, and the money is where the winner put it."""
    await attempt(database, scope, deposit("d", 1_000, "usr_1"))
    await attempt(database, scope, *(pledge(f"p{n}", 1, "usr_1") for n in range(1_000)))
    gate = asyncio.Semaphore(24)

    async def resolve(posting: Posting) -> bool:
        async with gate:
            return await attempt(database, scope, posting)

    rivals = [
        rival
        for n in range(1_000)
        for rival in (
            accounts.pledge_captured(f"p{n}/capture", hold=f"p{n}", as_of=DAY),
            accounts.pledge_voided(f"p{n}/void", hold=f"p{n}", as_of=DAY),
            accounts.pledge_expired(f"p{n}/expire", hold=f"p{n}", as_of=DAY.replace(year=2031)),
        )
    ]
    order = [rivals[(i * 1_117) % 3_000] for i in range(3_000)]
    won = dict(zip((rival.key for rival in order), await asyncio.gather(*map(resolve, order)), strict=True))
    wins = [[won[f"p{n}/{how}"] for how in ("capture", "void", "expire")] for n in range(1_000)]
    assert all(sum(each) == 1 for each in wins)
    captured = sum(each[0] for each in wins)
    async with database.transaction(scope) as tx:
        wallet = await ledger.balance(tx, "wallet:usr_1:NGN")
        escrow = await ledger.balance(tx, "escrow:cmp_1:NGN")
    assert (wallet.posted_minor, wallet.pending_out_minor) == (1_000 - captured, 0)
    assert (escrow.posted_minor, escrow.pending_in_minor) == (captured, 0)


async def test_one_hold_with_rivals_that_start_together(database: Database, scope: Scope) -> None:
    await attempt(database, scope, deposit("d", 50, "usr_1"))
    for n in range(10):
        await attempt(database, scope, pledge(f"p{n}", 5, "usr_1"))
        rivals = [accounts.pledge_captured(f"p{n}/c{i}", hold=f"p{n}", as_of=DAY) for i in range(8)]
        rivals += [accounts.pledge_voided(f"p{n}/v{i}", hold=f"p{n}", as_of=DAY) for i in range(8)]
        assert await race(database, scope, *([rival] for rival in rivals)) == 1


async def test_copies_of_one_posting(database: Database, scope: Scope) -> None:
    assert await race(database, scope, *([deposit("d", 70, "usr_1")] for _ in range(32))) == 1
    async with database.transaction(scope) as tx:
        assert (await ledger.balance(tx, "wallet:usr_1:NGN")).posted_minor == 70


async def test_batches_that_overlap_do_not_deadlock(database: Database, scope: Scope) -> None:
    """Same accounts, opposite order: locks are taken in one order whatever the batch's own."""
    users = [f"usr_{n}" for n in range(20)]
    await attempt(database, scope, *(deposit(f"d/{user}", 1_000, user) for user in users))

    batches = [[pledge(f"b{n}/{user}", 1, user) for user in (users if n % 2 else users[::-1])] for n in range(30)]
    assert await race(database, scope, *batches) == 30


@pytest.mark.parametrize("bounded", [True, False])
async def test_opposite_postings_do_not_deadlock(database: Database, scope: Scope, bounded: bool) -> None:
    """Of two that move money the opposite way, the second waits at the account the first has locked before."""
    low, high = (
        AccountSpec(f"pot:{n}:NGN", "NGN", AccountKind.LIABILITY, bounded=bounded) for n in ("1-low", "2-high")
    )

    def paid_in(key: str, pot: AccountSpec) -> Posting:
        return Posting(
            key, "paid_in", Phase.SINGLE, DAY, (Leg(accounts.provider_clearing("stripe", "NGN"), 5), Leg(pot, -5))
        )

    await attempt(database, scope, paid_in("d2", high))  # so that its number is the lower: codes decide
    await attempt(database, scope, paid_in("d1", low))
    there = Posting("there", "moved", Phase.SINGLE, DAY, (Leg(high, 1), Leg(low, -1)))
    back = Posting("back", "moved", Phase.SINGLE, DAY, (Leg(low, 1), Leg(high, -1)))
    async with database.transaction(scope) as tx:
        await ledger.post(tx, paid_in("holds-the-lower", low))
        rival = asyncio.create_task(attempt(database, scope, there))
        other = asyncio.create_task(attempt(database, scope, back))
        await until_somebody_waits(tx, count=2)
        await ledger.post(tx, paid_in("takes-the-higher", high))
    assert await rival and await other


async def until_somebody_waits(tx: Tx, count: int = 1) -> None:
    """Until so many other sessions of ours wait for a lock."""
    query = "select 1 from pg_locks where not granted having count(*) >= %s"
    async with asyncio.timeout(10):
        while await fetch_one(tx, query, (count,)) is None:  # noqa: ASYNC110  another process waits: there is no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["keys", "accounts"])
async def test_a_batch_takes_keys_and_accounts_in_order(database: Database, scope: Scope, what: str) -> None:
    """A batch given as 3, 2, 1 has not touched 3 while it waits for 2: whoever holds 2 may still take 3."""

    def numbered(n: int, who: str) -> Posting:
        return deposit(f"k{n}", 1, "usr_1") if what == "keys" else deposit(f"{who}{n}", 1, f"new_{n}")

    await attempt(database, scope, deposit("k0", 1, "usr_1"))
    async with database.transaction(scope) as tx:
        await ledger.post(tx, numbered(2, "first"))
        batch = asyncio.create_task(attempt(database, scope, *(numbered(n, "second") for n in (3, 2, 1))))
        await until_somebody_waits(tx)
        await ledger.post(tx, numbered(3, "first"))
    assert await batch is (what == "accounts")
    async with database.transaction(scope) as tx:
        assert (await ledger.balance(tx, "provider:stripe:NGN")).posted_minor == (4 if what == "keys" else 6)


async def test_a_batch_locks_balances_in_the_order_of_their_codes(database: Database, scope: Scope) -> None:
    """As a single posting does: one that waits for the second account has not locked the third."""

    def into(n: int, provider: str) -> Posting:
        key, amount = f"{provider}{n}", ngn(1)
        return accounts.deposit_captured(key, provider=provider, user_id=f"usr_{n}", amount=amount, as_of=DAY)

    for n in reversed(range(4)):  # so that their numbers are in the other order: codes decide
        await attempt(database, scope, into(n, "opener"))
    await attempt(database, scope, into(0, "first"), into(0, "second"))
    async with database.transaction(scope) as tx:
        await ledger.post(tx, into(2, "first"))
        batch = asyncio.create_task(attempt(database, scope, *(into(n, "second") for n in (3, 2, 1))))
        await until_somebody_waits(tx)
        await ledger.post(tx, into(3, "first"))
    assert await batch


async def test_opening_the_same_accounts_at_once(database: Database, scope: Scope) -> None:
    """Each batch opens the same accounts in an order of its own."""
    users = [f"new_{i}" for i in range(400)]

    batches = [[deposit(f"o{n}/{user}", 1, user) for user in users[n * 50 :] + users[: n * 50]] for n in range(8)]
    assert await race(database, scope, *batches) == 8
    async with database.transaction(scope) as tx:
        found = await ledger.accounts(tx, prefix="wallet:new_", limit=500)
    assert [balance.posted_minor for balance in found] == [8] * 400
