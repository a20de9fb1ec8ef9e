"""Structured logs of every process: one JSON object a line (readable colours on a terminal), one correlation id.

The request id bound with `structlog.contextvars.bind_contextvars(request_id=…)` stands on each line of that request.
Values under names that smell of a secret are starred, and exceptions are logged by type and place, never by message:
messages of database drivers quote the row. Libraries that log through the standard library are written the same way.
"""

import json
import logging
import sys
import traceback
from functools import lru_cache
from types import TracebackType

import structlog
from structlog.typing import EventDict, WrappedLogger

_SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie", "api_key", "signature", "credential")
_FRAMES_MAX = 12
_LINE_MAX = 200


class _Libraries(logging.Handler):
    """Writes what libraries log (the Temporal SDK, uvicorn, the pool, asyncio): their template's first line, no arguments.

    Without it Python's last resort prints their records, with the messages of all exceptions, to standard error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        line = str(record.msg).partition("\n")[0].partition(" ({")[0]
        write = structlog.get_logger(record.name).log
        write(record.levelno, line[:_LINE_MAX], logger=record.name, exc_info=record.exc_info or None)


def configure(level: str = "INFO", *, as_json: bool | None = None) -> None:
    """Set up structlog for this process. `as_json` None: JSON unless standard error is a terminal."""
    use_json = not sys.stderr.isatty() if as_json is None else as_json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask_secrets,
            place_exception,
            structlog.processors.JSONRenderer(_as_json) if use_json else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if not any(isinstance(each, _Libraries) for each in logging.root.handlers):
        logging.root.addHandler(_Libraries(logging.WARNING))


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Star every value whose name contains a secret word."""
    for name in event:
        if _is_secret(name):
            event[name] = "***"
    return event


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def place_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's type and the innermost frames, without its message."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["at"] = _frames(error.__traceback__)
        sqlstate = getattr(error, "sqlstate", None)
        if sqlstate:
            event["sqlstate"] = sqlstate
    return event


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_FRAMES_MAX:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]


_JSON = json.JSONEncoder(default=str)
"""Any value that is no JSON as its text; secret types already print as stars."""


def _as_json(event: EventDict, **_: object) -> str:
    return _JSON.encode(event)
