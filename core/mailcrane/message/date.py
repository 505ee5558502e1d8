"""Dates of header fields (RFC 5322 section 3.3)."""

from __future__ import annotations

import email.utils
import functools
from datetime import UTC, datetime, timedelta

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Longer than any date with comments that occurs; bounds the parser.
_MAX_CHARACTERS = 200


def format_date(instant: datetime) -> str:
    """Format an aware instant with its numeric zone, whatever the locale is."""
    offset = instant.utcoffset()
    if offset is None:
        raise ValueError("a naive datetime has no zone")
    return _format(instant.replace(microsecond=0), offset)


# Every message carries the present second a few times.
@functools.lru_cache(maxsize=64)
def _format(instant: datetime, offset: timedelta) -> str:
    sign = "-" if offset < timedelta(0) else "+"
    minutes = abs(offset) // timedelta(minutes=1)
    return (
        f"{_DAYS[instant.weekday()]}, {instant.day} {_MONTHS[instant.month - 1]} {instant.year:04d} "
        f"{instant.hour:02d}:{instant.minute:02d}:{instant.second:02d} {sign}{minutes // 60:02d}{minutes % 60:02d}"
    )


def parse_date(value: str) -> datetime | None:
    """Parse a date, obsolete forms included; None for what is not one. A date without a zone is taken as UTC."""
    if len(value) > _MAX_CHARACTERS:
        return None
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        aware.astimezone(UTC)  # beyond the year 9999, or before the first, in UTC
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return aware
