"""Who may be called how often at once, so that receivers that hang slow no others. No I/O; time is handed in.

There are two lanes. A call begins in the quick lane, of as many slots as the configuration says. One that is under way
for `SLOW_SECONDS` goes over to the slow lane, which is wider, and gives its slot back; from then on calls to its URL
begin in the slow lane, until one of them ends sooner. Besides:

- a URL begins with a few calls at once, gets twice as many with each answer, up to the limit of the configuration, and
  a quarter with each that did not answer in that time, down to one;
- the last slots of the quick lane are for URLs that have no call under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

SLOW_SECONDS = 5.0
"""How long a call may be under way before it makes room for others."""

SLOW_LANE_FACTOR = 4
"""How many times wider the slow lane is: what is in it costs a connection and little else."""

FIRST_CALLS = 4
"""At once to a URL of which nothing is known."""

_RESERVED_PART = 8
_MAX_REMEMBERED = 10_000


def most_calls(concurrency: int) -> int:
    """Return how many calls there are at once at most, in both lanes."""
    return concurrency * (1 + SLOW_LANE_FACTOR)


class Slots:
    """Counts the calls that are under way.

    Args:
        concurrency: Slots of the quick lane.
        per_url: The most calls at once to one URL.
    """

    def __init__(self, concurrency: int, per_url: int) -> None:
        self._concurrency = concurrency
        self._per_url = per_url
        self._reserved = concurrency // _RESERVED_PART
        self._slow_lane = concurrency * SLOW_LANE_FACTOR
        # Call to URL and beginning; the oldest first.
        self._quick: dict[Hashable, tuple[str, float]] = {}
        self._slow: dict[Hashable, tuple[str, float]] = {}
        self._running: Counter[str] = Counter()
        # The URL that was called last stands last.
        self._limits: dict[str, int] = {}
        self._slow_urls: dict[str, None] = {}

    @property
    def under_way(self) -> int:
        """How many calls are under way, in both lanes."""
        return len(self._quick) + len(self._slow)

    def begin(self, call: Hashable, url: str, at: float) -> None:
        """Note a call that begins."""
        lane = self._slow if url in self._slow_urls else self._quick
        lane[call] = (url, at)
        self._running[url] += 1

    def end(self, call: Hashable, at: float, *, is_answered: bool) -> None:
        """Note a call that ended; whether with a response or without one."""
        url, begun_at = (self._quick if call in self._quick else self._slow).pop(call)
        is_slow = at - begun_at >= SLOW_SECONDS
        if is_answered:
            limit = 2 * self._limits.get(url, FIRST_CALLS)
            self._limit(url, min(self._per_url, limit if is_slow else max(limit, FIRST_CALLS)))
        elif is_slow:
            self._limit(url, max(1, self._limits.get(url, FIRST_CALLS) // 4))
        if is_slow:
            self._call_slow(url)
        elif is_answered:
            self._slow_urls.pop(url, None)
        self._running[url] -= 1
        if not self._running[url]:
            del self._running[url]

    def free(self, at: float) -> int:
        """Return how many calls may begin now in the quick lane; those that are slow make room first."""
        for call, (url, begun_at) in list(self._quick.items()):
            if at - begun_at < SLOW_SECONDS or len(self._slow) >= self._slow_lane:
                break
            self._slow[call] = self._quick.pop(call)
            self._call_slow(url)
        return self._concurrency - len(self._quick)

    def room(self, url: str, leased: int) -> int:
        """Return how many calls to a URL may begin.

        Args:
            leased: How many calls to other URLs are about to begin.
        """
        running = self._running[url]
        most = min(self._per_url, self._limits.get(url, FIRST_CALLS)) - running
        if url in self._slow_urls:
            return max(0, min(most, self._slow_lane - len(self._slow) - leased))
        free = self._concurrency - len(self._quick) - leased
        unreserved = max(free - self._reserved, 0 if running else min(free, 1))
        return max(0, min(most, unreserved))

    def closed(self) -> set[str]:
        """Return the URLs that get no call now, so that they need not be looked at."""
        closed = {url for url in self._running if self.room(url, 0) <= 0}
        if len(self._slow) >= self._slow_lane:
            closed.update(self._slow_urls)
        return closed

    def next_change_at(self) -> float:
        """Return when a call that is under way gives its slot back at the latest; infinity when none does."""
        if not self._quick or len(self._slow) >= self._slow_lane:
            return float("inf")
        _, begun_at = next(iter(self._quick.values()))
        return begun_at + SLOW_SECONDS

    def _limit(self, url: str, limit: int) -> None:
        # Also of a URL that has no call under way: one that answers at once has none between two looks at the queue.
        self._limits.pop(url, None)
        self._limits[url] = limit
        if len(self._limits) > _MAX_REMEMBERED:
            del self._limits[next(iter(self._limits))]

    def _call_slow(self, url: str) -> None:
        self._slow_urls.pop(url, None)
        self._slow_urls[url] = None
        if len(self._slow_urls) > _MAX_REMEMBERED:
            del self._slow_urls[next(iter(self._slow_urls))]
