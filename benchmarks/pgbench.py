"""Calls of both ledgers by pgbench: the cheapest client there is, so that what is measured is the ledger.

A transaction is three round trips on both sides: BEGIN (ours sets its scope in the same trip), the call, COMMIT; statements are
prepared, as the product's are after their first uses. Ours is the product's own statement (`models/ledger.py`) with as many
values; accounts are drawn at random for each call, keys are new. What the product spends in Python is not in here:
benchmarks/posters.py measures both sides with it.
"""

import asyncio
import itertools
import os
import re
import time
from pathlib import Path
from typing import Final

from benchmarks.posters import HOT, WALLETS, Kind, Side, Where, deposit
from cli.stack.postgres import binaries
from models import ledger
from models.ledger_arguments import values_of

_DEBIT: Final = {"one": rf"\set debit random(1, {WALLETS - 1})", "hot": rf"\set debit {HOT}"}
_OTHER: Final = rf"\set wallet random({WALLETS}, {2 * WALLETS - 1})"
_BARE: Final = """\
begin;
select bare.post(:debit, :wallet, 100);
commit;
"""
# pgbench takes whatever follows a colon for a variable, so the scope's values are in the text and codes are put together.
_OURS: Final = r"""
\set n :n + 1
\startpipeline
begin;
set local app.tenant = '{scope.tenant_id}';
set local app.mode = '{scope.mode}';
\endpipeline
{call};
commit;
"""
_CODES: Final = (
    "concat(:provider::text, :debit::bigint, :end::text)",
    "concat(:user::text, :wallet::bigint, :end::text)",
)
_KEY: Final = "concat(:run::text, :client_id::bigint, '/', :n::bigint)"
_TPS: Final = re.compile(r"^tps = ([\d.]+) \(without initial connection time\)", re.MULTILINE)
_runs = itertools.count()


class PgBench:
    """Writes its scripts to `directory`."""

    def __init__(self, directory: Path, where: Where) -> None:
        self._directory, self._where = directory, where
        directory.mkdir(exist_ok=True)

    async def rate(self, side: Side, kind: Kind, clients: int, each: int) -> float:
        """Postings a second of `clients` that make `each` calls one after the other. Raises RuntimeError when one fails."""
        url = self._where.app_url if side == "ours" else self._where.owner_url
        script = self._directory / f"{side}_{kind}.sql"
        script.write_text(f"{_DEBIT[kind]}\n{_OTHER}\n" + (self._ours() if side == "ours" else _BARE))
        jobs = min(clients, os.cpu_count() or 1)
        options = [
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={clients}",
            f"--jobs={jobs}",
            f"--transactions={each}",
        ]
        defined = [f"--define={name}={value}" for name, value in self._values().items()]
        process = await asyncio.create_subprocess_exec(
            binaries() / "pgbench", *options, *defined, f"--file={script}", url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        found = _TPS.search(output.decode())
        if process.returncode or found is None:
            raise RuntimeError(f"pgbench failed: {errors.decode()[-1000:]}")
        return float(found[1])

    def _ours(self) -> str:
        """The product's call, each of its values one of pgbench's or an expression of several."""
        values = (_KEY, ":event", ":phase", ":hash", ":at", "null", *_CODES, ":minor")
        assert len(values) == len(values_of(deposit())), "the statement's values"
        return _OURS.format(scope=self._where.scope, call=(ledger.POST_ONE.strip() % values))

    def _values(self) -> dict[str, object]:
        """A posting's values that are the same for each call."""
        _, event, phase, digest, at, *_, minor = values_of(deposit())
        return {
            "n": 0, "run": f"pgbench/{time.time_ns()}/{next(_runs)}/", "event": event, "phase": phase, "hash": digest, "at": at,
            "minor": minor, "provider": "provider:p", "user": "wallet:u", "end": ":NGN",
        }  # fmt: skip
