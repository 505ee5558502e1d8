"""The bus that says "look again": something of a topic was committed.

A wake-up carries nothing; who waits reads the stored state. A lost wake-up would cost latency, never correctness, and
inside one process none is lost: a topic has a version, and a waiter says which one it has seen.
"""

from __future__ import annotations

from collections import defaultdict

import trio


class Wakeups:
    """Versions of topics, and tasks that wait for the next one. To be used on the loop only."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._waiting: defaultdict[str, trio.lowlevel.ParkingLot] = defaultdict(trio.lowlevel.ParkingLot)

    def version(self, topic: str) -> int:
        """Return the topic's version; to be taken *before* the stored state is read."""
        return self._versions.get(topic, 0)

    def wake(self, topic: str) -> None:
        """Raise the topic's version and wake all that wait for it."""
        self._versions[topic] = self._versions.get(topic, 0) + 1
        lot = self._waiting.pop(topic, None)
        if lot is not None:
            lot.unpark_all()

    async def wait(self, topic: str, *, seen: int) -> int:
        """Wait until the topic's version is past the one that was seen, and return it. Always a checkpoint."""
        if self.version(topic) != seen:
            await trio.lowlevel.checkpoint()
        while (version := self.version(topic)) == seen:
            lot = self._waiting[topic]
            try:
                await lot.park()
            finally:
                if not lot and self._waiting.get(topic) is lot:
                    del self._waiting[topic]
        return version
