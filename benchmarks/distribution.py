"""`python -m benchmarks.distribution --lines 1000,10000,100000`: wallet distributions of growing size on a stack of their own.

People, holdings and their money are seeded set by set, so that the auditor has nothing to find; the run itself is declared,
calculated, approved and paid through the public API. With `--kills`, the worker is killed (`kill -9`) so often while it pays, at
even distances in lines. Prints seconds, events and bytes of the workflow's history and the
worker's resident memory for each size, a straight line through the seconds, and the auditor's verdict.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.text import Text
from temporalio.client import Client

from cli.audit import examine
from cli.demo.world import Json, World
from cli.stack.stack import Stack
from contracts.base import Scope
from domain import accounts
from domain.money import Money
from domain.payment import WALLET
from infra.database import Database
from infra.temporal import connect
from models import ledger

_CHUNK = 2_000
_TICKET = 10_000
_PROFIT_PER_LINE = 1_000
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 1_200

# As the superuser: rows as the processes would have left them, in a few statements.
_PEOPLE = """
insert into users (tenant_id, mode, id, email, name, role, password_hash)
select %(tenant)s, %(mode)s, 'usr_' || md5(%(salt)s || n), md5(%(salt)s || n) || '@people.test', 'Holder', 'investor', '!'
  from generate_series(1, %(n)s) n
"""
_PAYMENTS = """
insert into payments (tenant_id, mode, id, purpose, subject_id, payer_id, provider, amount_minor, currency, capture, status,
                      captured_minor, attempts, created_at)
select %(tenant)s, %(mode)s, 'pay_' || md5(%(salt)s || n), 'investment', 'inv_' || md5(%(salt)s || n),
       'usr_' || md5(%(salt)s || n), 'wallet', %(ticket)s + n, 'NGN', 'immediate', 'succeeded', %(ticket)s + n, 1, %(since)s
  from generate_series(1, %(n)s) n
"""
_ATTEMPTS = """
insert into payment_attempts (tenant_id, mode, reference, payment_id, ordinal, provider, status, amount_minor, currency,
                              captured_minor, started_at)
select %(tenant)s, %(mode)s, 'ch-' || md5(%(salt)s || n), 'pay_' || md5(%(salt)s || n), 1, 'wallet', 'captured', %(ticket)s + n,
       'NGN', %(ticket)s + n, %(since)s
  from generate_series(1, %(n)s) n
"""
_INVESTMENTS = """
insert into investments (tenant_id, mode, id, campaign_id, investor_id, payment_id, provider, amount_minor, currency, status,
                         created_at)
select %(tenant)s, %(mode)s, 'inv_' || md5(%(salt)s || n), %(campaign)s, 'usr_' || md5(%(salt)s || n),
       'pay_' || md5(%(salt)s || n), 'wallet', %(ticket)s + n, 'NGN', 'captured', %(since)s
  from generate_series(1, %(n)s) n
"""
_FUNDED = """
update campaigns set status = 'funded', outcome = 'success', next_action_at = null,
       captured_minor = (select sum(amount_minor) from investments where campaign_id = %(campaign)s)
 where id = %(campaign)s
"""
_PLANNED = "analyze users, payments, payment_attempts, investments, ledger_accounts, ledger_balances, ledger_transfers"
_TOLD = "update notifications set status = 'sent' where tenant_id = %(tenant)s and status = 'queued'"
"""What the last size has to tell its holders would be told in the next one's time."""
_PAYEES = """
insert into beneficiaries (tenant_id, mode, id, owner_id, provider, kind, currency, bank_code, name, sealed_number, number_end,
                           holder_name, recipient, status, created_at)
select tenant_id, mode, 'ben_' || md5(%(salt)s || n), 'usr_' || md5(%(salt)s || n), provider, kind, currency, bank_code, name,
       sealed_number, number_end, holder_name, recipient, status, created_at
  from beneficiaries b cross join generate_series(1, %(n)s) n where b.id = %(payee)s
"""
_PREFERENCES = """
insert into payout_preferences (tenant_id, mode, user_id, beneficiary_id, created_at)
select tenant_id, mode, owner_id, id, created_at from beneficiaries
 where tenant_id = %(tenant)s and owner_id like 'usr_%%' and id <> %(payee)s
"""
"""All holders have the same account at the bank: to the provider a recipient is one name among others."""
_CREDITED = "select count(*) from distribution_lines where distribution_id = %s and status = 'credited_to_wallet'"
_SENT = """select count(*) from payouts
            where reason = 'distribution' and subject_id = %s and status in ('pending', 'unknown', 'succeeded')"""
