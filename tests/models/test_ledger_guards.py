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
from infra.database import Database
from models import ledger

DAY = datetime(2030, 1, 1, tzinfo=UTC)
ESCROW = accounts.escrow("cmp_1", "NGN")
WALLET = accounts.wallet("usr_1", "NGN")


def deposit(key: str, amount: int) -> Posting:
    return accounts.deposit_captured(key, provider="stripe", user_id="usr_1", amount=Money(amount, "NGN"), as_of=DAY)


async def run(database: Database, scope: Scope, *postings: Posting) -> list[ledger.PostedTransaction]:
    async with database.transaction(scope) as tx:
        return await ledger.post_many(tx, postings)


CHANGES = (
    "update {} set tenant_id = tenant_id",
    "delete from {}",
    "truncate {}",
)
TABLES = ("ledger_accounts", "ledger_transactions", "ledger_entries", "ledger_balances")


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
    "function", ["ledger_move(null, null, null, null)", "ledger_open(null, null, null, null, null, null)"]
)
async def test_the_app_role_calls_nothing_but_the_posting(database: Database, scope: Scope, function: str) -> None:
    async with database.transaction(scope) as tx:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await tx.execute(f"select {function}")


@pytest.mark.parametrize("url", ["owner", "superuser"])
async def test_nobody_inserts_unbalanced_entries(
    database: Database, scope: Scope, owner_url: str, postgres: EmbeddedPostgres, url: str
) -> None:
    [posted] = await run(database, scope, deposit("d1", 700))
    name = owner_url.rpartition("/")[2]
    with psycopg.connect(owner_url if url == "owner" else postgres.url(name)) as connection:
        connection.execute(
            "select set_config('app.tenant', %s, true), set_config('app.mode', 'test', true)", (str(scope.tenant_id),)
        )
        with pytest.raises(psycopg.DatabaseError) as caught:
            connection.execute(
                "insert into ledger_entries select tenant_id, mode, transaction_id, leg + 10, account_id, currency, "
                "amount_minor + leg %% 2, pending from ledger_entries where transaction_id = %s",
                (posted.id,),
            )
    assert caught.value.sqlstate == "CH004"


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
    async with database.transaction(scope) as tx:
        with pytest.raises(NotFound):
            await ledger.balance(tx, ESCROW.code)


async def test_the_function_refuses_a_key_twice(database: Database, scope: Scope) -> None:
    """Two rows with one key would book its legs twice."""
    arguments = ledger._arguments([deposit("d1", 5), deposit("d1", 5)])
    async with database.transaction(scope) as tx:
        with pytest.raises(psycopg.DatabaseError) as caught:
            await tx.execute(ledger._POST, arguments)
    assert caught.value.sqlstate == "CH002"


async def test_the_tables_are_as_declared(database: Database) -> None:
    for table in (ledger.LedgerAccount, ledger.LedgerBalance, ledger.LedgerTransaction, ledger.LedgerEntry):
        async with database.transaction() as tx:
            rows = await tx.execute(
                "select column_name, is_nullable from information_schema.columns where table_name = %s",
                (table.__tablename__,),
            )
            actual = {row["column_name"]: row["is_nullable"] == "YES" for row in await rows.fetchall()}
        assert actual == {column.name: bool(column.nullable) for column in table.__table__.columns}
