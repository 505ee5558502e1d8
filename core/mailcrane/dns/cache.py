"""Answers kept for as long as they are good, up to a number of them. No I/O, and the time is told by the caller."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TTLCache(Generic[K, V]):
    """Values with an end; the one that was used least recently goes when there are too many.

    Args:
        size: How many are kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K, now: float) -> V | None:
        """Return a value that is still good, or None."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return found[1]

    def set(self, key: K, value: V, until: float) -> None:
        """Keep a value until an instant of the caller's clock."""
        self._values[key] = (until, value)
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
