"""A reader that never stops: while everything breaks, each read of the books must be balanced and agree with itself."""

import asyncio
from typing import Final

import psycopg

_PAUSE_SECONDS: Final = 0.05
_READ: Final = """
select (select coalesce(sum(posted_minor::numeric * account_id), 0) from ledger_balances)
           - (select coalesce(sum(amount_minor::numeric * (debit_id - credit_id)), 0) from ledger_transfers
               where phase in ('single', 'post', 'reversal')) as drift,
       (select coalesce(sum(posted_minor), 0) from ledger_balances) as posted,
       (select coalesce(sum(pending_debit_minor - pending_credit_minor), 0) from ledger_balances) as pending,
       (select count(*) from campaigns c
         cross join lateral (
               select coalesce(sum(amount_minor) filter (where status in ('pledged', 'awaiting_payment')), 0) as pledged,
                      coalesce(sum(amount_minor) filter (where status = 'held'), 0) as held,
                      coalesce(sum(amount_minor) filter (where status = 'captured'), 0) as captured
                 from investments i where i.tenant_id = c.tenant_id and i.mode = c.mode and i.campaign_id = c.id) x
         where (c.pledged_minor, c.held_minor, c.captured_minor) is distinct from (x.pledged, x.held, x.captured)
       ) as counters,
       (select count(*) from ledger_transfers) as transfers
"""
"""One statement, one snapshot: A3 (the cached balances, each weighed by its account, are what the transfers moved), A1 (they
sum to zero), A9 (counters are the rows' sums)."""


class Reader:
    """Reads over a connection of its own, past the broken links, as the auditor's role."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reads = 0
        self.transfers = 0
        """As of the last read; it may never fall, for what was committed stays."""
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Until cancelled. An outage of the database interrupts the reads, it is no finding."""
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=2)
                async with connection:
                    while True:
                        await self._read(connection)
                        await asyncio.sleep(_PAUSE_SECONDS)
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)

    async def _read(self, connection: psycopg.AsyncConnection[tuple[int, ...]]) -> None:
        row = await (await connection.execute(_READ)).fetchone()
        assert row is not None
        *zeros, transfers = row
        self.reads += 1
        if any(zeros):
            names = ("drift", "posted", "pending", "counters")
            self._complain(", ".join(f"{name} {value}" for name, value in zip(names, zeros, strict=True) if value))
        if transfers < self.transfers:
            self._complain(f"{self.transfers} transfers became {transfers}")
        self.transfers = transfers

    def _complain(self, text: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(f"read {self.reads}: {text}")
