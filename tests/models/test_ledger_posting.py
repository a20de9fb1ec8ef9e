"""The one posting path: phases, idempotency, bounds, batches, scope, and what the database refuses to everybody."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from contracts.base import Mode, Scope
from domain import accounts
from domain.accounts import Leg, Phase, Posting
from domain.errors import NotFound
from domain.money import InvalidMoney, Money
from infra.database import Database, fetch_one
from models import ledger
from tests.fixtures.postgres import add_tenant

DAY = datetime(2030, 1, 1, tzinfo=UTC)
ESCROW = accounts.escrow("cmp_1", "NGN")
WALLET = accounts.wallet("usr_1", "NGN")


def ngn(amount: int) -> Money:
    return Money(amount, "NGN")


def deposit(key: str, amount: int, user: str = "usr_1", as_of: datetime = DAY) -> Posting:
    return accounts.deposit_captured(key, provider="stripe", user_id=user, amount=ngn(amount), as_of=as_of)


def pledge(key: str, amount: int, user: str = "usr_1", **times: datetime) -> Posting:
    return accounts.wallet_pledged(
        key, user_id=user, campaign_id="cmp_1", amount=ngn(amount), as_of=times.pop("as_of", DAY), **times
    )


async def run(database: Database, scope: Scope, *postings: Posting) -> list[ledger.PostedTransaction]:
    async with database.transaction(scope) as tx:
        if len(postings) == 1:
            return [await ledger.post(tx, postings[0])]
        return await ledger.post_many(tx, postings)


async def figures(database: Database, scope: Scope, code: str, **when) -> tuple[int, int, int]:
    """Posted, coming in, going out."""
    async with database.transaction(scope) as tx:
        found = await ledger.balance(tx, code, **when)
    return found.posted_minor, found.pending_in_minor, found.pending_out_minor


async def test_a_deposit_moves_both_sides(database: Database, scope: Scope) -> None:
    [posted] = await run(database, scope, deposit("d1", 700))
    assert not posted.replayed
    assert await figures(database, scope, "provider:stripe:NGN") == (700, 0, 0)
    assert await figures(database, scope, WALLET.code) == (700, 0, 0)


async def test_the_same_posting_again_is_its_first_transaction(database: Database, scope: Scope) -> None:
    [first] = await run(database, scope, deposit("d1", 700))
    [second] = await run(database, scope, deposit("d1", 700, as_of=DAY + timedelta(days=1)))
    assert (second.id, second.replayed) == (first.id, True)
    assert await figures(database, scope, WALLET.code) == (700, 0, 0)


async def test_a_key_stands_for_one_posting(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    for other in (deposit("d1", 701), deposit("d1", 700, user="usr_2"), pledge("d1", 700)):
        with pytest.raises(accounts.LedgerKeyConflict):
            await run(database, scope, other)
    assert await figures(database, scope, WALLET.code) == (700, 0, 0)


async def test_a_hold_counts_at_once_and_is_posted_in_full(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    await run(database, scope, pledge("p1", 500))
    assert await figures(database, scope, WALLET.code) == (700, 0, 500)
    assert await figures(database, scope, ESCROW.code) == (0, 500, 0)
    with pytest.raises(accounts.InsufficientFunds):
        await run(database, scope, pledge("p2", 201))
    await run(database, scope, accounts.pledge_captured("p1/capture", hold="p1", as_of=DAY))
    assert await figures(database, scope, WALLET.code) == (200, 0, 0)
    assert await figures(database, scope, ESCROW.code) == (500, 0, 0)


async def test_a_hold_is_posted_in_part_and_the_rest_released(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700), deposit("d2", 1, user="usr_2"))
    await run(database, scope, pledge("p1", 500))
    for wrong, refusal in ((ngn(501), accounts.ExceedsHold), (Money(5, "KES"), InvalidMoney)):
        with pytest.raises(refusal):
            await run(database, scope, accounts.pledge_captured("p1/capture", hold="p1", as_of=DAY, amount=wrong))
    await run(database, scope, accounts.pledge_captured("p1/capture", hold="p1", as_of=DAY, amount=ngn(499)))
    assert await figures(database, scope, WALLET.code) == (201, 0, 0)
    assert await figures(database, scope, ESCROW.code) == (499, 0, 0)


async def test_a_hold_of_many_legs_is_posted_whole_or_not(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    fee = accounts.AccountSpec("fees:NGN", "NGN", accounts.AccountKind.REVENUE, bounded=False)
    legs = (Leg(WALLET, 100), Leg(ESCROW, -97), Leg(fee, -3))
    await run(database, scope, Posting("h1", "pledge_with_fee", Phase.PENDING, DAY, legs))
    with pytest.raises(accounts.ExceedsHold):
        await run(database, scope, accounts.pledge_captured("h1/capture", hold="h1", as_of=DAY, amount=ngn(50)))
    await run(database, scope, accounts.pledge_captured("h1/capture", hold="h1", as_of=DAY))
    assert await figures(database, scope, fee.code) == (3, 0, 0)


async def test_many_legs_are_many_transfers_under_one_key(database: Database, scope: Scope) -> None:
    """In both currencies, in a batch beside others, resolved, and reversed: each account by exactly its legs."""
    fee = accounts.AccountSpec("fees:NGN", "NGN", accounts.AccountKind.REVENUE, bounded=False)
    kes, shillings = accounts.wallet("usr_1", "KES"), accounts.provider_clearing("mpesa", "KES")
    legs = (Leg(WALLET, 60), Leg(kes, -8), Leg(WALLET, 40), Leg(ESCROW, -97), Leg(shillings, 8), Leg(fee, -3))
    many = Posting("m1", "many", Phase.PENDING, DAY, legs)
    [one, held, other] = await run(database, scope, deposit("d1", 700), many, deposit("d2", 1))
    assert len({one.id, held.id, other.id}) == 3 and not held.replayed
    [again] = await run(database, scope, many)
    assert (again.id, again.replayed) == (held.id, True)
    assert await figures(database, scope, WALLET.code) == (701, 0, 100)
    assert await figures(database, scope, kes.code) == (0, 8, 0)
    async with database.transaction(scope) as tx:
        view = await ledger.transaction(tx, "m1")
        assert view is not None and sum(leg.amount_minor for leg in view.legs) == 0
        assert [leg.leg for leg in view.legs] == list(range(1, len(view.legs) + 1))
        sums = {spec.code: 0 for spec in (WALLET, kes, ESCROW, shillings, fee)}
        for leg in view.legs:
            sums[leg.code] += leg.amount_minor
        assert list(sums.values()) == [100, -8, -97, 8, -3]
        await ledger.post_hold(tx, key="m1/c", hold="m1", event="captured", as_of=DAY)
        with pytest.raises(accounts.HoldResolved):
            async with tx.transaction():
                await ledger.void_hold(tx, key="m1/v", hold="m1", event="voided", as_of=DAY)
        assert (await ledger.balance(tx, WALLET.code)).posted_minor == 601
        await ledger.reverse(tx, key="m1/r", target="m1/c", as_of=DAY)
        pages = await ledger.entries(tx, WALLET.code, limit=2)
        while len(page := await ledger.entries(tx, WALLET.code, (pages[-1].transaction_id, pages[-1].leg), limit=2)):
            pages += page
        assert len({(line.transaction_id, line.leg) for line in pages}) == len(pages) == 2 + 3 * 3
    assert await figures(database, scope, WALLET.code) == (701, 0, 0)
    assert await figures(database, scope, fee.code) == await figures(database, scope, kes.code) == (0, 0, 0)
    assert await figures(database, scope, fee.code, as_of=DAY) == (0, 0, 0)


async def test_a_hold_and_its_resolution_in_one_batch(database: Database, scope: Scope) -> None:
    capture = accounts.pledge_captured("a/capture", hold="p1", as_of=DAY)
    written = await run(database, scope, capture, deposit("d1", 700), pledge("p1", 300))
    assert not any(each.replayed for each in written)
    assert await figures(database, scope, WALLET.code) == (400, 0, 0)


async def test_void_and_expiry_free_the_money(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    until = DAY + timedelta(days=7)
    await run(database, scope, pledge("p1", 300), pledge("p2", 400, expires_at=until))
    async with database.transaction(scope) as tx:
        await ledger.void_hold(tx, key="p1/void", hold="p1", event="pledge_voided", as_of=DAY)
    assert await figures(database, scope, WALLET.code) == (700, 0, 400)
    early = accounts.pledge_expired("p2/expire", hold="p2", as_of=until - timedelta(microseconds=1))
    with pytest.raises(accounts.HoldNotExpired):
        await run(database, scope, early)
    with pytest.raises(accounts.HoldExpired):
        await run(database, scope, accounts.pledge_captured("p2/capture", hold="p2", as_of=until))
    async with database.transaction(scope) as tx:
        await ledger.expire_hold(tx, key="p2/expire", hold="p2", event="pledge_expired", as_of=until)
    assert await figures(database, scope, WALLET.code) == (700, 0, 0)
    assert await figures(database, scope, ESCROW.code) == (0, 0, 0)


async def test_a_hold_without_expiry_never_expires(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 5))
    await run(database, scope, pledge("p1", 5))
    with pytest.raises(accounts.HoldNotExpired):
        await run(database, scope, accounts.pledge_expired("e", hold="p1", as_of=DAY + timedelta(days=9999)))


async def test_a_hold_is_resolved_once(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    await run(database, scope, pledge("p1", 300))
    async with database.transaction(scope) as tx:
        first = await ledger.post_hold(tx, key="p1/capture", hold="p1", event="pledge_captured", as_of=DAY)
    for again in (
        accounts.pledge_captured("p1/other", hold="p1", as_of=DAY),
        accounts.pledge_voided("p1/void", hold="p1", as_of=DAY),
    ):
        with pytest.raises(accounts.HoldResolved):
            await run(database, scope, again)
    [replay] = await run(database, scope, accounts.pledge_captured("p1/capture", hold="p1", as_of=DAY))
    assert (replay.id, replay.replayed) == (first.id, True)
    assert await figures(database, scope, WALLET.code) == (400, 0, 0)


async def test_two_resolutions_of_a_hold_in_one_batch(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    await run(database, scope, pledge("p1", 300))
    both = (accounts.pledge_captured("a", hold="p1", as_of=DAY), accounts.pledge_voided("b", hold="p1", as_of=DAY))
    with pytest.raises(accounts.HoldResolved):
        await run(database, scope, *both)
    assert await figures(database, scope, WALLET.code) == (700, 0, 300)


async def test_only_holds_are_resolved(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    for hold in ("d1", "nothing"):
        with pytest.raises(accounts.UnknownHold) as caught:
            await run(database, scope, accounts.pledge_captured("x", hold=hold, as_of=DAY))
        assert caught.value.code == "unknown_hold"


async def test_a_reversal_happens_once_and_only_to_posted_money(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    await run(database, scope, pledge("p1", 300))
    async with database.transaction(scope) as tx:
        with pytest.raises(accounts.InsufficientFunds):
            async with tx.transaction():
                await ledger.reverse(tx, key="d1/reversal", target="d1", as_of=DAY)
        with pytest.raises(accounts.UnknownHold):
            async with tx.transaction():
                await ledger.reverse(tx, key="p1/reversal", target="p1", as_of=DAY)
        await ledger.post_hold(tx, key="p1/capture", hold="p1", event="pledge_captured", as_of=DAY)
        await ledger.reverse(tx, key="p1/reversal", target="p1/capture", as_of=DAY)
        await ledger.reverse(tx, key="d1/reversal", target="d1", as_of=DAY)
        with pytest.raises(accounts.AlreadyReversed):
            async with tx.transaction():
                await ledger.reverse(tx, key="d1/again", target="d1", as_of=DAY)
        with pytest.raises(accounts.UnknownHold):
            async with tx.transaction():
                await ledger.reverse(tx, key="r/r", target="d1/reversal", as_of=DAY)
    assert await figures(database, scope, WALLET.code) == (0, 0, 0)
    assert await figures(database, scope, "provider:stripe:NGN") == (0, 0, 0)


async def test_a_striped_account_keeps_its_bound_over_all_stripes(database: Database, scope: Scope) -> None:
    """Money came in over several connections, so over several stripes; the bound is on their sum."""

    def refund(key: str, amount: int) -> Posting:
        return accounts.refund_requested(key, source=ESCROW, provider="stripe", amount=ngn(amount), as_of=DAY)

    together = asyncio.Barrier(20)

    async def pay(n: int) -> None:
        charge = accounts.payment_charged(f"c{n}", provider="stripe", into=ESCROW, amount=ngn(10), as_of=DAY)
        async with database.transaction(scope) as tx:
            await together.wait()  # so that each has a connection of its own
            await ledger.post(tx, charge)

    await asyncio.gather(*(pay(n) for n in range(20)))
    async with database.transaction(scope) as tx:
        used = await fetch_one(tx, "select count(*) from ledger_balances where posted_minor < 0")
    assert used is not None and used["count"] > 1
    with pytest.raises(accounts.InsufficientFunds):
        await run(database, scope, refund("r0", 201))
    await run(database, scope, refund("r1", 150))
    with pytest.raises(accounts.InsufficientFunds):
        await run(database, scope, refund("r2", 51))
    await run(database, scope, refund("r3", 50))
    assert await figures(database, scope, ESCROW.code) == (200, 0, 200)


async def test_a_batch_of_a_thousand(database: Database, scope: Scope) -> None:
    deposits = [deposit(f"d{n}", 10 + n, user=f"usr_{n % 50}") for n in range(1_000)]
    first = await run(database, scope, *deposits)
    assert len({posted.id for posted in first}) == 1_000 and not any(posted.replayed for posted in first)
    assert await figures(database, scope, "provider:stripe:NGN") == (sum(10 + n for n in range(1_000)), 0, 0)
    pledges = [pledge(f"p{n}", 10 + n, user=f"usr_{n % 50}") for n in range(1_000)]
    mixed = await run(database, scope, *deposits, *pledges)
    assert [posted.id for posted in mixed[:1_000]] == [posted.id for posted in first]
    assert [posted.replayed for posted in mixed] == [True] * 1_000 + [False] * 1_000
    await run(database, scope, *(accounts.pledge_captured(f"c{n}", hold=f"p{n}", as_of=DAY) for n in range(1_000)))
    assert await figures(database, scope, ESCROW.code) == (sum(10 + n for n in range(1_000)), 0, 0)
    assert await figures(database, scope, "wallet:usr_7:NGN") == (0, 0, 0)


async def test_postings_of_a_batch_keep_what_is_their_own(database: Database, scope: Scope) -> None:
    """What all have in common is told once; what one has alone (its currency, its date, its phase) stays with it."""
    later = DAY + timedelta(days=3)
    dollars = accounts.deposit_captured("u1", provider="stripe", user_id="usr_1", amount=Money(90, "USD"), as_of=later)
    await run(database, scope, deposit("d1", 700), dollars, pledge("p1", 200))
    async with database.transaction(scope) as tx:
        found = [await ledger.transaction(tx, key) for key in ("d1", "u1", "p1")]
    seen = [(each.event, each.phase, each.effective_at, {leg.currency for leg in each.legs}) for each in found if each]
    assert seen == [
        ("deposit_captured", Phase.SINGLE, DAY, {"NGN"}),
        ("deposit_captured", Phase.SINGLE, later, {"USD"}),
        ("wallet_pledged", Phase.PENDING, DAY, {"NGN"}),
    ]
    assert await figures(database, scope, "wallet:usr_1:USD") == (90, 0, 0)
    assert await figures(database, scope, WALLET.code) == (700, 0, 200)


async def test_a_batch_is_all_or_nothing(database: Database, scope: Scope) -> None:
    with pytest.raises(accounts.InsufficientFunds):
        await run(database, scope, *(deposit(f"d{n}", 10) for n in range(9)), pledge("p", 91))
    with pytest.raises(NotFound):
        await figures(database, scope, WALLET.code)


async def test_a_key_twice_in_a_batch(database: Database, scope: Scope) -> None:
    one, two = await run(database, scope, deposit("d1", 10), deposit("d1", 10))
    assert one == two
    with pytest.raises(accounts.LedgerKeyConflict):
        await run(database, scope, deposit("d2", 10), deposit("d2", 11))
    assert await run(database, scope) == []
    assert await figures(database, scope, WALLET.code) == (10, 0, 0)


async def test_balances_as_of_a_date(database: Database, scope: Scope) -> None:
    def day(n: int) -> datetime:
        return DAY + timedelta(days=n)

    await run(database, scope, deposit("d1", 700, as_of=day(1)))
    await run(database, scope, pledge("p1", 300, as_of=day(2)), pledge("p2", 50, as_of=day(2)))
    await run(database, scope, accounts.pledge_captured("p1/c", hold="p1", as_of=day(3), amount=ngn(200)))
    await run(database, scope, accounts.pledge_voided("p2/v", hold="p2", as_of=day(4)))
    await run(database, scope, accounts.reversal("d1/r", target="p1/c", as_of=day(5)))
    expected = [(0, 0, 0), (700, 0, 0), (700, 0, 350), (500, 0, 50), (500, 0, 0), (700, 0, 0)]
    assert [await figures(database, scope, WALLET.code, as_of=day(n)) for n in range(6)] == expected
    assert await figures(database, scope, WALLET.code) == expected[-1]
    now = datetime.now(UTC)
    assert await figures(database, scope, WALLET.code, as_of=now, on="posted") == (700, 0, 0)
    before = now - timedelta(hours=1)
    assert await figures(database, scope, WALLET.code, as_of=before, on="posted") == (0, 0, 0)


async def test_reading_pages(database: Database, scope: Scope) -> None:
    await run(database, scope, *(deposit(f"d{n}", 10, user=f"usr_{n}") for n in range(5)))
    await run(database, scope, pledge("p1", 4))
    await run(database, scope, accounts.pledge_voided("p1/void", hold="p1", as_of=DAY))
    async with database.transaction(scope) as tx:
        page = await ledger.accounts(tx, prefix="wallet:", limit=3)
        rest = await ledger.accounts(tx, prefix="wallet:", after=page[-1].code, limit=3)
        assert [b.code for b in page + rest] == [f"wallet:usr_{n}:NGN" for n in range(5)]
        assert {b.available_minor for b in page + rest} == {10}
        lines = await ledger.entries(tx, "provider:stripe:NGN", limit=3)
        older = await ledger.entries(tx, "provider:stripe:NGN", before=(lines[-1].transaction_id, lines[-1].leg))
        assert sorted(line.key for line in lines + older) == [f"d{n}" for n in range(5)]
        hold = await ledger.transaction(tx, "p1")
        assert hold is not None and hold.resolved_by == (Phase.VOID, "p1/void") and hold.reversed_by is None
        assert [(leg.code, leg.amount_minor, leg.pending) for leg in hold.legs] == [
            (WALLET.code, 4, True),
            (ESCROW.code, -4, True),
        ]
        void = await ledger.transaction(tx, "p1/void")
        assert void is not None and void.target == "p1" and void.legs == ()
        assert await ledger.transaction(tx, "nothing") is None


async def test_tenants_and_modes_do_not_meet(database: Database, scope: Scope, owner_url: str) -> None:
    others = [Scope(tenant_id=scope.tenant_id, mode=Mode.LIVE), Scope(tenant_id=add_tenant(owner_url), mode=Mode.TEST)]
    await run(database, scope, deposit("d1", 700))
    await run(database, scope, pledge("p1", 300))
    for other in others:
        with pytest.raises(NotFound):
            await figures(database, other, WALLET.code)
        with pytest.raises(accounts.UnknownHold):
            await run(database, other, accounts.pledge_voided("p1/void", hold="p1", as_of=DAY))
        [own] = await run(database, other, deposit("d1", 1))
        assert not own.replayed
        assert await figures(database, other, WALLET.code) == (1, 0, 0)
        async with database.transaction(other) as tx:
            assert len(await ledger.accounts(tx)) == 2 and await ledger.transaction(tx, "p1") is None
    assert await figures(database, scope, WALLET.code) == (700, 0, 300)


async def test_no_tenant_no_posting(database: Database) -> None:
    async with database.transaction() as tx:
        with pytest.raises(psycopg.DatabaseError) as caught:
            await ledger.post(tx, deposit("d1", 1))
    assert caught.value.sqlstate == "CH000"


async def test_keys_of_any_printable_characters(database: Database, scope: Scope) -> None:
    for key in ('a"b', "a\\b", "{a,b}", "null", "'", "%s", "a" * 300):
        [first] = await run(database, scope, deposit(key, 1))
        [again] = await run(database, scope, deposit(key, 1))
        assert again.replayed and again.id == first.id
    assert await figures(database, scope, WALLET.code) == (7, 0, 0)
