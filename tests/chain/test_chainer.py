"""The chainer skips no row, whoever commits when, and goes on where a killed one stopped."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from api.chainer import Chainer
from cli.verify import examine
from contracts.base import Scope
from domain import accounts
from domain.accounts import AccountKind, AccountSpec, Leg, Phase, Posting
from domain.errors import DomainError
from infra.anchors import AnchorFile
from infra.database import Database
from models import command, ledger
from models.chain import tails
from models.chain_audit import Report
from tests.chain.books import DAY, TABLES, chain_all, deposit, settings, write
from tests.fixtures.postgres import free_port, role_url

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def chain_database(owner_url: str) -> AsyncIterator[Database]:
    db = Database(role_url(owner_url, "chama_chain"), name="chainer test", max_size=2)
    await db.open()
    yield db
    await db.close()


async def record(tx: psycopg.AsyncConnection, scope: Scope, name: str) -> None:
    await command.audit(
        tx, scope, actor="usr", action="toy.made", entity="toy", entity_id=name, request_id="req", detail={}
    )


async def drain(chainer: Chainer) -> int:
    """Rounds until nothing more is written."""
    written = 0
    while more := await chainer.round():
        written += more
    return written


async def verified(owner_url: str, anchors: AnchorFile | None = None) -> Report:
    return await examine(settings(owner_url, anchors.path if anchors else None))


async def test_a_row_that_commits_late_is_waited_for(
    database: Database, chain_database: Database, scope: Scope, owner_url: str
) -> None:
    chainer = Chainer(chain_database, None)
    await drain(chainer)
    async with database.transaction(scope) as early:
        await record(early, scope, "takes its number first")
        async with database.transaction(scope) as tx:
            await record(tx, scope, "commits first")
        for _ in range(3):
            assert await chainer.round() == 0
        assert (await verified(owner_url)).chains["audit_log"].not_yet_chained == 1
        late = database.transaction(scope)
        tx = await late.__aenter__()
        await record(tx, scope, "begins after the horizon was taken, and stays")
    assert await drain(chainer) == 2, "whoever began later holds nobody up"
    await late.__aexit__(None, None, None)
    assert await drain(chainer) == 1
    report = await verified(owner_url)
    assert report.ok and report.chains["audit_log"].not_yet_chained == 0


HOLD_UP = """
alter function ledger_open rename to ledger_open_at_once;
create function ledger_open(uuid, text, text[], text[], boolean[], smallint[]) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(7);
    perform ledger_open_at_once($1, $2, $3, $4, $5, $6);
