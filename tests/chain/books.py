"""A database with chained books, a person who tampers with it as a superuser, and the verifier."""

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from api.chainer import Chainer
from cli.verify import examine
from contracts.base import Scope
from domain import accounts
from domain.accounts import Leg, Phase, Posting
from domain.money import Money
from infra.anchors import AnchorFile
from infra.database import Database
from infra.settings import Settings
from models import ledger
from models.chain import CHAINS
from models.chain_audit import Report
from tests.fixtures.postgres import PASSWORD, role_url

DAY = datetime(2030, 1, 1, tzinfo=UTC)
TABLES = tuple(chain.table for chain in CHAINS)
AUDIT_ROWS = """insert into audit_log (tenant_id, mode, actor, action, entity, entity_id, request_id, detail)
select %s, 'test', 'usr_' || n, 'toy.made', 'toy', 'toy_' || n, 'req_' || n, jsonb_build_object('amount', n, 'note', 'a "toy"')
  from generate_series(1, %s) n
"""


def settings(owner_url: str, anchors: Path | None = None) -> Settings:
    return Settings(
        database_url=owner_url,
        database_role_password=SecretStr(PASSWORD),
        anchor_file=str(anchors or ""),
        log_level="ERROR",
    )


def deposit(key: str, amount: int = 700) -> Posting:
    return accounts.deposit_captured(
        key, provider="stripe", user_id=f"usr_{len(key)}", amount=Money(amount, "NGN"), as_of=DAY
    )


async def write(owner_url: str, scope: Scope, postings: int, records: int) -> None:
    """Deposits in batches, a hold with its resolution, a posting of two parts, and audit records."""
    db = Database(role_url(owner_url, "chama_app"), name="books", max_size=1)
    await db.open()
    try:
        for first in range(0, postings, 1000):
            batch = [deposit(f"d{n}", n + 1) for n in range(first, min(first + 1000, postings))]
            async with db.transaction(scope) as tx:
                await ledger.post_many(tx, batch)
        async with db.transaction(scope) as tx:
            held = accounts.wallet_pledged("p", user_id="usr_2", campaign_id="c", amount=Money(1, "NGN"), as_of=DAY)
            await ledger.post(tx, held)
            await ledger.post(tx, accounts.pledge_voided("p/v", hold="p", as_of=DAY))
            source, into = accounts.wallet("usr_2", "NGN"), accounts.wallet("usr_3", "NGN")
            legs = (Leg(source, 2), Leg(into, -1), Leg(accounts.escrow("c", "NGN"), -1))
            await ledger.post(tx, Posting("parts", "split", Phase.SINGLE, DAY, legs))
            await tx.execute(AUDIT_ROWS, (scope.tenant_id, records))
    finally:
        await db.close()


async def chain_all(owner_url: str, anchors: AnchorFile | None, *, batch: int = 1000) -> int:
    """Chain everything there is, and anchor it; how many links were written."""
    written = 0
    async with AsyncExitStack() as stack:
        db = Database(role_url(owner_url, "chama_chain"), name="chainer", max_size=1)
        await db.open()
        stack.push_async_callback(db.close)
        chainer = Chainer(db, anchors, batch=batch)
        while more := await chainer.round():
            written += more
        if anchors is not None:
            assert await chainer.anchor()
    return written


@dataclass
class Books:
    """`superuser`: in autocommit, with every trigger off. `put_back` undoes what was done to the tables named."""

    scope: Scope
    owner_url: str
    anchors: AnchorFile
    superuser: psycopg.Connection[Any]
    touched: set[str] = field(default_factory=set)

    def remember(self) -> None:
        for table in (*TABLES, "chain_links"):
            self.superuser.execute(f"create table kept_{table} as table {table}")

    def put_back(self) -> None:
        for table in self.touched:
            self.superuser.execute(f"delete from {table}")
            self.superuser.execute(f"insert into {table} overriding system value table kept_{table}")
        self.touched.clear()

    def do(self, statement: str, *params: object) -> None:
        self.touched |= set(re.findall(r"(?:^update|^delete from|^insert into) (\w+)", statement))
        assert self.superuser.execute(statement, params).rowcount != 0

    def one(self, query: str, *params: object) -> Any:
        row = self.superuser.execute(query, params).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def change(self, table: str, key: tuple[int, int], column: str, value: str) -> None:
        """Write `value`, as text, into one column of one row."""
        kind = self.one(
            "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s",
            table,
            column,
        )
        where = "id = %s and part = %s" if table == "ledger_transfers" else "id = %s and 0 = %s"
        query = sql.SQL("update {} set {} = %s::{} where {}").format(
            sql.Identifier(table), sql.Identifier(column), sql.SQL(kind), sql.SQL(where)
        )
        self.touched.add(table)
        assert self.superuser.execute(query, (value, *key)).rowcount == 1

    def verify(self, *, anchored: bool = True) -> Report:
        return asyncio.run(examine(settings(self.owner_url, self.anchors.path if anchored else None)))
