"""A time of day that follows trio's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """Tells a time of day that begins at `start` and moves as `trio.current_time` does.

    With `trio.testing.MockClock` nothing waits: an hour passes when every task sleeps for at least an hour.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._begun_at = trio.current_time()

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        return self._start + timedelta(seconds=trio.current_time() - self._begun_at)