end $$
"""
LET_GO = """
drop function ledger_open;
alter function ledger_open_at_once rename to ledger_open
"""


async def test_a_number_that_is_drawn_before_any_row_is_written(
    database: Database, chain_database: Database, scope: Scope, owner_url: str
) -> None:
    """A posting draws its number first. One that is held up right after, before it has touched a table, is waited for."""
    chainer = Chainer(chain_database, None)

    async def slow_posting() -> None:
        async with database.transaction(scope) as tx:
            await ledger.post(tx, deposit("its-user-has-no-account"))

    async with database.transaction(scope) as tx:
        await ledger.post(tx, deposit("opens"))
    await drain(chainer)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(HOLD_UP)
        try:
            owner.execute("select pg_advisory_lock(7)")
            slow = asyncio.create_task(slow_posting())
            waits = "select 1 from pg_locks where locktype = 'advisory' and objid = 7 and not granted"
            while owner.execute(waits).fetchone() is None and not slow.done():  # noqa: ASYNC110 - its lock is what tells
                await asyncio.sleep(0.01)
            async with database.transaction(scope) as tx:
                await ledger.post(tx, deposit("other"))
            for _ in range(3):
                assert await chainer.round() == 0, "whoever drew before has not ended"
            owner.execute("select pg_advisory_unlock(7)")
            await slow
        finally:
            owner.execute(LET_GO)
    await drain(chainer)
    report = await verified(owner_url)
    assert report.ok and report.chains["ledger_transfers"].not_yet_chained == 0


async def test_writers_and_two_chainers_at_once(
    database: Database, chain_database: Database, scope: Scope, owner_url: str
) -> None:
    """Competing keys, rolled back transactions, uneven ends: every row that was committed has its link, once."""
    chance = random.Random(5)
    working = True

    async def writer(number: int) -> None:
        for n in range(20):
            try:
                async with database.transaction(scope) as tx:
                    await record(tx, scope, f"{number}/{n}")
                    await ledger.post(tx, deposit(f"shared{n}", 5))
                    await ledger.post(tx, deposit(f"own{number}/{n}", 7))
                    await asyncio.sleep(chance.random() / 50)
                    if chance.random() < 0.2:
                        raise DomainError("toy_refused", "rolled back")
            except DomainError:
                continue

    async def chain() -> None:
        chainer = Chainer(chain_database, None, batch=7)
        while working:
            await chainer.round()
            await asyncio.sleep(0)

    chainers = [asyncio.create_task(chain()) for _ in range(2)]
    await asyncio.gather(*(writer(number) for number in range(8)))
    working = False
    await asyncio.gather(*chainers)
    await drain(Chainer(chain_database, None))
    report = await verified(owner_url)
    assert report.findings == []
    assert [counts.not_yet_chained for counts in report.chains.values()] == [0, 0, 0]
    assert report.chains["audit_log"].verified > 80 and report.chains["ledger_transfers"].verified > 80


SLOWLY = """
import asyncio, sys
from pathlib import Path
from api.chainer import run_chainer
from infra.anchors import AnchorFile
from infra.database import Database
async def main():
    db = Database(sys.argv[1], name="victim", max_size=1)
    await db.open()
    await run_chainer(db, AnchorFile(Path(sys.argv[2])), asyncio.Event(), anchor_seconds=0, batch=20)
