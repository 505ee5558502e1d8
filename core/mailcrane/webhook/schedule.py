"""When a webhook call is made again, and when it is given up. Pure functions of the call."""

from __future__ import annotations

from datetime import datetime, timedelta

from mailcrane.model.webhook import WebhookCall

INTERVALS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 7.5, 15, 30, 60, 120, 240, 480, 960))
"""Between the first attempt and the second, and so on, before jitter, where the configuration says nothing else."""

MAX_ATTEMPTS = len(INTERVALS) + 1

_JITTER_STEPS = 100  # of a ten-thousandth each: one percent


def next_due_at(call: WebhookCall, now: datetime, first_interval: timedelta = INTERVALS[0]) -> datetime:
    """Return when a call is made again if the attempt that has begun does not end it.

    Args:
        call: With the attempt counted that has begun.
        now: When it began.
        first_interval: Between the first attempt and the second, before jitter; the others grow in proportion.
    """
    interval = INTERVALS[min(call.attempts, len(INTERVALS)) - 1] * (first_interval / INTERVALS[0])
    # The same in every run of a unit. Knuth's multiplier spreads ids in a row.
    spread = (call.id * 2654435761 + call.attempts * 40503) % (2 * _JITTER_STEPS + 1) - _JITTER_STEPS
    return now + interval * (1 + spread / 10_000)


def is_exhausted(call: WebhookCall) -> bool:
    """Whether a call has had all its attempts, the last one included."""
    return call.attempts >= MAX_ATTEMPTS
