"""Probes from outside: each answers True once a part does its work, False while it does not yet.

They use plain sockets and HTTP, cost a few milliseconds and never raise for a part that is down.
"""

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime

import psycopg

_SECONDS = 1.0


def tcp(port: int) -> bool:
    """Whether something listens on loopback at `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True


def http(url: str) -> bool:
    """Whether `url` answers 200."""
    return _get(url) is not None


def postgres(url: str) -> bool:
    """Whether the database answers queries."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def connected(owner_url: str, application: str) -> bool:
    """Whether a client that calls itself `application` holds a connection to the database."""
    try:
        with psycopg.connect(owner_url, connect_timeout=2) as connection:
            query = "select 1 from pg_stat_activity where application_name = %s and datname = current_database()"
            return connection.execute(query, (application,)).fetchone() is not None
    except psycopg.OperationalError:
        return False


def namespace(http_port: int, name: str) -> bool:
    """Whether the Temporal server knows its namespace: it listens a moment before it does."""
    return http(f"http://127.0.0.1:{http_port}/api/v1/namespaces/{urllib.parse.quote(name, safe='')}")


def polled(http_port: int, name: str, queue: str, since: datetime) -> bool:
    """Whether a worker has asked Temporal for workflow and activity tasks of `queue` after `since`.

    Temporal lists pollers for minutes after they died, hence the time.
    """
    base = f"http://127.0.0.1:{http_port}/api/v1/namespaces/{urllib.parse.quote(name, safe='')}/task-queues/{queue}"
    kinds = ("TASK_QUEUE_TYPE_WORKFLOW", "TASK_QUEUE_TYPE_ACTIVITY")
    return all(_polled(f"{base}?taskQueueType={kind}", since) for kind in kinds)


def _polled(url: str, since: datetime) -> bool:
    body = _get(url)
    pollers = json.loads(body).get("pollers") or [] if body else []
    return any(_moment(each["lastAccessTime"]) >= since for each in pollers if "lastAccessTime" in each)


def _moment(text: str) -> datetime:
    """Temporal writes nanoseconds; Python reads six digits."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(fraction + '000000')[:6]}+00:00")


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - our own loopback addresses
            return bytes(answer.read()) if answer.status == 200 else None
    except (OSError, urllib.error.URLError, ValueError):
        return None