_HOLDERS = "select investor_id, amount_minor from investments where campaign_id = %s order by id"


@dataclass(frozen=True)
class Result:
    """One size: seconds from `calculate` to `calculated` and from `approve` to `paid`; the history; the worker's peak RSS.

    `processor`: seconds of processor time that everything took while it paid, this program's own too. `kills`: how often
    the worker was killed meanwhile.
    """

    lines: int
    calculating: float
    paying: float
    processor: float
    events: int
    size: int
    resident_kib: int
    kills: int


async def measure(stack: Stack, client: Client, lines: int, kills: int = 0, rail: str = WALLET) -> Result:
    """Seed a tenant with that many holders, and pay one run to them, with so many kills on the way."""
    outside = rail != WALLET
    world = await World.make(stack, f"bench-{uuid4().hex[:12]}")
    try:
        owner = await world.person("business_owner")
        campaign = await world.campaign(
            "keep_what_you_raise",
            goal=_TICKET,
            cap={"amount": 10**14, "currency": "NGN"},
            owner=owner,
            profit_share_bps=10_000,
        )
        await seed(stack, world, campaign, owner.user_id, lines, outside=outside)
        yesterday = (await world.business_now()).date() - timedelta(days=1)
        body: Json = {
            "declared_profit": {"amount": lines * profit_a_line(outside=outside), "currency": "NGN"}, "evidence": "A benchmark.",
            "period_start": f"{yesterday - timedelta(days=89)}", "period_end": f"{yesterday}", "record_date": f"{yesterday}",
            "tax_bps": 1_000, "platform_fee_bps": 100, "pay_to": "preference" if outside else "wallet",
        }  # fmt: skip
        run = await owner.post(f"/v1/campaigns/{campaign}/distributions", body)
        at = f"/v1/campaigns/{campaign}/distributions/{run['id']}"
        began = time.perf_counter()
        await owner.post(f"{at}/calculate")
        await _until(world, at, "calculated")
        calculating = time.perf_counter() - began
        await owner.post(f"{at}/submit")
        began, spent = time.perf_counter(), processor_seconds()
        await world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")
        over = asyncio.Event()
        killing = asyncio.create_task(_kill(stack, _SENT if outside else _CREDITED, run["id"], lines, kills, over))
        resident = await _until(world, at, "paid")
        over.set()
        killed = await killing
        paying, spent = time.perf_counter() - began, processor_seconds() - spent
        seen = await owner.get(at)
        status = "paid" if outside else "credited_to_wallet"
        assert seen["counts"] == [{"status": status, "lines": lines, "net": seen["totals"]["net"]}], seen["counts"]
        description = await client.get_workflow_handle(run["workflow_id"]).describe()
        assert stack.site.postgres is not None
        async with await psycopg.AsyncConnection.connect(
            stack.site.postgres.url("chama"), autocommit=True
        ) as superuser:
            await superuser.execute(_TOLD, {"tenant": world.seeded.scope.tenant_id})
        size = description.raw_description.workflow_execution_info.history_size_bytes
        return Result(lines, calculating, paying, spent, description.history_length, size, resident, killed)
    finally:
        await world.close()


