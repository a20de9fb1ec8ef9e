"""The monitor that runs all the time: a scan every quarter of a minute, as metrics and as log lines.

It lives in the relay's process: the relay runs wherever Chama runs, answers no requests that a scan could slow down, and
has no public address that metrics would have to be kept from. Several relays report the same; take the maximum.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg
import structlog
from prometheus_client import Gauge, start_http_server
from psycopg_pool import PoolTimeout

from api.stuck import EVERY, REGULAR, Budget, scan
from contracts.stuck import StuckReport
from domain.stuck import StuckKind
from infra.database import Database
from infra.delivery import ClientFactory, TemporalLink

log = structlog.get_logger(__name__)

STUCK = Gauge("chama_stuck", "Things that should move by themselves and do not.", ["kind"])
OLDEST = Gauge("chama_stuck_oldest_seconds", "For how long the longest stuck of a kind has been.", ["kind"])
UNREAD = Gauge(
    "chama_stuck_unread", "1 when the last scan could not read a kind, whose numbers are older then.", ["kind"]
)
SCANNED_AT = Gauge("chama_stuck_scan_timestamp_seconds", "When the last scan ended; an old one is an alarm of its own.")
COMPLETE = Gauge(
    "chama_stuck_scan_complete", "1 when the last scan saw everything, 0 when its budget or Temporal failed it."
)


async def run_watch(database: Database, client_factory: ClientFactory, *, budget: Budget = REGULAR) -> None:
    """Scan until canceled. `database` logs in as chama_audit, and is open. Whatever goes wrong is logged: messages are
    delivered all the same, and the time of the last scan tells on us."""
    link = TemporalLink(client_factory)
    before: dict[StuckKind, int] = {}
    while True:
        try:
            report = await scan(link, database, None, budget)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("stuck.database_down", exc_info=error)
        except Exception as error:
            log.error("stuck.scan_failed", exc_info=error)
        else:
            publish(report)
            if report.counts != before:
                (log.warning if report.counts else log.info)("stuck.found", **_line(report))
            before = dict(report.counts)
        await asyncio.sleep(EVERY.total_seconds())


def publish(report: StuckReport) -> None:
    """Set the gauges: every kind, also those of which there is none; but of a kind that was not read only what was found."""
    oldest: dict[StuckKind, float] = {}
    for each in report.findings:
        age = (report.at - each.since).total_seconds() if each.since else 0
        oldest[each.kind] = max(oldest.get(each.kind, 0), age)
    for kind in StuckKind:
        UNREAD.labels(kind).set(kind in report.unread)
        if kind in report.unread and kind not in report.counts:
            continue
        STUCK.labels(kind).set(report.counts.get(kind, 0))
        OLDEST.labels(kind).set(oldest.get(kind, 0))
    SCANNED_AT.set_to_current_time()
    COMPLETE.set(report.complete)


@contextlib.contextmanager
def metrics_served(host: str, port: int) -> Iterator[None]:
    """Serve `/metrics` in a thread of its own while the block runs; port 0 is nowhere. A taken port is logged and done
    without: messages are delivered all the same."""
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        log.error("metrics.not_served", port=port, reason=type(error).__name__)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _line(report: StuckReport) -> dict[str, object]:
    """Numbers, and a few ids to begin with."""
    first = [f"{each.kind} {each.subject}" for each in report.findings[:5]]
    return {"counts": {str(kind): n for kind, n in report.counts.items()}, "first": first, "complete": report.complete}
