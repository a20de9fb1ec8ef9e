"""Calls of both ledgers by pgbench: the cheapest client there is, so that what is measured is the ledger.

A transaction is two round trips on both sides: BEGIN with the call (ours with its scope between them, as `infra/database.py`
sends it), then COMMIT. Every statement is prepared once a connection, and the call's values are bound, as the product's driver
does it after its first uses. Ours is the product's own statement (`models/ledger.py`) with the values of one of its postings;
accounts are drawn at random for each call, keys are new. What the product spends in Python is not in here:
benchmarks/posters.py measures both sides with it.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.posters import HOT, WALLETS, Kind, Side, Where, deposit
from cli.stack.postgres import binaries
from infra.database import BEGIN
from models.ledger_arguments import ADD, values_to_add

_DEBIT: Final = {"one": rf"\set debit random(1, {WALLETS - 1})", "hot": rf"\set debit {HOT}"}
# A colon begins a variable only before the name of one: those of account codes and of dates stay.
_DRAWN: Final = rf"""
\set wallet random({WALLETS}, {2 * WALLETS - 1})
\set n :n + 1
"""
# What is sent between the two commands travels together. The code of an account is put together by the server: a variable of
# pgbench is a whole value.
_TRANSACTION: Final = rf"""{_DRAWN}
\startpipeline
{{begin}};
{{call}};
\endpipeline
commit;
"""
_BARE: Final = _TRANSACTION.format(begin="begin", call="select bare.post(:debit, :wallet, 100)")
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
        text, defined = self._ours() if side == "ours" else (_BARE, dict[str, object]())
        script = self._directory / f"{side}_{kind}.sql"
        script.write_text(_DEBIT[kind] + text)
        jobs = min(clients, os.cpu_count() or 1)
        options = [
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={clients}",
            f"--jobs={jobs}",
            f"--transactions={each}",
            *(f"--define={name}={value}" for name, value in {"n": 0, **defined}.items()),
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

    def _ours(self) -> tuple[str, Mapping[str, object]]:
        """The product's call with the values of one of its postings, but for the key and the accounts; and the values."""
        values = values_to_add(deposit())
        assert values is not None, "a deposit lowers nothing"
        _, event, digest, at, debit, debit_stripes, credit, credit_stripes, minor = values
        scope, key = self._where.scope, f"pgbench/{time.time_ns()}/{next(_runs)}"
        defined = {"key": key, "event": event, "digest": digest, "at": at, "minor": minor}
        defined |= {"debit_stripes": debit_stripes, "credit_stripes": credit_stripes}
        codes = []
        for side, code, number in (("debit", debit, ":debit"), ("credit", credit, ":wallet")):
            defined[f"{side}_before"], defined[f"{side}_after"] = re.split(r"\d+", str(code), maxsplit=1)
            codes.append(f":{side}_before::text || {number}::text || :{side}_after::text")
        call = ADD.strip() % (
            ":key::text || '/' || :client_id::text || '/' || :n::text", ":event", ":digest", ":at",
            codes[0], ":debit_stripes", codes[1], ":credit_stripes", ":minor",
        )  # fmt: skip
        begin = ";\n".join(BEGIN) % (scope.tenant_id, scope.mode)
        return _TRANSACTION.format(begin=begin, call=call), defined
