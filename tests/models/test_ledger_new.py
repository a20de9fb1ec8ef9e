"""A batch of new money moves balances before it writes the transfers: where it cannot write them all, nothing has moved."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import psycopg
import pytest

from contracts.base import Mode, Scope
from domain import accounts
from domain.accounts import AccountKind, AccountSpec, InsufficientFunds, Leg, Phase, Posting
from domain.money import Money
from infra.database import Database, Tx
from models import ledger
from models.ledger_arguments import POST_NEW, arguments_of_new, rows_of

DAY = datetime(2030, 1, 1, tzinfo=UTC)
LATER = datetime(2031, 1, 1, tzinfo=UTC)
PROVIDER = accounts.provider_clearing("stripe", "NGN")
ONE, TWO = accounts.wallet("usr_1", "NGN"), accounts.wallet("usr_2", "NGN")
ESCROW, FEES = accounts.escrow("cmp_1", "NGN"), accounts.platform_fees("NGN")
DEBITS, CREDITS, AMOUNTS, CODES, STRIPES, CURRENCY = range(7, 13)
"""Places among the values of a call."""
TILL = AccountSpec("till:NGN", "NGN", AccountKind.ASSET, bounded=True)


def moved(
    key: str, *legs: tuple[AccountSpec, int], phase: Phase = Phase.SINGLE, expires_at: datetime | None = None
) -> Posting:
    return Posting(key, "moved", phase, DAY, tuple(Leg(*leg) for leg in legs), expires_at=expires_at)


def values(*postings: Posting) -> list[str | None]:
    found = arguments_of_new(rows_of(postings))
    assert found is not None
    return list(found)


@pytest.fixture(autouse=True)
async def opened(database: Database, scope: Scope) -> None:
    """Each wallet has 100, the till 70, escrow and fees are open."""
    async with database.transaction(scope) as tx:
        await ledger.post_many(tx, [
            moved("d1", (PROVIDER, 200), (ONE, -100), (TWO, -100)),
            moved("d2", (PROVIDER, 3), (ESCROW, -2), (FEES, -1)),
            moved("d3", (TILL, 70), (FEES, -70)),
        ])  # fmt: skip


async def facts(tx: Tx) -> list[tuple[object, ...]]:
    found = [
        (each.code, each.posted_minor, each.pending_in_minor, each.pending_out_minor)
        for each in await ledger.accounts(tx)
    ]
    rows = await (await tx.execute("select key, part from ledger_transfers order by key, part")).fetchall()
    return [*found, *((row["key"], row["part"]) for row in rows)]


async def posted(database: Database, scope: Scope, arguments: Sequence[object]) -> list[int] | None:
    async with database.transaction(scope) as tx:
        [row] = await (await tx.execute(POST_NEW, arguments)).fetchall()
    ids: list[int] | None = row["ids"]
    return ids


PLAIN = moved("a", (PROVIDER, 5), (ONE, -5))
KES = accounts.deposit_captured("k", provider="stripe", user_id="usr_1", amount=Money(5, "KES"), as_of=DAY)
CANNOT = {
    "a taken key": (PLAIN, moved("d1", (PROVIDER, 5), (ONE, -5))),
    "a key twice": (PLAIN, PLAIN),
    "an account that is not open": (PLAIN, moved("b", (PROVIDER, 5), (accounts.wallet("usr_3", "NGN"), -5))),
    "one unit too little, credit-normal": (PLAIN, moved("b", (TWO, 101), (ONE, -101))),
    "one unit too little, debit-normal": (moved("b", (FEES, 71), (TILL, -71)),),
    "one unit too little for all of the batch": (
        moved("b", (TWO, 60), (FEES, -60)),
        moved("c", (TWO, 41), (FEES, -41)),
    ),
    "one unit too little for a hold": (moved("b", (TWO, 101), (FEES, -101), phase=Phase.PENDING),),
}


@pytest.mark.parametrize("why", CANNOT)
async def test_what_it_cannot_write_moves_nothing(database: Database, scope: Scope, why: str) -> None:
    async with database.transaction(scope) as tx:
        before = await facts(tx)
    assert await posted(database, scope, values(*CANNOT[why])) is None
    async with database.transaction(scope) as tx:
        assert await facts(tx) == before


async def test_a_bound_over_several_stripes_is_left_to_the_other_door(database: Database, scope: Scope) -> None:
    """It holds for their sum, and this door locks one of them. Its caller does not even ask."""
    out_of_escrow = moved("e", (ESCROW, 1), (ONE, -1))
    assert arguments_of_new(rows_of([out_of_escrow])) is None
    given = values(moved("e", (ONE, 1), (ESCROW, -1)))
    given[DEBITS], given[CREDITS] = given[CREDITS], given[DEBITS]
    assert await posted(database, scope, given) is None
    async with database.transaction(scope) as tx:
        await ledger.post_many(tx, [out_of_escrow])
        assert (await ledger.balance(tx, ESCROW.code)).posted_minor == 1


async def test_all_that_there_is_may_be_spent(database: Database, scope: Scope) -> None:
    """To the last unit, counting what the batch itself brings; and held likewise."""
    batch = moved("b", (PROVIDER, 7), (TWO, -7)), moved("c", (TWO, 107), (ONE, -107))
    assert await posted(database, scope, values(*batch)) is not None
    hold = moved("h", (ONE, 207), (ESCROW, -207), phase=Phase.PENDING, expires_at=LATER)
    assert await posted(database, scope, values(hold)) is not None
    async with database.transaction(scope) as tx:
        found = [await ledger.balance(tx, each.code) for each in (TWO, ONE, ESCROW)]
        written = await ledger.transaction(tx, "h")
    assert [(each.posted_minor, each.pending_in_minor, each.pending_out_minor) for each in found] == [
        (0, 0, 0),
        (207, 0, 207),
        (2, 207, 0),
    ]
    assert written is not None and (written.phase, written.expires_at) == (Phase.PENDING, LATER)
    async with database.transaction(scope) as tx:
        with pytest.raises(InsufficientFunds):
            await ledger.post_many(tx, [moved("x", (ONE, 1), (TWO, -1))])


async def test_parts_share_their_number(database: Database, scope: Scope) -> None:
    """Ids come in the order of the postings, whatever the order of their keys."""
    split = moved("s", (PROVIDER, 9), (ONE, -4), (TWO, -3), (FEES, -2))
    ids = await posted(database, scope, values(moved("z", (PROVIDER, 1), (ONE, -1)), split, PLAIN))
    assert ids is not None and ids[1:4] == [ids[1]] * 3 and len(set(ids)) == 3
    async with database.transaction(scope) as tx:
        found = {key: await ledger.transaction(tx, key) for key in ("z", "s", "a")}
        assert [(await ledger.balance(tx, each.code)).posted_minor for each in (ONE, TWO, FEES)] == [110, 103, 73]
    assert [each and each.id for each in found.values()] == [ids[0], ids[1], ids[4]]
    assert found["s"] is not None
    assert [(leg.code, leg.amount_minor) for leg in found["s"].legs] == [
        (PROVIDER.code, 4), (ONE.code, -4), (PROVIDER.code, 3), (TWO.code, -3), (PROVIDER.code, 2), (FEES.code, -2)
    ]  # fmt: skip


async def test_an_account_no_transfer_names_is_refused(database: Database, scope: Scope) -> None:
    """The sums lie beside the codes by position: one too many would lay all of them wrong."""
    given = values(moved("a", (PROVIDER, 5), (FEES, -5)))
    given[CODES], given[STRIPES] = f"{{{ONE.code},{FEES.code},{PROVIDER.code}}}", "{1,16,16}"
    assert await posted(database, scope, given) is None


NO_TRANSFER = [
    (AMOUNTS, "{-5}"),
    (AMOUNTS, "{0}"),
    (AMOUNTS, "{null}"),
    (DEBITS, "{7}"),
    (DEBITS, "{0}"),
    (DEBITS, "{2}"),
    (CURRENCY, "KES"),
]


@pytest.mark.parametrize(("at", "value"), NO_TRANSFER)
async def test_what_is_no_transfer_is_refused(database: Database, scope: Scope, at: int, value: str) -> None:
    """An amount that is none, a position that is no account's, one account on both sides, another currency than theirs."""
    given = values(PLAIN)
    given[at] = value
    async with database.transaction(scope) as tx:
        before = await facts(tx)
    with suppress(psycopg.IntegrityError):
        assert await posted(database, scope, given) is None
    async with database.transaction(scope) as tx:
        assert await facts(tx) == before


