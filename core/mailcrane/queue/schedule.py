"""When an entry is tried again, and when it is given up (RFC 5321 section 4.5.4.1).

The first retry comes 7.5 minutes after the first attempt, where ``[queue] retry_interval_seconds`` says nothing else,
and every further wait is twice as long. With the eight attempts of the default setting an entry is given up after about
16 hours. Pure functions of the entry: a unit that runs twice comes to the same time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from mailcrane.model.delivery import Entry

FIRST_INTERVAL = timedelta(minutes=7, seconds=30)
"""Between the first and the second attempt, before jitter."""

JITTER = timedelta(seconds=5)
"""At most this is added to or taken from the first interval, so that entries queued together drift apart.

A shorter first interval has a jitter that is shorter in proportion.
"""

# Entries with a large `max_attempts` of their own would otherwise leave the calendar: 7.5 minutes doubled 12 times are
# three weeks.
_MAX_DOUBLINGS = 12

_STEPS = 1000


def next_due_at(entry: Entry, first_interval: timedelta = FIRST_INTERVAL) -> datetime:
    """Return when an entry is tried again if the attempt that has begun does not end it.

    Args:
        entry: With the attempt counted that has begun.
        first_interval: Between the first and the second attempt, before jitter.
    """
    begun_at = entry.last_attempt_at or entry.due_at
    doublings = min(max(entry.attempts - 1, 0), _MAX_DOUBLINGS)
    jitter = _jitter(entry) * min(1.0, first_interval / FIRST_INTERVAL)
    return begun_at + (first_interval + jitter) * (1 << doublings)


def last_due_at(
    entry: Entry, due_at: datetime, default_max_attempts: int, first_interval: timedelta = FIRST_INTERVAL
) -> datetime:
    """Return when the last attempt of an entry is due, if all before it are deferred and none of them takes time.

    Args:
        entry: With the attempts counted that were begun.
        due_at: When the next attempt is due.
        default_max_attempts: For entries that set none of their own.
        first_interval: Between the first and the second attempt, before jitter.
    """
    for attempts in range(entry.attempts + 1, entry.max_attempts or default_max_attempts):
        due_at = next_due_at(replace(entry, attempts=attempts, last_attempt_at=due_at), first_interval)
    return due_at


def is_exhausted(entry: Entry, default_max_attempts: int) -> bool:
    """Return whether an entry has had all the attempts it may have.

    Args:
        entry: With the attempts that were begun, the last one included.
        default_max_attempts: For entries that set none of their own.
    """
    return entry.attempts >= (entry.max_attempts or default_max_attempts)


def _jitter(entry: Entry) -> timedelta:
    # Entries that travel together keep together, so the common id counts. Knuth's multiplier spreads ids in a row.
    spread = ((entry.base_id or entry.id) * 2654435761 + entry.attempts * 40503) % (2 * _STEPS + 1)
    return JITTER * ((spread - _STEPS) / _STEPS)
