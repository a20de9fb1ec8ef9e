"""The ledger of 0006, headers and legs, becomes transfers: every key, entry and balance is what it was (migration 0007)."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import cli.migrate
from cli.stack.postgres import EmbeddedPostgres
from cli.verify import examine
from contracts.base import Mode, Scope
from domain import accounts
from domain.accounts import AccountKind, AccountSpec, Leg, Phase, Posting
from domain.money import Money
from infra.database import Database
from models import ledger
from models.audit import audit_books
from tests.chain.books import chain_all, settings
from tests.fixtures.postgres import PASSWORD, add_tenant, role_url

DAY = datetime(2030, 1, 1, tzinfo=UTC)
ESCROW, WALLET = accounts.escrow("cmp_1", "NGN"), accounts.wallet("usr_1", "NGN")
FEE = AccountSpec("fees:NGN", "NGN", AccountKind.REVENUE, bounded=False)
KES, SHILLINGS = accounts.wallet("usr_1", "KES"), accounts.provider_clearing("mpesa", "KES")
MANY = (Leg(WALLET, 60), Leg(KES, -8), Leg(WALLET, 40), Leg(ESCROW, -97), Leg(SHILLINGS, 8), Leg(FEE, -3))

_POST = """
select ledger_post(%s::text[], %s::text[], %s::ledger_phase[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::text[],
                   %s::bigint[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::smallint[], %s::int[], %s::int[],
                   %s::bigint[])
"""
_ENTRIES = """
select t.tenant_id::text, t.mode, t.id, t.key, e.account_id, e.currency, e.pending, sum(e.amount_minor)::bigint
  from ledger_transactions t join ledger_entries e on e.transaction_id = t.id group by 1, 2, 3, 4, 5, 6, 7 order by 3, 5, 7
"""
_TRANSACTIONS = "select * from ledger_transactions order by id"
_BALANCES = """
select tenant_id, mode, account_id, stripe, stripes, bounded, debit_normal, posted_minor, pending_debit_minor,
       pending_credit_minor
  from ledger_balances order by account_id, stripe
"""


def deposit(key: str, amount: int) -> Posting:
    return accounts.deposit_captured(key, provider="stripe", user_id="usr_1", amount=Money(amount, "NGN"), as_of=DAY)


def pledge(key: str, amount: int) -> Posting:
    return accounts.wallet_pledged(
        key,
        user_id="usr_1",
        campaign_id="cmp_1",
        amount=Money(amount, "NGN"),
        as_of=DAY,
        expires_at=DAY.replace(year=2031),
    )


HISTORY: tuple[Sequence[Posting], ...] = (
    [deposit(f"d{n}", 1_000 + n) for n in range(40)],
    [pledge(f"p{n}", 10) for n in range(20)],
    [Posting("many", "split", Phase.SINGLE, DAY, MANY)],
    [Posting("hold", "split", Phase.PENDING, DAY, MANY)],
    [
        *(accounts.pledge_captured(f"p{n}/c", hold=f"p{n}", as_of=DAY) for n in range(5)),
        accounts.pledge_captured("p5/c", hold="p5", as_of=DAY, amount=Money(4, "NGN")),
        accounts.pledge_voided("p6/v", hold="p6", as_of=DAY),
        accounts.pledge_expired("p7/e", hold="p7", as_of=DAY.replace(year=2031)),
        Posting("hold/c", "split", Phase.POST, DAY, target="hold"),
        accounts.reversal("many/r", target="many", as_of=DAY),
        accounts.reversal("d0/r", target="d0", as_of=DAY),
    ],
)


def old_arguments(postings: Sequence[Posting]) -> list[Any]:
    """The arrays of 0006: headers, accounts, and legs that point to both by position."""
    legs = [(number, leg) for number, posting in enumerate(postings, start=1) for leg in posting.legs]
    specs = {leg.account.code: leg.account for _, leg in legs}
    codes = list(specs)
    return [
        [p.key for p in postings], [p.event for p in postings], [p.phase.value for p in postings],
        [p.payload_hash for p in postings], [p.effective_at for p in postings], [p.expires_at for p in postings],
        [p.target for p in postings], [p.amount and p.amount.amount_minor for p in postings],
        [p.amount and p.amount.currency for p in postings],
        codes, [specs[code].kind.value for code in codes], [specs[code].bounded for code in codes],
        [specs[code].stripes for code in codes],
        [number for number, _ in legs], [codes.index(leg.account.code) + 1 for _, leg in legs],
        [leg.amount_minor for _, leg in legs],
    ]  # fmt: skip


def to_0006(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(cli.migrate.__file__).parent.parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
    engine.dispose()


def read(superuser: psycopg.Connection[Any]) -> list[list[tuple[Any, ...]]]:
    return [superuser.execute(query).fetchall() for query in (_TRANSACTIONS, _ENTRIES, _BALANCES)]


@pytest.fixture
def database_of_0006(postgres: EmbeddedPostgres) -> str:
    return postgres.create_database("chama_before_transfers", "chama_owner", "owner-password")


async def test_books_of_0006_become_transfers(database_of_0006: str, postgres: EmbeddedPostgres) -> None:
    url = database_of_0006
    to_0006(url)
    scope = Scope(tenant_id=add_tenant(url), mode=Mode.TEST)
    with psycopg.connect(postgres.url("chama_before_transfers"), autocommit=True) as superuser:
        for postings in HISTORY:
            with superuser.transaction():
                setting = "select set_config('app.tenant', %s, true), set_config('app.mode', 'test', true)"
                superuser.execute(setting, (str(scope.tenant_id),))
                superuser.execute(_POST, old_arguments(postings))
        link = (
            "insert into chain_links (chain, position, row_id, tenant_id, mode, hash) values (%s, 1, 1, %s, 'test', %s)"
        )
        for chain in ("ledger_transactions", "ledger_entries", "ledger_accounts"):
            superuser.execute(link, (chain, scope.tenant_id, bytes(32)))
        before = read(superuser)
        cli.migrate.migrate(url, PASSWORD)
        assert read(superuser) == before
        assert superuser.execute("select chain::text from chain_links").fetchall() == [("ledger_accounts",)]
        superuser.execute("set session_replication_role = replica; delete from chain_links")
    await _goes_on(url, scope)


async def _goes_on(url: str, scope: Scope) -> None:
    """What was written before is known, what was open can be resolved, and the chain begins anew."""
    app, auditor = (
        Database(role_url(url, "chama_app"), name="app"),
        Database(role_url(url, "chama_audit"), name="audit"),
    )
    await asyncio.gather(app.open(), auditor.open())
    try:
        async with app.transaction(scope) as tx:
            assert (await ledger.post(tx, deposit("d1", 1_001))).replayed
            assert (await ledger.post(tx, Posting("hold", "split", Phase.PENDING, DAY, MANY))).replayed
            with pytest.raises(accounts.HoldResolved):
                async with tx.transaction():
                    await ledger.void_hold(tx, key="p6/again", hold="p6", event="pledge_voided", as_of=DAY)
            newest = await ledger.post(tx, deposit("new", 1))
            assert newest.id > (await ledger.post(tx, deposit("d1", 1_001))).id
            await ledger.post_hold(tx, key="p8/c", hold="p8", event="pledge_captured", as_of=DAY)
            await ledger.reverse(tx, key="hold/r", target="hold/c", as_of=DAY)
        async with auditor.transaction() as tx:
            assert await audit_books(tx) == []
        assert await chain_all(url, None) > 60
        report = await examine(settings(url))
        assert report.ok and not any(each.not_yet_chained for each in report.chains.values())
    finally:
        await asyncio.gather(app.close(), auditor.close())
