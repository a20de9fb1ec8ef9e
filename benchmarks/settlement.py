"""`python -m benchmarks.settlement --what capture|refund --rail wallet|stripe --lines 1000,10000,100000 [--kills 50]`.

A campaign's outcome applied to growing numbers of pledges, on a stack of its own. People, pledges, their money in the ledger and
(`stripe`) in the sandbox's book are seeded set by set, so that the auditor has nothing to find. Then the last of the goal is
pledged through the API and every held pledge is captured; or the owner cancels, and every captured one is refunded. The
provider reports each by webhooks, as it always does.

With `--kills`, the worker is killed (`kill -9`) so often on the way, at even distances in lines, and started again at once.
Prints for each size seconds, processor seconds of all the stack's processes, events, bytes and runs of the workflow, and the
worker's resident memory; a straight line through the seconds; and the auditor's verdict.
"""

import argparse
import asyncio
import os
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.text import Text
from temporalio.client import Client

from benchmarks.distribution import line_through, resident_kib
from cli.audit import examine
from cli.demo.world import CARD, World
from cli.stack.stack import Stack
from contracts.base import Scope
from contracts.ids import attempt_key, workflow_id
from domain import accounts
from domain.accounts import Posting
from domain.money import Money
from infra.database import Database
from infra.temporal import connect
from models import ledger

_CHUNK = 1_000
_TICKET = 10_000
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 3_600

# As the superuser: rows as the processes would have left them, in a few statements.
_ROWS = (
    """insert into users (tenant_id, mode, id, email, name, role, password_hash)
       select %(tenant)s, %(mode)s, 'usr_' || md5(%(salt)s || n), md5(%(salt)s || n) || '@people.test', 'Holder', 'investor',
              '!'
         from generate_series(1, %(n)s) n""",
    """insert into payments (tenant_id, mode, id, purpose, subject_id, payer_id, provider, amount_minor, currency, capture,
                             status, captured_minor, attempts, authorized_until, instrument, created_at)
       select %(tenant)s, %(mode)s, 'pay_' || md5(%(salt)s || n), 'investment', 'inv_' || md5(%(salt)s || n),
              'usr_' || md5(%(salt)s || n), %(rail)s, %(ticket)s + n, 'NGN', %(capture)s, %(payment)s,
              case when %(captured)s then %(ticket)s + n else 0 end, 1,
              case when %(rail)s <> 'wallet' then now() + interval '7 days' end,
              case when %(rail)s <> 'wallet' then 'pm_' || md5(%(salt)s || n) end, %(since)s
         from generate_series(1, %(n)s) n""",
    """insert into payment_attempts (tenant_id, mode, reference, payment_id, ordinal, provider, provider_id, status, amount_minor,
                                     currency, captured_minor, held, started_at)
       select %(tenant)s, %(mode)s, 'ch-' || md5(%(salt)s || n), 'pay_' || md5(%(salt)s || n), 1, %(rail)s,
              case when %(rail)s <> 'wallet' then 'pi_' || md5(%(salt)s || n) end, %(attempt)s, %(ticket)s + n, 'NGN',
              case when %(captured)s then %(ticket)s + n else 0 end, not %(captured)s, %(since)s
         from generate_series(1, %(n)s) n""",
    """insert into effects (tenant_id, mode, key, provider, operation, request_hash, status, result, settled_at)
       select %(tenant)s, %(mode)s, 'attempt/ch-' || md5(%(salt)s || n) || '/start', %(rail)s, 'start', '\\x00', 'done',
              '{}', now()
         from generate_series(1, %(n)s) n where %(rail)s <> 'wallet'""",
    """insert into investments (tenant_id, mode, id, campaign_id, investor_id, payment_id, provider, amount_minor, currency,
                                status, created_at)
       select %(tenant)s, %(mode)s, 'inv_' || md5(%(salt)s || n), %(campaign)s, 'usr_' || md5(%(salt)s || n),
              'pay_' || md5(%(salt)s || n), %(rail)s, %(ticket)s + n, 'NGN', %(pledge)s, %(since)s
         from generate_series(1, %(n)s) n""",
    """update campaigns set (held_minor, captured_minor) = (
           select coalesce(sum(amount_minor) filter (where status = 'held'), 0),
                  coalesce(sum(amount_minor) filter (where status = 'captured'), 0)
             from investments where campaign_id = %(campaign)s)
        where id = %(campaign)s""",
)
_PLANNED = """
analyze users, payments, payment_attempts, investments, effects, settlement_lines, notifications, timeline, refunds,
        ledger_accounts, ledger_balances, ledger_transfers
"""
_TOLD = "update notifications set status = 'sent' where tenant_id = %s and status in ('queued', 'sending')"
"""What the last size has to tell its investors would be told in the next one's time."""
_SEEDED = """
select i.investor_id, i.amount_minor, a.reference, a.provider_id from investments i join payment_attempts a using (payment_id)
 where i.campaign_id = %s order by i.id
"""
_SETTLEMENT = "select id, status, lines from settlements where campaign_id = %s"
_DONE = "select count(*) as n from settlement_lines where settlement_id = %s and status in ('done', 'failed')"
_OUTCOME = "select status, count(*) as n from investments where campaign_id = %s group by 1"
_OWED = "select count(*) as n from webhook_inbox where tenant_id = %s and status = 'received'"


