"""The auditor says nothing about true books, and names each planted error: the row, what it should be, what it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from domain import accounts
from domain.money import Money
from infra.database import Database
from models import ledger
from models.audit import Finding, audit_books
from tests.fixtures.postgres import role_url

DAY = datetime(2030, 1, 1, tzinfo=UTC)


class Books:
    """A little history, the auditor, and a superuser who tampers with all triggers off and puts it back."""

    def __init__(self, scope: Scope, auditor: Database, superuser: psycopg.Connection) -> None:
        self.scope, self._auditor, self._superuser = scope, auditor, superuser

    async def findings(self) -> list[Finding]:
        async with self._auditor.transaction() as tx:
            return await audit_books(tx)

    def tamper(self, statement: str) -> None:
        where = f"tenant_id = '{self.scope.tenant_id}'"
        self._superuser.execute("set session_replication_role = replica")
        done = self._superuser.execute(statement.replace("MINE", where))
        self._superuser.execute("set session_replication_role = origin")
        assert done.rowcount != 0

    def by_key(self, key: str) -> str:
        return f"(select id from ledger_transactions where MINE and key = '{key}')"

    def subject(self, name: str) -> str:
        return f"{self.scope}/{name}"


@pytest.fixture
async def books(database: Database, scope: Scope, owner_url: str, postgres: EmbeddedPostgres) -> AsyncIterator[Books]:
    def ngn(amount: int) -> Money:
        return Money(amount, "NGN")

    async with database.transaction(scope) as tx:
        await ledger.post_many(
            tx,
            [
                accounts.deposit_captured("d1", provider="stripe", user_id="usr_1", amount=ngn(700), as_of=DAY),
                accounts.payment_charged(
                    "c1", provider="stripe", into=accounts.escrow("cmp_1", "NGN"), amount=ngn(90), as_of=DAY
                ),
                *(
                    accounts.wallet_pledged(f"p{n}", user_id="usr_1", campaign_id="cmp_1", amount=ngn(100), as_of=DAY)
                    for n in range(3)
                ),
            ],
        )
        await ledger.post(tx, accounts.pledge_captured("p0/c", hold="p0", as_of=DAY, amount=ngn(60)))
        await ledger.post(tx, accounts.pledge_voided("p1/v", hold="p1", as_of=DAY))
        await ledger.post(tx, accounts.reversal("c1/r", target="c1", as_of=DAY))
    auditor = Database(role_url(owner_url, "chama_audit"), name="audit", max_size=1)
    await auditor.open()
    with psycopg.connect(postgres.url(owner_url.rpartition("/")[2]), autocommit=True) as superuser:
        found = Books(scope, auditor, superuser)
        assert await found.findings() == []
        yield found
        for table in ("ledger_entries", "ledger_transactions", "ledger_balances", "ledger_accounts"):
            superuser.execute(f"set session_replication_role = replica; delete from {table}")
    await auditor.close()


async def test_a_single_unit_in_one_leg(books: Books) -> None:
    books.tamper(
        f"update ledger_entries set amount_minor = amount_minor + 1 where MINE and leg = 1 "
        f"and transaction_id = {books.by_key('d1')}"
    )
    found = await books.findings()
    assert Finding("A1", books.subject("d1"), "legs do not sum to zero in NGN", "0", "1") in found
    assert [(each.invariant, each.subject) for each in found] == [
        ("A1", books.subject("d1")),
        ("A3", books.subject("provider:stripe:NGN")),
    ]
    assert "A1" in str(found[0]) and books.subject("d1") in str(found[0])


async def test_a_single_unit_in_a_cached_balance(books: Books) -> None:
    books.tamper(
        "update ledger_balances set posted_minor = posted_minor + 1 where MINE and account_id = "
        "(select id from ledger_accounts where MINE and code = 'wallet:usr_1:NGN')"
    )
    [found] = await books.findings()
    assert (found.invariant, found.subject) == ("A3", books.subject("wallet:usr_1:NGN"))
    assert found.expected == "-640, 100, 0" and found.actual.startswith("-639, 100, 0")


async def test_a_single_unit_in_a_cached_hold(books: Books) -> None:
    books.tamper(
        "update ledger_balances set pending_debit_minor = pending_debit_minor - 1 where MINE and account_id = "
        "(select id from ledger_accounts where MINE and code = 'wallet:usr_1:NGN')"
    )
    assert [each.invariant for each in await books.findings()] == ["A3"]


async def test_a_lost_stripe(books: Books) -> None:
    books.tamper(
        "delete from ledger_balances where ctid = (select min(ctid) from ledger_balances where MINE and posted_minor = 0)"
    )
    assert [each.invariant for each in await books.findings()] == ["A3"]


async def test_a_lost_leg_and_a_lost_transaction(books: Books) -> None:
    books.tamper(f"delete from ledger_entries where MINE and transaction_id = {books.by_key('d1')}")
    found = await books.findings()
    assert ("A1", books.subject("d1"), "some") in [(each.invariant, each.subject, each.expected) for each in found]
    assert ("A4", books.subject("wallet:usr_1:NGN")) in [(each.invariant, each.subject) for each in found]
    books.tamper("delete from ledger_transactions where MINE and key = 'p2'")
    assert "no transaction" in [each.actual.partition(",")[0] for each in await books.findings()]


async def test_an_account_below_its_floor(books: Books) -> None:
    """A balanced, cached, but impossible posting: only the floor is broken."""
    books.tamper("""
        with t as (
            insert into ledger_transactions (tenant_id, mode, key, event, phase, payload_hash, effective_at)
            select tenant_id, mode, 'theft', 'theft', 'single', payload_hash, effective_at
              from ledger_transactions where MINE and key = 'd1' returning *
        ), e as (
            insert into ledger_entries
            select t.tenant_id, t.mode, t.id, row_number() over (order by code), a.id, 'NGN',
                   case kind when 'asset' then -541 else 541 end, false
              from t join ledger_accounts a on a.tenant_id = t.tenant_id
             where code in ('wallet:usr_1:NGN', 'provider:stripe:NGN') returning *
        )
        update ledger_balances b set posted_minor = b.posted_minor + e.amount_minor
          from e where b.tenant_id = e.tenant_id and b.account_id = e.account_id and b.stripe = 0
    """)
    assert await books.findings() == [
        Finding("A4", books.subject("wallet:usr_1:NGN"), "available, holds counted", ">= 0", "-1")
    ]


async def test_a_hold_resolved_twice(books: Books, owner_url: str) -> None:
    books.tamper("drop index ledger_transactions_target")
    books.tamper(
        "insert into ledger_transactions (tenant_id, mode, key, event, phase, target_id, payload_hash, effective_at) select "
        "tenant_id, mode, 'p1/again', event, phase, target_id, payload_hash, effective_at from ledger_transactions "
        "where MINE and key = 'p1/v'"
    )
    [found] = await books.findings()
    assert (found.invariant, found.subject) == ("A5", books.subject("p1"))
    assert found.detail == "resolved by p1/v, p1/again" and found.actual == "2 of a pending"
    books.tamper("delete from ledger_transactions where MINE and key = 'p1/again'")
    books.tamper(
        "create unique index ledger_transactions_target on ledger_transactions "
        "(target_id, tenant_id, mode, (phase = 'reversal')) where target_id is not null"
    )


@pytest.mark.parametrize(("key", "subject"), [("p0/c", "p0/c"), ("c1/r", "c1/r")])
async def test_more_posted_than_held_and_a_crooked_reversal(books: Books, key: str, subject: str) -> None:
    books.tamper(
        f"update ledger_entries set amount_minor = amount_minor + 41 * sign(amount_minor)::int where MINE "
        f"and transaction_id = {books.by_key(key)}"
    )
    found = {(each.invariant, each.subject) for each in await books.findings()}
    assert ("A5", books.subject(subject)) in found


async def test_a_resolution_of_what_is_no_hold(books: Books) -> None:
    books.tamper(f"update ledger_transactions set target_id = {books.by_key('d1')} where MINE and key = 'p1/v'")
    assert ("A5", books.subject("d1")) in {(each.invariant, each.subject) for each in await books.findings()}


@pytest.mark.parametrize(
    ("harm", "cure", "subject"),
    [
        (
            "alter table ledger_entries disable trigger ledger_entries_no_change",
            "alter table ledger_entries enable trigger ledger_entries_no_change",
            "ledger_entries.ledger_entries_no_change",
        ),
        (
            "grant delete on ledger_entries to chama_app",
            "revoke delete on ledger_entries from chama_app",
            "ledger_entries DELETE",
        ),
        (
            "alter table ledger_balances no force row level security",
            "alter table ledger_balances force row level security",
            "ledger_balances",
        ),
    ],
)
async def test_a_guard_taken_down(books: Books, harm: str, cure: str, subject: str) -> None:
    books.tamper(harm)
    found = await books.findings()
    books.tamper(cure)
    assert [(each.invariant, each.subject) for each in found] == [("A6", subject)]
