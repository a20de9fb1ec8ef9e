"""The door for what lowers nothing moves balances before it writes the transfer: where it cannot write, nothing has moved."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from contracts.base import Mode, Scope
from domain import accounts
from domain.accounts import Posting
from domain.money import Money
from infra.database import Database, Tx
from models import ledger
from models.ledger_arguments import ADD, values_to_add

DAY = datetime(2030, 1, 1, tzinfo=UTC)
PROVIDER, WALLET, SHILLINGS = "provider:stripe:NGN", "wallet:usr_1:NGN", "wallet:usr_1:KES"
HASH = uuid4()


def deposit(key: str, amount: int, currency: str = "NGN") -> Posting:
    money = Money(amount, currency)
    return accounts.deposit_captured(key, provider="stripe", user_id="usr_1", amount=money, as_of=DAY)


def add(key: str, debit: tuple[str, int], credit: tuple[str, int], minor: int = 5) -> Sequence[object]:
    return (key, "moved", HASH, DAY, *debit, *credit, minor)


CANNOT = {
    "a key of another posting": add("d1", (PROVIDER, 16), (WALLET, 1)),
    "an account that is not open, debited": add("x", ("provider:none:NGN", 16), (WALLET, 1)),
    "an account that is not open, credited": add("x", (PROVIDER, 16), ("wallet:usr_2:NGN", 1)),
    "neither open": add("x", ("provider:none:NGN", 16), ("wallet:usr_2:NGN", 1)),
    "two currencies": add("x", (PROVIDER, 16), (SHILLINGS, 1)),
    "a wallet that pays, before in the order of locks": add("x", (WALLET, 1), ("zz:rest:NGN", 1)),
    "a wallet that pays, behind in the order of locks": add("x", (WALLET, 1), (PROVIDER, 16)),
    "a bounded asset that pays": add("x", (PROVIDER, 16), ("till:NGN", 1)),
    "a stripe there is not": add("x", (PROVIDER, 16), (WALLET, 30_000)),
}


async def figures(tx: Tx) -> list[tuple[str, int, int]]:
    return [(each.code, each.posted_minor, each.pending_out_minor) for each in await ledger.accounts(tx)]


async def transfers(tx: Tx) -> list[str]:
    return [row["key"] for row in await (await tx.execute("select key from ledger_transfers order by id")).fetchall()]


@pytest.fixture
async def opened(database: Database, scope: Scope) -> None:
    till = accounts.AccountSpec("till:NGN", "NGN", accounts.AccountKind.ASSET, bounded=True)
    rest = accounts.AccountSpec("zz:rest:NGN", "NGN", accounts.AccountKind.SUSPENSE, bounded=False)
    legs = accounts.Leg(till, 70), accounts.Leg(rest, -70)
    async with database.transaction(scope) as tx:
        await ledger.post(tx, deposit("d1", 700))
        await ledger.post(tx, deposit("d2", 50, "KES"))
        await ledger.post(tx, Posting("t1", "filled", accounts.Phase.SINGLE, DAY, legs))


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("why", CANNOT)
async def test_what_it_cannot_write_moves_nothing(database: Database, scope: Scope, why: str) -> None:
    async with database.transaction(scope) as tx:
        before = await figures(tx), await transfers(tx)
        assert await (await tx.execute(ADD, CANNOT[why])).fetchone() == {"id": None}
    async with database.transaction(scope) as tx:
        assert (await figures(tx), await transfers(tx)) == before


@pytest.mark.usefixtures("opened")
async def test_the_door_writes_what_it_can(database: Database, scope: Scope) -> None:
    """The same call as above, with nothing in its way."""
    async with database.transaction(scope) as tx:
        [row] = await (await tx.execute(ADD, add("x", (PROVIDER, 16), (WALLET, 1)))).fetchall()
        assert row["id"] is not None
        assert (
            (await ledger.balance(tx, PROVIDER)).posted_minor == (await ledger.balance(tx, WALLET)).posted_minor == 705
        )
        written = await ledger.transaction(tx, "x")
    assert written is not None and written.id == row["id"]
    assert [(leg.code, leg.amount_minor, leg.currency) for leg in written.legs] == [
        (PROVIDER, 5, "NGN"),
        (WALLET, -5, "NGN"),
    ]


@pytest.mark.usefixtures("opened")
async def test_fewer_stripes_than_there_are_will_do(database: Database, scope: Scope) -> None:
    """A process that was started with an older chart counts as every other does: the balance is the sum."""
    async with database.transaction(scope) as tx:
        for n in range(3):
            [row] = await (await tx.execute(ADD, add(f"x{n}", (PROVIDER, 1 + n), (WALLET, 1)))).fetchall()
            assert row["id"] is not None
        assert (await ledger.balance(tx, PROVIDER)).posted_minor == 715


@pytest.mark.usefixtures("opened")
async def test_a_replay_is_answered_and_moves_nothing(database: Database, scope: Scope) -> None:
    async with database.transaction(scope) as tx:
        first = await ledger.post(tx, deposit("again", 5))
        second = await ledger.post(tx, deposit("again", 5))
        assert (first.replayed, second.replayed, first.id) == (False, True, second.id)
        assert (await ledger.balance(tx, WALLET)).posted_minor == 705


@pytest.mark.usefixtures("opened")
async def test_the_same_code_elsewhere_is_not_touched(database: Database, scope: Scope) -> None:
    """Another mode of the tenant has accounts of the same codes; without a scope there are none at all."""
    live = Scope(tenant_id=scope.tenant_id, mode=Mode.LIVE)
    values = values_to_add(deposit("elsewhere", 5))
    assert values is not None
    for other in (live, None):
        async with database.transaction(other) as tx:
            assert await (await tx.execute(ADD, values)).fetchone() == {"id": None}
    async with database.transaction(live) as tx:
        await ledger.post(tx, deposit("elsewhere", 5))
    async with database.transaction(scope) as tx:
        assert (await ledger.balance(tx, WALLET)).posted_minor == 700
        await ledger.post(tx, deposit("here", 5))
    async with database.transaction(live) as tx:
        assert (await ledger.balance(tx, WALLET)).posted_minor == 5


def test_what_is_held_or_lowers_takes_another_door() -> None:
    money = Money(5, "NGN")
    hold = accounts.wallet_pledged("p", user_id="usr_1", campaign_id="cmp_1", amount=money, as_of=DAY)
    refund = Posting("r", "refunded", accounts.Phase.SINGLE, DAY, tuple(
        accounts.Leg(leg.account, -leg.amount_minor) for leg in deposit("d", 5).legs
    ))  # fmt: skip
    assert values_to_add(hold) is None and values_to_add(refund) is None and values_to_add(deposit("d", 5)) is not None
