"""The auditor says nothing about true books, and names each planted error: the row, what it should be, what it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Scope
from domain import accounts
from domain.accounts import AccountKind, AccountSpec, Leg, Phase, Posting
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
        for table in ("ledger_transfers", "ledger_balances", "ledger_accounts"):
            superuser.execute(f"set session_replication_role = replica; delete from {table}")
    await auditor.close()


async def test_a_single_unit_in_one_transfer(books: Books) -> None:
    """It is still balanced, but neither account has what it should."""
    books.tamper("update ledger_transfers set amount_minor = amount_minor + 1 where MINE and key = 'd1'")
    found = await books.findings()
    assert {(each.invariant, each.subject) for each in found} == {
        ("A3", books.subject("provider:stripe:NGN")),
        ("A3", books.subject("wallet:usr_1:NGN")),
    }
    assert "A3" in str(found[0]) and str(books.scope) in str(found[0])


CROOKED = {
    "backwards": ("set amount_minor = -amount_minor", "-700, provider:stripe:NGN, wallet:usr_1:NGN"),
    "to itself": ("set credit_id = debit_id", "700, provider:stripe:NGN, provider:stripe:NGN"),
    "another currency": ("set currency = 'KES'", "700, provider:stripe:NGN, wallet:usr_1:NGN"),
    "nobody's account": ("set credit_id = 2^40", "700, provider:stripe:NGN, no account"),
    "another tenant's account": (
        "set credit_id = (select id from ledger_accounts where tenant_id = '00000000-0000-0000-0000-000000000000')",
        "700, provider:stripe:NGN, no account",
    ),
    "another tenant": ("set mode = 'live'", "700, no account, no account"),
}


@pytest.mark.parametrize("how", CROOKED)
async def test_a_transfer_that_cannot_be(books: Books, how: str) -> None:
    change, actual = CROOKED[how]
    books.tamper("alter table ledger_transfers drop constraint ledger_transfers_moves_money")
    books.tamper(
        "insert into tenants (id, slug, name) values ('00000000-0000-0000-0000-000000000000', 'other', 'Other')"
    )
    books.tamper(
        "insert into ledger_accounts (tenant_id, mode, code, currency, kind, bounded, stripes) "
        "values ('00000000-0000-0000-0000-000000000000', 'test', 'wallet:x:NGN', 'NGN', 'liability', true, 1)"
    )
    books.tamper(f"update ledger_transfers {change} where MINE and key = 'd1'")
    found = await books.findings()
    books.tamper("delete from ledger_transfers where MINE and key = 'd1'")
    books.tamper("delete from tenants where slug = 'other'")
    books.tamper(
        "alter table ledger_transfers add constraint ledger_transfers_moves_money "
        "check (amount_minor > 0 and debit_id <> credit_id)"
    )
    assert [each.actual for each in found if each.invariant == "A1"] == [actual]
    assert [each.subject for each in found if each.invariant == "A6"] == [
        "ledger_transfers.ledger_transfers_moves_money"
    ]


UNLIKE = {
    "another event": ("set event = 'x' where MINE and key = 's1' and part = 2", "parts 1, 2 of 2 kinds"),
    "another hash": (
        "set payload_hash = gen_random_uuid() where MINE and key = 's1' and part = 2",
        "parts 1, 2 of 2 kinds",
    ),
    "another key": ("set key = 's2' where MINE and key = 's1' and part = 2", "parts 1, 2 of 2 kinds"),
    "no first": ("set part = 3 where MINE and key = 's1' and part = 1", "parts 2, 3 of 1 kinds"),
    "a gap": ("set part = 3 where MINE and key = 's1' and part = 2", "parts 1, 3 of 1 kinds"),
}


@pytest.mark.parametrize("how", UNLIKE)
async def test_parts_that_do_not_belong_together(books: Books, database: Database, how: str) -> None:
    wallet, fee = accounts.wallet("usr_1", "NGN"), AccountSpec("fees:NGN", "NGN", AccountKind.REVENUE, bounded=False)
    legs = (Leg(wallet, 3), Leg(accounts.escrow("cmp_1", "NGN"), -2), Leg(fee, -1))
    async with database.transaction(books.scope) as tx:
        await ledger.post(tx, Posting("s1", "split", Phase.SINGLE, DAY, legs))
    assert await books.findings() == []
    change, actual = UNLIKE[how]
    books.tamper(f"update ledger_transfers {change}")
    assert ("A1", actual) in [(each.invariant, each.actual) for each in await books.findings()]


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


REPEATED = {
    "code = 'wallet:usr_2:NGN'": "wallet:usr_2:NGN, 1, t, f, f, t",
    "debits_freely = true": "wallet:usr_1:NGN, 1, t, f, t, t",
    "stripes = 2, bounded = false": "wallet:usr_1:NGN, 2, f, f, f, t",
}


@pytest.mark.parametrize("change", REPEATED)
async def test_a_balance_that_says_other_things_of_its_account(books: Books, change: str) -> None:
    books.tamper(
        f"update ledger_balances set {change} where MINE and account_id = "
        "(select id from ledger_accounts where MINE and code = 'wallet:usr_1:NGN')"
    )
    [found] = await books.findings()
    assert (found.invariant, found.subject) == ("A3", books.subject("wallet:usr_1:NGN"))
    assert found.expected == "wallet:usr_1:NGN, 1, t, f, f, t" and found.actual.endswith(REPEATED[change])


async def test_a_lost_stripe(books: Books) -> None:
    books.tamper(
        "delete from ledger_balances where ctid = (select min(ctid) from ledger_balances where MINE and posted_minor = 0)"
    )
    assert [each.invariant for each in await books.findings()] == ["A3"]


async def test_a_lost_transfer(books: Books) -> None:
    books.tamper("delete from ledger_transfers where MINE and key = 'd1'")
    found = {(each.invariant, each.subject) for each in await books.findings()}
    assert {("A3", books.subject("provider:stripe:NGN")), ("A4", books.subject("wallet:usr_1:NGN"))} <= found
    books.tamper("delete from ledger_transfers where MINE and key = 'p1'")
    assert ("A5", "1 of a missing transaction") in [(each.invariant, each.actual) for each in await books.findings()]


async def test_an_account_below_its_floor(books: Books) -> None:
    """A balanced, cached, but impossible posting: only the floor is broken."""
    books.tamper("""
        with t as (
            insert into ledger_transfers (tenant_id, mode, key, part, event, phase, payload_hash, debit_id, credit_id, currency,
                                          amount_minor, effective_at)
            select tenant_id, mode, 'theft', 1, 'theft', 'single', payload_hash, credit_id, debit_id, currency, 541, effective_at
              from ledger_transfers where MINE and key = 'd1' returning *
        )
        update ledger_balances b set posted_minor = b.posted_minor + case when b.account_id = t.debit_id then 541 else -541 end
          from t where b.tenant_id = t.tenant_id and b.account_id in (t.debit_id, t.credit_id) and b.stripe = 0
    """)
    assert await books.findings() == [
        Finding("A4", books.subject("wallet:usr_1:NGN"), "available, holds counted", ">= 0", "-1")
    ]


async def test_a_hold_resolved_twice(books: Books, owner_url: str) -> None:
    books.tamper("drop index ledger_transfers_target")
    books.tamper(
        "insert into ledger_transfers (tenant_id, mode, key, part, event, phase, target_id, payload_hash, debit_id, credit_id, "
        "currency, amount_minor, effective_at) select tenant_id, mode, 'p1/again', part, event, phase, target_id, payload_hash, "
        "debit_id, credit_id, currency, amount_minor, effective_at from ledger_transfers where MINE and key = 'p1/v'"
    )
    found, guard = await books.findings()
    assert (found.invariant, found.subject) == ("A5", books.subject("p1"))
    assert found.detail == "resolved by p1/v, p1/again" and found.actual == "2 of a pending"
    assert (guard.invariant, guard.subject) == ("A6", "ledger_transfers.ledger_transfers_target")
    books.tamper("delete from ledger_transfers where MINE and key = 'p1/again'")
    books.tamper(
        "create unique index ledger_transfers_target on ledger_transfers "
        "(target_id, part, (phase = 'reversal')) where target_id is not null"
    )


MIRRORS = {
    "more posted than held": ("p0/c", "amount_minor = 101"),
    "more released than held": ("p1/v", "amount_minor = 101"),
    "less released than held": ("p1/v", "amount_minor = 99"),
    "released to others": ("p1/v", "debit_id = credit_id, credit_id = debit_id"),
    "a crooked reversal": ("c1/r", "amount_minor = 89"),
    "a reversal the same way": ("c1/r", "debit_id = credit_id, credit_id = debit_id"),
    "a part its target has not": ("p1/v", "part = 2"),
}


@pytest.mark.parametrize("how", MIRRORS)
async def test_a_resolution_unlike_its_target(books: Books, how: str) -> None:
    key, change = MIRRORS[how]
    books.tamper(f"update ledger_transfers set {change} where MINE and key = '{key}'")
    found = {(each.invariant, each.subject) for each in await books.findings()}
    assert ("A5", books.subject(key)) in found


async def test_a_resolution_of_what_is_no_hold(books: Books) -> None:
    books.tamper(f"update ledger_transfers set target_id = {books.by_key('d1')} where MINE and key = 'p1/v'")
    assert ("A5", books.subject("d1")) in {(each.invariant, each.subject) for each in await books.findings()}


@pytest.mark.parametrize(
    ("harm", "cure", "subject"),
    [
        (
            "alter table ledger_transfers disable trigger ledger_transfers_no_change",
            "alter table ledger_transfers enable trigger ledger_transfers_no_change",
            "ledger_transfers.ledger_transfers_no_change",
        ),
        (
            "grant delete on ledger_transfers to chama_app",
            "revoke delete on ledger_transfers from chama_app",
            "ledger_transfers DELETE",
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