def profit_a_line(*, outside: bool) -> int:
    """A line's average share in minor units: enough for a provider to send what is left of the smallest, a sixth of it."""
    return _PROFIT_PER_LINE * (100 if outside else 1)


def processor_seconds() -> float:
    """User and system time of this process and all under it, the dead ones too, in seconds."""
    stats: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            values = path.read_text().rpartition(")")[2].split()
            stats[int(path.parent.name)] = (int(values[1]), sum(map(int, values[11:15])))
    ours: set[int] = set()
    found = {os.getpid()}
    while found:
        ours |= found
        found = {pid for pid, (parent, _) in stats.items() if parent in ours and pid not in ours}
    return sum(stats[pid][1] for pid in ours if pid in stats) / os.sysconf("SC_CLK_TCK")


async def _kill(stack: Stack, progress: LiteralString, run: str, lines: int, kills: int, over: asyncio.Event) -> int:
    """Kill the worker after each further part of the lines is paid or sent; the supervisor starts the next one.

    Ends with the run, too: a run that holds some of its lines back never pays the last parts. Returns the kills done.
    """
    if not kills:
        return 0
    assert stack.site.postgres is not None
    async with await psycopg.AsyncConnection.connect(stack.site.postgres.url("chama"), autocommit=True) as superuser:
        for number in range(1, kills + 1):
            while await _paid(superuser, progress, run) < number * lines // (kills + 1):
                if over.is_set():
                    return number - 1
                await asyncio.sleep(_POLL_SECONDS / 4)
            await asyncio.to_thread(stack.crash, "worker")
    return kills


async def _paid(superuser: psycopg.AsyncConnection, progress: LiteralString, run: str) -> int:
    found = await (await superuser.execute(progress, (run,))).fetchone()
    return int(found[0]) if found else 0


async def _until(world: World, at: str, status: str) -> int:
    """Wait for the status; the worker's highest resident memory on the way, in KiB."""
    highest = 0
    for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
        # Not the one run's own page, which counts its lines: the list is cheap.
        rows = await world.admin.get(at.rpartition("/")[0] + "?limit=1")
        pid = world.stack.pid("worker")
        highest = max(highest, resident_kib(pid) if pid is not None else 0)
        if rows[0]["status"] == status:
            return highest
        await asyncio.sleep(_POLL_SECONDS)
    raise AssertionError(f"not {status} within {_PATIENCE_SECONDS} s: {rows[0]}")