async def test_balances_are_locked_in_the_order_of_codes_whatever_the_callers(database: Database, scope: Scope) -> None:
    """Who holds the first of two wallets may still take the second: the batch that waits has not locked it."""
    given = values(moved("b", (ONE, 5), (TWO, -5)))
    given[CODES], given[DEBITS], given[CREDITS] = f"{{{TWO.code},{ONE.code}}}", "{2}", "{1}"
    async with database.transaction(scope) as tx:
        await ledger.post(tx, moved("first", (PROVIDER, 1), (ONE, -1)))
        batch = asyncio.create_task(posted(database, scope, given))
        async with asyncio.timeout(10):
            while not (await (await tx.execute("select 1 from pg_locks where not granted")).fetchall()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await ledger.post(tx, moved("second", (PROVIDER, 1), (TWO, -1)))
    assert await batch is not None


async def test_the_same_codes_elsewhere_are_not_touched(database: Database, scope: Scope) -> None:
    live = Scope(tenant_id=scope.tenant_id, mode=Mode.LIVE)
    assert await posted(database, live, values(PLAIN)) is None
    async with database.transaction() as tx:
        [row] = await (await tx.execute(POST_NEW, values(PLAIN))).fetchall()
    assert row["ids"] is None
    async with database.transaction(live) as tx:
        await ledger.post_many(tx, [PLAIN])
    async with database.transaction(scope) as tx:
        assert (await ledger.balance(tx, ONE.code)).posted_minor == 100
    assert await posted(database, scope, values(PLAIN)) is not None
    async with database.transaction(live) as tx:
        assert (await ledger.balance(tx, ONE.code)).posted_minor == 5


def test_what_takes_the_other_door() -> None:
    held = moved("h", (ONE, 5), (ESCROW, -5), phase=Phase.PENDING)
    for batch in ([PLAIN, held], [PLAIN, KES], [PLAIN, accounts.pledge_voided("v", hold="h", as_of=DAY)]):
        assert arguments_of_new(rows_of(batch)) is None
