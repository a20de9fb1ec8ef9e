"""Calls of both ledgers by pgbench: the cheapest client there is, so that what is measured is the ledger.

A transaction is three messages on both sides: BEGIN (ours with its scope, as `infra/database.py` sends it), the call, COMMIT. The
call is prepared once a connection, as the product's is after its first uses; pgbench cannot both send a BEGIN of several
statements and bind values, so both sides name it with EXECUTE. Ours is the product's own statement (`models/ledger.py`) with
the values of one of its postings; accounts are drawn at random for each call, keys are new. What the product spends in
Python is not in here: benchmarks/posters.py measures both sides with it.
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
from infra.database import BEGIN
from models import ledger
from models.ledger_arguments import values_of

_DEBIT: Final = {"one": rf"\set debit random(1, {WALLETS - 1})", "hot": rf"\set debit {HOT}"}
# A colon begins a variable only before the name of one: those of account codes and of dates stay.
_SCRIPT: Final = rf"""
\set wallet random({WALLETS}, {2 * WALLETS - 1})
\set n :n + 1
\if :n = 1
prepare posting as {{call}};
\endif
{{begin}};
execute posting({{values}});
commit;
"""
_BARE: Final = _SCRIPT.format(call="select bare.post($1, $2, $3)", begin="begin", values=":debit, :wallet, 100")
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
        script.write_text(_DEBIT[kind] + (self._ours() if side == "ours" else _BARE))
        jobs = min(clients, os.cpu_count() or 1)
        options = [
            "--no-vacuum",
            "--protocol=simple",
            f"--client={clients}",
            f"--jobs={jobs}",
            f"--transactions={each}",
            "--define=n=0",
        ]
        process = await asyncio.create_subprocess_exec(
            binaries() / "pgbench", *options, f"--file={script}", url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        found = _TPS.search(output.decode())
        if process.returncode or found is None:
            raise RuntimeError(f"pgbench failed: {errors.decode()[-1000:]}")
        return float(found[1])

    def _ours(self) -> str:
        """The product's call with the values of one of its postings, but for the key and the accounts."""
        key, event, phase, digest, at, expires, debit, credit, minor = values_of(deposit())
        assert expires is None, "a deposit does not expire"
        key = f"pgbench/{time.time_ns()}/{next(_runs)}/:client_id/:n"
        debit, credit = (re.sub(r"\d+", name, str(code)) for name, code in ((":debit", debit), (":wallet", credit)))
        values = f"'{key}', '{event}', '{phase}', '{digest}', '{at}', null, '{debit}', '{credit}', {minor}"
        scope = self._where.scope
        return _SCRIPT.format(
            call=ledger.POST_ONE.strip() % tuple(f"${n}" for n in range(1, 10)),
            begin=(BEGIN % (scope.tenant_id, scope.mode)).replace("; ", r"\; "),
            values=values,
        )
