"""How many deliveries may be under way, in all and to each domain, so that a few slow domains never take every place.

What counts is a delivery: a hundred recipients of one message at one domain are one transaction on one connection.
A domain may have `concurrency_per_domain` of them as long as half of all places are free. Beyond that its share shrinks
with the square of what is left, down to one. So a few domains that hang cannot use up the places, and one to which
nothing is under way finds a place at once: with the default settings it takes more than 400 domains that hang, each
with more mail than it may have under way, to leave none. (In proportion to what is left it would take 265.)

Where a transport said that it can do no more (`NotNow`), the domain gets a limit of its own: what was under way then.
It grows again by one after some deliveries that went well, and so finds out what is possible without asking each time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from msgspec import Struct

# Deliveries that go well, for each place of the limit, before one more is tried: what is refused costs two units.
_GOOD_PER_PLACE = 4
# Limits that are kept. An older one that is forgotten is learned again by one refusal.
_MOST_LIMITS = 10_000


class _Limit(Struct):
    most: int
    good: int = 0


class Places:
    """The places of one worker. To be changed on the loop only; `room_for` may be asked in any thread.

    Args:
        most: Deliveries under way at once.
        most_per_domain: To one domain.
    """

    def __init__(self, most: int, most_per_domain: int) -> None:
        self._most = most
        self._most_per_domain = most_per_domain
        self._taken: Counter[str] = Counter()
        self._taken_in_all = 0
        self._limits: OrderedDict[str, _Limit] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more deliveries may begin."""
        return max(0, self._most - self._taken_in_all)

    @property
    def taken(self) -> int:
        """How many deliveries are under way."""
        return self._taken_in_all

    def under_way_to(self, domain: str) -> int:
        """Return how many deliveries to a domain are under way."""
        return self._taken.get(domain, 0)

    def room_for(self, domain: str, begun: int = 0) -> int:
        """Return how many more deliveries to a domain may begin.

        Args:
            domain: The recipients'.
            begun: Deliveries to other domains that begin now and are not counted yet.
        """
        free = self._most - self._taken_in_all - begun
        return min(max(0, free), max(0, self.share_of(domain, begun) - self._taken.get(domain, 0)))

    def share_of(self, domain: str, begun: int = 0) -> int:
        """Return how many deliveries to a domain may be under way as things are, those under way included."""
        free = self._most - self._taken_in_all - begun
        if free <= 0:
            return 0
        most = min(self._most_per_domain, max(1, self._most_per_domain * (2 * free) ** 2 // self._most**2))
        limit = self._limits.get(domain)
        return most if limit is None else min(most, limit.most)

    def take(self, domain: str) -> None:
        """Note that a delivery begins."""
        self._taken[domain] += 1
        self._taken_in_all += 1

    def leave(self, domain: str) -> None:
        """Note that a delivery has ended."""
        self._taken_in_all -= 1
        self._taken[domain] -= 1
        if not self._taken[domain]:
            del self._taken[domain]

    def shrink(self, domain: str) -> None:
        """Note that one of the deliveries under way was told that there is no place for it."""
        limit = self._limits.get(domain)
        # Several may be told so at once, before any of them has left.
        under_way = self.under_way_to(domain) if limit is None else min(limit.most, self.under_way_to(domain))
        self._limits[domain] = _Limit(max(1, under_way - 1))
        self._limits.move_to_end(domain)
        if len(self._limits) > _MOST_LIMITS:
            self._limits.popitem(last=False)

    def note_good(self, domain: str) -> None:
        """Note that one of the deliveries under way found its place."""
        limit = self._limits.get(domain)
        if limit is None:
            return
        limit.good += 1
        if limit.good >= _GOOD_PER_PLACE * limit.most:
            limit.good = 0
            limit.most += 1
            if limit.most >= self._most_per_domain:
                del self._limits[domain]