@dataclass(frozen=True)
class Result:
    """One size: seconds from the command to the last line, processor seconds till then, until no webhook was owed any more; the
    history of all runs; the worker's peak memory."""

    lines: int
    seconds: float
    parts: dict[str, float]
    drained: float
    events: int
    size: int
    runs: int
    resident: int

    @property
    def processor(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


@dataclass
class Bench:
    """One measurement's tools."""

    stack: Stack
    client: Client
    superuser: psycopg.AsyncConnection[Any]
    what: str
    rail: str
    kills: int

    async def measure(self, lines: int) -> Result:
        """Seed a tenant with so many pledges, and have them settled."""
        world = await World.make(self.stack, f"bench-{uuid4().hex[:12]}")
        try:
            return await self._measure(world, lines)
        finally:
            await world.close()

    async def _measure(self, world: World, lines: int) -> Result:
        capture = self.what == "capture"
        owner, last = await world.person("business_owner"), await world.person()
        seeded = lines - capture
        goal = sum(_TICKET + n for n in range(1, seeded + 1)) + _TICKET
        terms: dict[str, Any] = {"cap": {"amount": 10**14, "currency": "NGN"}, "close_when_funded": capture}
        kind = "all_or_nothing" if capture else "keep_what_you_raise"
        campaign = await world.campaign(kind, goal=goal, owner=owner, **terms)
        if capture and self.rail == "wallet":
            await world.deposit(last, _TICKET)
        await self._seed(world, campaign, seeded)
        began, used = time.perf_counter(), processor_seconds(self.stack)
        if capture:
            more = {"instrument": CARD} if self.rail == "stripe" else {}
            await world.invest(last, campaign, _TICKET, self.rail, **more)
        else:
            await owner.post(f"/v1/campaigns/{campaign}/cancel", {"reason": "A benchmark."})
        settlement = await self._until_planned(campaign)
        killing = asyncio.create_task(self._kill(settlement, lines))
        resident = await self._until_done(campaign)
        await killing
        seconds, parts = time.perf_counter() - began, processor_seconds(self.stack)
        await self.superuser.execute(_TOLD, (world.seeded.scope.tenant_id,))
        await self._until_drained(world)
        drained = time.perf_counter() - began
        outcome = {row["status"]: row["n"] for row in await self._rows(_OUTCOME, campaign)}
        assert outcome == {"captured" if capture else "refunded": lines}, outcome
        runs = await self._history(workflow_id("settlement", world.seeded.scope, settlement))
        parts = {name: parts[name] - used.get(name, 0.0) for name in parts}
        return Result(
            lines=lines, seconds=seconds, parts=parts, drained=drained, events=max(events for events, _ in runs),
            size=max(size for _, size in runs), runs=len(runs), resident=resident,
        )  # fmt: skip

    async def _history(self, settlement: str) -> list[tuple[int, int]]:
        """Events and bytes of each run."""
        found = []
        async for run in self.client.list_workflows(f"WorkflowId = '{settlement}'"):
            description = await self.client.get_workflow_handle(run.id, run_id=run.run_id).describe()
            info = description.raw_description.workflow_execution_info
            found.append((description.history_length, info.history_size_bytes))
        return found

    async def _rows(self, query: str, *params: Any) -> list[dict[str, Any]]:
        return await (await self.superuser.execute(query.encode(), params)).fetchall()

    async def _until_planned(self, campaign: str) -> str:
        for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
            rows = await self._rows(_SETTLEMENT, campaign)
            if rows:
                return str(rows[0]["id"])
            await asyncio.sleep(_POLL_SECONDS)
        raise AssertionError("no settlement was planned")

    async def _until_done(self, campaign: str) -> int:
        """Wait for the last line; the worker's highest resident memory on the way, in KiB."""
        highest = 0
        for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
            rows = await self._rows(_SETTLEMENT, campaign)
            pid = self.stack.pid("worker")
            if pid is not None:
                try:
                    highest = max(highest, resident_kib(pid))
                except (FileNotFoundError, ProcessLookupError):  # killed this moment
                    continue
            if rows[0]["status"] == "completed":
                return highest
            await asyncio.sleep(_POLL_SECONDS)
        raise AssertionError(f"not settled within {_PATIENCE_SECONDS} s: {rows[0]}")

    async def _until_drained(self, world: World) -> None:
        """Wait until the provider owes no webhook and none waits to be processed."""
        for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
            with sqlite3.connect(f"file:{self.stack.directory / 'sandbox.db'}?mode=ro", uri=True) as book:
                owed = book.execute("select count(*) from deliveries where state in ('due', 'held')").fetchone()[0]
            waiting = await self._rows(_OWED, world.seeded.scope.tenant_id)
            if not owed and not waiting[0]["n"]:
                return
            await asyncio.sleep(10 * _POLL_SECONDS)
        raise AssertionError("webhooks are still owed")

    async def _kill(self, settlement: str, lines: int) -> None:
        """Kill the worker after each further part of the lines is done, and start the next."""
        for number in range(1, self.kills + 1):
            while (await self._rows(_DONE, settlement))[0]["n"] < number * lines // (self.kills + 1):
                await asyncio.sleep(5 * _POLL_SECONDS)  # counting a hundred thousand lines takes a while
            await asyncio.to_thread(self.stack.kill, "worker")
            await asyncio.to_thread(self.stack.start, "worker")

    async def _seed(self, world: World, campaign: str, lines: int) -> None:
        capture = self.what == "capture"
        scope = world.seeded.scope
        values = {
            "tenant": scope.tenant_id, "mode": str(scope.mode), "salt": uuid4().hex, "n": lines, "ticket": _TICKET,
            "campaign": campaign, "rail": self.rail, "captured": not capture,
            "since": await world.business_now() - timedelta(days=1), "capture": "deferred" if capture else "immediate",
            "payment": "requires_capture" if capture else "succeeded", "attempt": "authorized" if capture else "captured",
            "pledge": "held" if capture else "captured",
        }  # fmt: skip
        for statement in _ROWS:
            await self.superuser.execute(statement, values)
            await self.superuser.execute(_PLANNED)  # or each foreign key is looked up by a plan for empty tables
        pledges = await self._rows(_SEEDED, campaign)
        await self._book(scope, campaign, pledges, world)
        if self.rail == "stripe":
            await self._plant(world, pledges)
        await self.superuser.execute(_PLANNED)

    async def _plant(self, world: World, pledges: list[dict[str, Any]]) -> None:
        """The same payments in the provider's book."""
        body = {"secret_key": world.seeded.sandbox_keys["stripe"], "currency": "NGN", "captured": self.what == "refund"}
        for at in range(0, len(pledges), _CHUNK):
            payments = [
                [each["provider_id"], each["reference"], each["amount_minor"]] for each in pledges[at : at + _CHUNK]
            ]
            answer = await world.sandbox.post("/_sandbox/payments/many", json=body | {"payments": payments})
            answer.raise_for_status()

    async def _book(self, scope: Scope, campaign: str, pledges: list[dict[str, Any]], world: World) -> None:
        as_of = await world.business_now()
        db = Database(self.stack.settings.app_url, name="bench-seed", max_size=2)
        await db.open()
        try:
            for at in range(0, len(pledges), _CHUNK):
                chunk = pledges[at : at + _CHUNK]
                made = [self._postings(each, campaign, as_of) for each in chunk]
                for step in range(max(len(each) for each in made)):  # a hold is there before it is taken
                    async with db.transaction(scope) as tx:
                        await ledger.post_many(tx, [each[step] for each in made])
        finally:
            await db.close()

    def _postings(self, pledge: dict[str, Any], campaign: str, as_of: Any) -> list[Posting]:
        user, money = pledge["investor_id"], Money(pledge["amount_minor"], "NGN")
        hold, escrow = attempt_key(pledge["reference"], "hold"), accounts.escrow(campaign, "NGN")
        if self.rail == "wallet":
            made = [
                accounts.deposit_captured(f"seed/{user}", provider="cash", user_id=user, amount=money, as_of=as_of),
                accounts.wallet_pledged(hold, user_id=user, campaign_id=campaign, amount=money, as_of=as_of),
            ]
        else:
            made = [
                accounts.payment_authorized(hold, provider=self.rail, into=escrow, amount=money, as_of=as_of),
            ]
        if self.what == "refund":
            key = attempt_key(pledge["reference"], "capture")
            made.append(accounts.payment_captured(key, hold=hold, as_of=as_of))
        return made


def processor_seconds(stack: Stack) -> dict[str, float]:
    """What each part of the stack, and `killed` the processes that died, have used of the processors."""
    died = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {each.name: sum(_ticks(pid) for pid in _tree(stack.pid(each.name))) for each in stack.snapshots()}
    tick = os.sysconf("SC_CLK_TCK")
    return {"killed": died.ru_utime + died.ru_stime} | {name: ticks / tick for name, ticks in used.items()}


def _tree(pid: int | None) -> Iterator[int]:
    if pid is None:
        return
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return
    for child in children:
        yield from _tree(int(child))


def _ticks(pid: int) -> int:
    """Its own time and that of its children it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(int(each) for each in fields[11:15])


async def run(what: str, rail: str, sizes: list[int], kills: int, directory: Path) -> int:
    """Measure each size, smallest first; 0 when the auditor finds nothing."""
    console = Console(soft_wrap=True, highlight=False)
    results: list[Result] = []

    def say(text: str) -> None:
        console.print(Text(text))

    with Stack(directory / "var", env={"CHAMA_LOG_LEVEL": "WARNING", "CHAMA_WORKFLOW_LIMITS": "raise"}) as stack:
        assert stack.site.postgres is not None
        url = stack.site.postgres.url("chama")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as superuser:
            bench = Bench(stack, await connect(stack.settings), superuser, what, rail, kills)
            for lines in sizes:
                each = await bench.measure(lines)
                results.append(each)
                say(
                    f"{what} {rail} {each.lines:>7} lines: {each.seconds:7.1f} s, {each.processor:7.1f} s of processor, webhooks "
                    f"drained after {each.drained:7.1f} s, {each.events} events, {each.size} bytes, {each.runs} run(s), "
                    f"worker {each.resident // 1024} MiB, {kills} kills"
                )
                say("  processor: " + ", ".join(f"{name} {used:.1f} s" for name, used in each.parts.items()))
        say("seconds:   " + line_through([(each.lines, each.seconds) for each in results]))
        say("processor: " + line_through([(each.lines, each.processor) for each in results]))
        report = await examine(stack.settings)
    findings = report["findings"]
    said = f"the auditor finds nothing ({report['compared']} compared at providers, {report['in_flight']} in flight)"
    say("\n".join([*findings[:20], said if not findings else f"{len(findings)} findings"]))
    return 1 if findings or report["in_flight"] else 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settlement", description=__doc__)
    parser.add_argument("--what", choices=("capture", "refund"), default="capture")
    parser.add_argument("--rail", choices=("wallet", "stripe"), default="wallet")
    parser.add_argument("--lines", default="1000,10000,100000", help="sizes, by commas")
    parser.add_argument("--kills", type=int, default=0, help="how often the worker is killed on the way, in each size")
    options = parser.parse_args()
    sizes = sorted(int(each) for each in options.lines.split(","))
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        return asyncio.run(run(options.what, options.rail, sizes, options.kills, Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