asyncio.run(main())
"""


def links(owner_url: str) -> int:
    with psycopg.connect(role_url(owner_url, "chama_audit")) as connection:
        return connection.execute("select count(*) from chain_links").fetchone()[0]


def test_killed_in_the_middle_and_finished_by_the_relay(scope: Scope, owner_url: str, tmp_path: Path) -> None:
    """`kill -9` on the way; then the relay process itself goes on, anchors, and ends when told to."""
    asyncio.run(write(owner_url, scope, 500, 2000))
    anchors = AnchorFile(tmp_path / "anchors.jsonl")
    arguments = [sys.executable, "-c", SLOWLY, role_url(owner_url, "chama_chain"), str(anchors.path)]
    before = links(owner_url)
    with subprocess.Popen(arguments, cwd=ROOT) as victim:
        while links(owner_url) < before + 100:
            assert victim.poll() is None
            time.sleep(0.01)
        victim.kill()
    cut = links(owner_url)
    assert (
        asyncio.run(verified(owner_url, anchors)).ok
        and asyncio.run(verified(owner_url)).chains["audit_log"].not_yet_chained
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHAMA_")} | {
        "CHAMA_DATABASE_URL": owner_url,
        "CHAMA_DATABASE_ROLE_PASSWORD": settings(owner_url).database_role_password.get_secret_value(),
        "CHAMA_ANCHOR_FILE": str(anchors.path),
        "CHAMA_TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
        "CHAMA_PAYLOAD_KEYS": '{"k": "' + "A" * 43 + '="}',
        "CHAMA_PAYLOAD_KEY": "k",
    }
    with subprocess.Popen([sys.executable, "-m", "cli.main", "relay"], cwd=ROOT, env=environment) as relay:
        while sum(each.not_yet_chained for each in asyncio.run(verified(owner_url)).chains.values()):
            assert relay.poll() is None
            time.sleep(0.1)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(30) == 0
    report = asyncio.run(verified(owner_url, anchors))
    assert report.ok and links(owner_url) > cut
    newest = list(anchors.read(anchors.size()))[-1]
    assert newest.tails["audit_log"].position == report.chains["audit_log"].verified
    assert asyncio.run(chain_all(owner_url, None)) == 0


async def test_a_batch_may_end_between_two_parts(
    database: Database, chain_database: Database, scope: Scope, owner_url: str
) -> None:
    await drain(Chainer(chain_database, None))
    source, fee = accounts.wallet("usr_1", "NGN"), AccountSpec("fees:NGN", "NGN", AccountKind.REVENUE, bounded=False)
    legs = (Leg(source, 2), Leg(accounts.escrow("c", "NGN"), -1), Leg(fee, -1))
    async with database.transaction(scope) as tx:
        await ledger.post(tx, deposit("d", 5))
        await ledger.post(tx, Posting("split", "split", Phase.SINGLE, DAY, legs))
    await drain(Chainer(chain_database, None, batch=2))
    report = await verified(owner_url)
    assert report.ok and report.chains["ledger_transfers"].not_yet_chained == 0


async def test_a_second_chainer_keeps_out_of_the_way(
    database: Database, chain_database: Database, scope: Scope, owner_url: str
) -> None:
    async with database.transaction(scope) as tx:
        await record(tx, scope, "one")
    with psycopg.connect(role_url(owner_url, "chama_chain")) as other:
        other.execute("select pg_advisory_xact_lock(hashtextextended('chain', 5))")
        waiting = Chainer(chain_database, None)
        assert await drain(waiting) == 0
    assert await drain(waiting) >= 1, "the work that was another's is not taken for done"


REFUSED = [
    *(("chama_chain", f"{verb} {table}") for table in TABLES for verb in ("delete from", "truncate")),
    *(("chama_chain", f"update {table} set tenant_id = tenant_id") for table in (*TABLES, "chain_links")),
    ("chama_chain", "delete from chain_links"),
    ("chama_chain", "truncate chain_links"),
    ("chama_chain", "select * from users"),
    ("chama_chain", "select * from outbox"),
    *((role, "select * from chain_links") for role in ("chama_app", "chama_relay", "chama_auth")),
    *(
        (f"chama_{role}", "insert into chain_links select * from chain_links")
        for role in ("app", "relay", "auth", "audit")
    ),
]


async def test_links_of_one_that_died_are_anchored_by_the_other(
    database: Database, chain_database: Database, scope: Scope, tmp_path: Path
) -> None:
    anchors = AnchorFile(tmp_path / "anchors.jsonl")
    one, other = (Chainer(chain_database, anchors) for _ in range(2))
    async with database.transaction(scope) as tx:
        await record(tx, scope, "anchored by one, and known to the other")
    await drain(one)
    assert await one.anchor() and await other.anchor()
    assert len(list(anchors.read(anchors.size()))) == 1, "nothing has moved between them"
    await drain(other)
    assert await other.anchor()
    async with database.transaction(scope) as tx:
        await record(tx, scope, "linked by one that dies")
    assert await drain(one) == 1
    assert (await drain(other), other.moved) == (0, True)
    assert await other.anchor()
    assert len(list(anchors.read(anchors.size()))) == 2
    async with chain_database.transaction() as tx:
        now = await tails(tx)
    assert now is not None and list(anchors.read(anchors.size()))[-1].tails == now.tails
    await drain(other)
    assert not other.moved


def test_who_writes_rows_cannot_link_and_who_links_cannot_write_rows(owner_url: str) -> None:
    for role, statement in REFUSED:
        with psycopg.connect(role_url(owner_url, role)) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(statement)


def test_the_links_are_guarded_like_the_ledger(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        guards = "select relrowsecurity, relforcerowsecurity from pg_class where relname = 'chain_links'"
        assert connection.execute(guards).fetchone() == (True, True)
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            connection.execute("truncate chain_links")
