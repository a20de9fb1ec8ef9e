"""After the heal: wait until every flow has come to its end, then look for what was lost, doubled or is stuck."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg.rows import DictRow, dict_row

from cli.audit import examine
from cli.chaos.crowd import Crowd
from cli.chaos.plan import Amiss, Evidence, Flow, Seen
from infra.temporal import connect

_POLL_SECONDS: Final = 0.5
_ROWS: Final = """
select i.id, i.payment_id, i.status, i.amount_minor as amount,
       coalesce(l.ledger, 0)::bigint as ledger, coalesce(l.postings, 0)::int as postings,
       exists (select from timeline t
                where t.tenant_id = i.tenant_id and t.mode = i.mode and t.entity_id = i.id
                  and t.event = 'investment_held' and t.recorded_at < c.deadline_at) as held_in_time
  from investments i
  join campaigns c on c.tenant_id = i.tenant_id and c.mode = i.mode and c.id = i.campaign_id
  left join lateral (
       select sum(-e.amount_minor) as ledger, count(distinct t.id) as postings
         from payment_attempts a
         join ledger_transactions t on t.tenant_id = a.tenant_id and t.mode = a.mode
              and t.key = 'attempt/' || a.reference || '/capture'
         join ledger_entries e on e.tenant_id = t.tenant_id and e.mode = t.mode and e.transaction_id = t.id
         join ledger_accounts c on c.tenant_id = e.tenant_id and c.mode = e.mode and c.id = e.account_id
        where a.tenant_id = i.tenant_id and a.mode = i.mode and a.payment_id = i.payment_id
          and not e.pending and e.amount_minor < 0 and c.code like 'escrow:%%') l on true
 where i.tenant_id = %(tenant)s
"""
_ATTEMPTS: Final = "select reference, payment_id from payment_attempts where tenant_id = %(tenant)s"
_OWED: Final = """
select (select count(*) from outbox where tenant_id = %(tenant)s and delivered_at is null) as messages,
       (select count(*) from webhook_inbox where tenant_id = %(tenant)s and status = 'received') as webhooks,
       (select count(*) from refunds where tenant_id = %(tenant)s and status in ('requested', 'pending', 'unknown')) as refunds,
       (select count(*) from settlements where tenant_id = %(tenant)s and status = 'running') as settlements
"""
_AUTHORIZED: Final = "requires_capture"
"""A card's money is held at Stripe; no other rail holds."""
_PROCESSES: Final = (
    "ExecutionStatus = 'Running' and WorkflowType in "
    "('InvestmentWorkflow', 'PaymentWorkflow', 'RefundWorkflow', 'SettlementWorkflow')"
)


@dataclass
class Outcome:
    """What the end of a run looks like."""

    converge_seconds: float
    """From the heal until all had come to rest, or until the deadline."""
    converged: bool
    amiss: list[Amiss] = field(default_factory=list)
    owed: dict[str, int] = field(default_factory=dict)
    """What was still on its way at the deadline, by kind; empty after convergence."""
    findings: list[str] = field(default_factory=list)
    """The auditor's."""
    ends: Counter[str] = field(default_factory=Counter)
    """How many flows ended how."""

    def count(self, verdict: str) -> int:
        """How many flows have this verdict."""
        return len({each.flow.number for each in self.amiss if each.verdict == verdict})


class Judge:
    """Reads one tenant, past the broken links."""

    def __init__(self, crowd: Crowd, flows: list[Flow]) -> None:
        self._crowd, self._flows = crowd, flows
        self._settings = crowd.world.stack.settings
        self.waiting: Counter[str] = Counter()
        """What the run waits for now: flows by story and status, and what is owed by kind."""
        self._values = {"tenant": crowd.world.seeded.scope.tenant_id}

    async def converge(self, seconds: float) -> Outcome:
        """Wait at most `seconds` for every flow to end and for everything owed to be done, then audit."""
        began = time.monotonic()
        while True:
            seen = await self._evidence()
            owed = await self._owed()
            left = [each for each in self._flows if not (each.answered and each.story.at_rest(each, seen))]
            restless = len(left)
            self.waiting = Counter(owed) + Counter(
                self._end(each, seen) if each.answered else f"{each.story.name}: {each.error or 'unanswered'}"
                for each in left
            )
            took = time.monotonic() - began
            done = not restless and not owed
            if done or took > seconds:
                break
            await asyncio.sleep(_POLL_SECONDS)
        await self._add_providers(seen)
        report = await examine(self._settings.model_copy(update={"provider_timeout_seconds": 30.0}))
        ends = Counter(self._end(each, seen) for each in self._flows)
        amiss = [found for each in self._flows for found in each.story.judge(each, seen)]
        findings = list(report["findings"])
        if report["in_flight"]:
            findings.append(f"{report['in_flight']} payments are in flight")
        return Outcome(took, done, amiss, owed | ({"flows": restless} if restless else {}), findings, ends)

    def _end(self, flow: Flow, seen: Evidence) -> str:
        row = seen.investments.get(flow.subject or "")
        return f"{flow.story.name}: {row.status if row else flow.refusal or 'nothing'}"

    async def _evidence(self) -> Evidence:
        """The rows, without the providers' side."""
        rows = await self._read(_ROWS)
        return Evidence(
            {
                row["id"]: Seen(
                    row["status"],
                    row["amount"],
                    row["ledger"],
                    row["postings"],
                    0,
                    0,
                    row["payment_id"],
                    row["held_in_time"],
                )
                for row in rows
            }
        )

    async def _add_providers(self, seen: Evidence) -> None:
        """What each provider's own book says of each pledge: every row of it, also two under one reference."""
        payments = {row["reference"]: row["payment_id"] for row in await self._read(_ATTEMPTS)}
        kept: dict[str, list[int]] = defaultdict(list)
        for provider in self._crowd.world.seeded.sandbox_keys:
            for row in await self._crowd.world.book(provider):
                claims = row["status"] == _AUTHORIZED or row["captured"] > row["refunded"]
                if claims and row["reference"] in payments:
                    kept[payments[row["reference"]]].append(row["captured"] - row["refunded"])
        for name, known in seen.investments.items():
            taken = kept.get(known.payment_id, [])
            seen.investments[name] = replace(known, kept=sum(taken), claims=len(taken))

    async def _owed(self) -> dict[str, int]:
        """What is still on its way, by kind: rows, and processes that run though their flow has ended."""
        found: dict[str, int] = dict((await self._read(_OWED))[0])
        if not any(found.values()):
            client = await connect(self._settings)
            found["processes"] = (await client.count_workflows(_PROCESSES)).count
        return {name: count for name, count in found.items() if count}

    async def _read(self, query: str) -> list[DictRow]:
        url = self._settings.role_url("chama_audit")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as connection:
            return await (await connection.execute(query.encode(), self._values)).fetchall()
