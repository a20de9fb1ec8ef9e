"""Whole days of a time zone (IANA), as instants."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo


def begins_at(day: date, zone: str) -> datetime:
    """The first instant of a day there."""
    return datetime.combine(day, datetime.min.time(), ZoneInfo(zone))


def is_over_at(day: date, zone: str) -> datetime:
    """The first instant that no longer belongs to it."""
    return begins_at(day + timedelta(days=1), zone)
