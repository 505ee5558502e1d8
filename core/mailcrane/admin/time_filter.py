"""Durations and conditions on instants as operators write them: ``90m``, ``<1h``, ``>-2d``, ``now``.

A condition is relative to the moment in which it is asked: ``<1h`` is everything before one hour from now, ``>-2d``
everything since two days ago. ``now`` alone means ``<now``: what is due.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from msgspec import Struct

from mailcrane.admin.errors import AdminError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d|w)")
_MAX = timedelta(days=36500)


class TimeBounds(Struct, frozen=True):
    """Between which instants something lies; None does not bound.

    Attributes:
        after: Exclusive.
        before: Exclusive.
    """

    after: datetime | None = None
    before: datetime | None = None


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``1h30m``, ``-2d`` or ``0``.

    Raises:
        AdminError: it is not one.
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    parts = _PART.findall(rest)
    if rest != "0" and (not parts or "".join(number + unit for number, unit in parts) != rest):
        raise AdminError("bad_value", f'"{text}" is not a duration; write it like 90s, 1h30m or 2d')
    try:
        total = sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta(0))
    except OverflowError:
        total = _MAX * 2
    if total > _MAX:
        raise AdminError("bad_value", f'"{text}" is longer than a hundred years')
    return sign * total


def parse_instant(text: str, now: datetime) -> datetime:
    """Read an instant: RFC 3339, or how long ago it was, such as ``2h``.

    Raises:
        AdminError: it is neither.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now - parse_duration(text)
    # Without an offset it is the time of the machine.
    return at if at.tzinfo is not None else at.astimezone()


def parse_time_filter(text: str, now: datetime) -> TimeBounds:
    """Read a condition on an instant; an empty text has none.

    Args:
        text: ``<`` or ``>`` with a duration from now or ``now``, or ``now`` alone for ``<now``.
        now: The moment in which it is asked.

    Raises:
        AdminError: it is not one.
    """
    text = text.replace(" ", "")
    if not text:
        return TimeBounds()
    if text == "now":
        text = "<now"
    comparison, rest = text[0], text[1:]
    if comparison not in "<>":
        raise AdminError("bad_value", f'"{text}" is not a condition on a time; write it like <1h, >-2d or now')
    at = now if rest == "now" else now + parse_duration(rest)
    # Instants are kept to the microsecond: what is due now is not after it.
    return TimeBounds(before=at + timedelta(microseconds=1)) if comparison == "<" else TimeBounds(after=at)