def resident_kib(pid: int) -> int:
    """The memory a process has in RAM, in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


async def seed(stack: Stack, world: World, campaign: str, owner: str, lines: int, *, outside: bool = False) -> None:
    """Everybody topped a wallet up and pledged from it; the owner has the profit in hers.

    `outside`: they want their profit at a bank, and the provider account has money for it.
    """
    scope = world.seeded.scope
    assert stack.site.postgres is not None
    values = {"tenant": scope.tenant_id, "mode": str(scope.mode), "salt": uuid4().hex, "n": lines, "ticket": _TICKET,
              "campaign": campaign, "since": await world.business_now() - timedelta(days=200)}  # fmt: skip
    async with await psycopg.AsyncConnection.connect(stack.site.postgres.url("chama"), autocommit=True) as superuser:
        for statement in (_PEOPLE, _PAYMENTS, _ATTEMPTS, _INVESTMENTS, _FUNDED):
            await superuser.execute(statement, values)
            await superuser.execute(_PLANNED)  # or each foreign key is looked up by a plan for empty tables
        holders = await (await superuser.execute(_HOLDERS, (campaign,))).fetchall()
        if outside:
            values["payee"] = await _payee(world)
            for statement in (_PAYEES, _PREFERENCES):
                await superuser.execute(statement, values)
            await superuser.execute("analyze beneficiaries, payout_preferences")
            await world.top_up(lines * profit_a_line(outside=True))
        profit = Money(lines * profit_a_line(outside=outside), "NGN")
        await _book(stack, scope, campaign, owner, holders, world, profit)
        await superuser.execute(_PLANNED)


async def _payee(world: World) -> str:
    """A verified account at a bank, for all to be like."""
    somebody = await world.person()
    made = await world.payee(somebody)
    await world.until(somebody, f"/v1/beneficiaries/{made['id']}", "verified")
    return str(made["id"])


async def _book(
    stack: Stack, scope: Scope, campaign: str, owner: str, holders: list[tuple[str, int]], world: World, profit: Money
) -> None:
    as_of = await world.business_now()
    postings = [accounts.deposit_captured(f"seed/{owner}", provider="cash", user_id=owner, amount=profit, as_of=as_of)]
    for user, minor in holders:
        money = Money(minor, "NGN")
        postings += [
            accounts.deposit_captured(f"seed/{user}/in", provider="cash", user_id=user, amount=money, as_of=as_of),
            accounts.wallet_pledged(f"seed/{user}/hold", user_id=user, campaign_id=campaign, amount=money, as_of=as_of),
            accounts.pledge_captured(f"seed/{user}/taken", hold=f"seed/{user}/hold", as_of=as_of),
        ]
    db = Database(stack.settings.app_url, name="bench-seed", max_size=2)
    await db.open()
    try:
        for at in range(0, len(postings), 3 * _CHUNK):
            async with db.transaction(scope) as tx:
                chunk = postings[at : at + 3 * _CHUNK]
                # A hold is there before it is taken.
                await ledger.post_many(tx, [each for each in chunk if not each.target])
            async with db.transaction(scope) as tx:
                await ledger.post_many(tx, [each for each in chunk if each.target])
    finally:
        await db.close()


def line_through(points: list[tuple[int, float]]) -> str:
    """A straight line through (lines, seconds), and how far the worst point is off it."""
    if len(points) < 2:
        return "one size: no line"
    slope, start = statistics.linear_regression([n for n, _ in points], [s for _, s in points])
    worst = max(abs(s - (start + slope * n)) for n, s in points)
    return f"{start:.2f} s + {slope * 1000:.3f} ms a line, at most {worst:.2f} s off"


async def run(sizes: list[int], kills: int, directory: Path, rail: str = WALLET) -> int:
    """Measure each size, smallest first; 0 when the auditor finds nothing."""
    results = []
    console = Console(soft_wrap=True, highlight=False)

    def say(text: str) -> None:
        console.print(Text(text))

    with Stack(directory / "var", env={"CHAMA_LOG_LEVEL": "WARNING", "CHAMA_WORKFLOW_LIMITS": "raise"}) as stack:
        client = await connect(stack.settings)
        for lines in sizes:
            result = await measure(stack, client, lines, kills, rail)
            results.append(result)
            say(
                f"{result.lines:>7} lines: calculated in {result.calculating:6.2f} s, paid in {result.paying:6.2f} s "
                f"({result.processor:.1f} s of processor), {result.events} events, {result.size} bytes, "
                f"worker {result.resident_kib // 1024} MiB, {result.kills} kills"
            )
        say("calculating: " + line_through([(each.lines, each.calculating) for each in results]))
        say("paying:      " + line_through([(each.lines, each.paying) for each in results]))
        findings = (await examine(stack.settings))["findings"]
    say("\n".join([*findings[:20], "the auditor finds nothing" if not findings else f"{len(findings)} findings"]))
    return 1 if findings else 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distribution", description=__doc__)
    parser.add_argument("--lines", default="1000,10000,100000", help="sizes, by commas")
    parser.add_argument("--kills", type=int, default=0, help="how often the worker is killed while it pays")
    parser.add_argument("--rail", choices=[WALLET, "paystack"], default=WALLET, help="where the lines go")
    options = parser.parse_args()
    sizes = sorted(int(each) for each in options.lines.split(","))
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        return asyncio.run(run(sizes, options.kills, Path(directory), options.rail))


if __name__ == "__main__":
    sys.exit(main())
