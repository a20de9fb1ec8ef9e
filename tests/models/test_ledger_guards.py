"""What the database refuses to everybody: changing the past, unbalanced entries, other doors than the one function."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from domain import accounts
from domain.accounts import Leg, Posting
from domain.errors import NotFound
from domain.money import Money
from domain.transfers import Transfer
from infra.database import Database
from models import ledger
from models.ledger import LedgerTransfer
from models.ledger_arguments import POST, POST_ONE, arguments, rows_of

DAY = datetime(2030, 1, 1, tzinfo=UTC)
ESCROW = accounts.escrow("cmp_1", "NGN")
WALLET = accounts.wallet("usr_1", "NGN")


def deposit(key: str, amount: int) -> Posting:
    return accounts.deposit_captured(key, provider="stripe", user_id="usr_1", amount=Money(amount, "NGN"), as_of=DAY)


async def run(database: Database, scope: Scope, *postings: Posting) -> list[ledger.PostedTransaction]:
    async with database.transaction(scope) as tx:
        if len(postings) == 1:
            return [await ledger.post(tx, postings[0])]
        return await ledger.post_many(tx, postings)


CHANGES = (
    "update {} set tenant_id = tenant_id",
    "delete from {}",
    "truncate {}",
)
TABLES = ("ledger_accounts", "ledger_transfers", "ledger_balances")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_app_role_may_change_nothing(database: Database, scope: Scope, table: str, change: str) -> None:
    await run(database, scope, deposit("d1", 700))
    async with database.transaction(scope) as tx:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            await tx.execute(change.format(table))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_trigger_refuses_even_the_owner(
    database: Database, scope: Scope, owner_url: str, table: str, change: str
) -> None:
    if table == "ledger_balances" and change.startswith("update"):
        return  # the cached balance is the one thing that changes, and only ledger_post changes it
    await run(database, scope, deposit("d1", 700))
    owner = Database(owner_url, name="owner", max_size=1)
    await owner.open()
    async with owner.transaction(scope) as tx:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            async with tx.transaction():
                await tx.execute(change.format(table))
    await owner.close()


@pytest.mark.parametrize(
    "function",
    [
        "ledger_move(null, null, null, null)",
        "ledger_move_one(null, null, null, null, null, null)",
        "ledger_open(null, null, null, null, null, null)",
    ],
)
async def test_the_app_role_calls_nothing_but_the_posting(database: Database, scope: Scope, function: str) -> None:
    async with database.transaction(scope) as tx:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await tx.execute(f"select {function}")


CROOKED = {
    "nothing moves": {"amount_minor": "0"},
    "backwards": {"amount_minor": "-amount_minor"},
    "no amount": {"amount_minor": "null"},
    "to itself": {"credit_id": "debit_id"},
    "from nowhere": {"credit_id": "null"},
    "to nowhere": {"debit_id": "null"},
    "of no currency": {"currency": "null"},
}


@pytest.mark.parametrize("how", CROOKED)
@pytest.mark.parametrize("url", ["owner", "superuser"])
async def test_nobody_inserts_unbalanced_entries(
    database: Database, scope: Scope, owner_url: str, postgres: EmbeddedPostgres, url: str, how: str
) -> None:
    """A row credits what it debits, so all there is to refuse is a row that moves nothing, or from or to nowhere."""
    [posted] = await run(database, scope, deposit("d1", 700))
    columns = {name: name for name in LedgerTransfer.model_fields if name != "id"}
    columns |= {"key": "key || '/x'", **CROOKED[how]}
    with psycopg.connect(owner_url if url == "owner" else postgres.url(owner_url.rpartition("/")[2])) as connection:
        connection.execute(
            "select set_config('app.tenant', %s, true), set_config('app.mode', 'test', true)", (str(scope.tenant_id),)
        )
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
            connection.execute(
                f"insert into ledger_transfers ({', '.join(columns)}) select {', '.join(columns.values())} "
                "from ledger_transfers where id = %s",
                (posted.id,),
            )


async def test_the_views_cannot_be_written(database: Database, scope: Scope) -> None:
    await run(database, scope, deposit("d1", 700))
    for statement in ("delete from ledger_transactions", "update ledger_transactions set key = 'x'"):
        async with database.transaction(scope) as tx:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await tx.execute(statement)


async def test_the_function_refuses_what_the_domain_would(database: Database, scope: Scope) -> None:
    """A caller that skips the domain's checks meets the database's."""

    def forged(**changes: object) -> Posting:
        posting = deposit(f"x{uuid4()}", 5)
        for name, value in changes.items():
            object.__setattr__(posting, name, value)
        return posting

    with pytest.raises(accounts.InvalidPosting):
        await run(database, scope, forged(legs=(Leg(WALLET, 5), Leg(ESCROW, -4))))
    with pytest.raises(accounts.InvalidPosting):
        kes = accounts.wallet("usr_1", "KES")
        await run(database, scope, forged(legs=(Leg(kes, 5), Leg(ESCROW, -5))))
    with pytest.raises(psycopg.errors.CheckViolation):
        await run(database, scope, forged(legs=(Leg(WALLET, 0), Leg(ESCROW, 0))))
    with pytest.raises(psycopg.errors.CheckViolation):
        await run(database, scope, forged(legs=(Leg(WALLET, 5), Leg(WALLET, -5))))
    async with database.transaction(scope) as tx:
        with pytest.raises(NotFound):
            await ledger.balance(tx, ESCROW.code)


async def test_both_doors_refuse_two_currencies(database: Database, scope: Scope) -> None:
    kes = accounts.deposit_captured("k1", provider="stripe", user_id="usr_1", amount=Money(5, "KES"), as_of=DAY)
    await run(database, scope, deposit("d1", 5), kes)
    move = Transfer(accounts.wallet("usr_1", "KES"), ESCROW, 5)
    one = deposit("x", 5)
    doors = (
        (POST, arguments([(one, 1, move)])),
        (POST_ONE, ("x", "x", "single", uuid4(), DAY, None, "wallet:usr_1:KES", "provider:stripe:NGN", 5)),
    )
    for query, values in doors:
        async with database.transaction(scope) as tx:
            with pytest.raises(psycopg.DatabaseError) as caught:
                await tx.execute(query, values)
        assert caught.value.sqlstate == "CH004"


async def test_the_door_for_one_takes_no_resolution(database: Database, scope: Scope) -> None:
    """Without its target a resolution would free nothing, and a reversal be a posting like any other."""
    await run(database, scope, deposit("d1", 5))
    for phase in ("post", "void", "expire", "reversal"):
        values = ("x", "x", phase, uuid4(), DAY, None, "provider:stripe:NGN", WALLET.code, 5)
        async with database.transaction(scope) as tx:
            assert await (await tx.execute(POST_ONE, values)).fetchone() == {"id": None}


async def test_the_function_refuses_a_key_twice(database: Database, scope: Scope) -> None:
    """Two rows with one key would book its legs twice."""
    values = arguments(rows_of([deposit("d1", 5), deposit("d1", 5)]))
    async with database.transaction(scope) as tx:
        with pytest.raises(psycopg.DatabaseError) as caught:
            await tx.execute(POST, values)
    assert caught.value.sqlstate == "CH002"


async def test_the_tables_are_as_declared(database: Database) -> None:
    for table in (ledger.LedgerAccount, ledger.LedgerBalance, ledger.LedgerTransfer):
        async with database.transaction() as tx:
            rows = await tx.execute(
                "select column_name, is_nullable from information_schema.columns where table_name = %s",
                (table.__tablename__,),
            )
            actual = {row["column_name"]: row["is_nullable"] == "YES" for row in await rows.fetchall()}
        assert actual == {column.name: bool(column.nullable) for column in table.__table__.columns}
