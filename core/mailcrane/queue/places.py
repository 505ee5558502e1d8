"""How many deliveries may be under way, in all and to each domain, so that a few slow domains never take every place.

What counts is a delivery: a hundred recipients of one message at one domain are one transaction on one connection.
A domain may have `concurrency_per_domain` of them as long as half of all places are free. Beyond that its share shrinks
with the square of what is left, down to one. So a few domains that hang cannot use up the places, and one to which
nothing is under way finds a place at once: with the default settings it takes more than 400 domains that hang, each
with more mail than it may have under way, to leave none. (In proportion to what is left it would take 265.)

Where a transport said that it can do no more (`NotNow`), the domain gets a limit of its own: what was under way then.
It grows again by one after some deliveries that went well, and so finds out what is possible without asking each time.
Where it said how many places its next hop has, all domains that were refused there share this limit.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection

from msgspec import Struct

# Deliveries that go well, for each place of the limit, before one more is tried: what is refused costs two units.
_GOOD_PER_PLACE = 4
# Limits, and next hops of domains, that are kept. One that is forgotten is learned again by one refusal.
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
        # By domain, or by next hop for the domains whose next hop is known.
        self._limits: OrderedDict[str, _Limit] = OrderedDict()
        self._next_hops: OrderedDict[str, str] = OrderedDict()
        self._taken_at: Counter[str] = Counter()

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

    def limited_by(self, domain: str) -> str:
        """Return what the limit of a domain belongs to: the domain, or a next hop that it shares with others."""
        return self._next_hops.get(domain, domain)

    def has_own_limit(self, domain: str) -> bool:
        """Return whether deliveries to a domain were refused by who did not say how many places there are."""
        return domain in self._limits

    def room_for(self, domain: str, begun: int = 0, begun_there: int = 0) -> int:
        """Return how many more deliveries to a domain may begin.

        Args:
            domain: The recipients'.
            begun: Deliveries to other domains that begin now and are not counted yet.
            begun_there: Those of them that share the domain's limit.
        """
        free = self._most - self._taken_in_all - begun
        room = min(max(0, free), max(0, self.share_of(domain, begun) - self._taken.get(domain, 0)))
        next_hop = self._next_hops.get(domain)
        limit = None if next_hop is None else self._limits.get(next_hop)
        if next_hop is None or limit is None:
            return room
        return min(room, max(0, limit.most - self._taken_at.get(next_hop, 0) - begun_there))

    def share_of(self, domain: str, begun: int = 0) -> int:
        """Return how many deliveries to a domain may be under way as things are, those under way included."""
        free = self._most - self._taken_in_all - begun
        if free <= 0:
            return 0
        most = min(self._most_per_domain, max(1, self._most_per_domain * (2 * free) ** 2 // self._most**2))
        limit = self._limits.get(self.limited_by(domain))
        return most if limit is None else min(most, limit.most)

    def round(self, in_turn: Collection[str] = ()) -> Callable[[str, int], int]:
        """Return `room_for` for one unit, which asks for one domain after another and counts what has begun so far.

        Args:
            in_turn: Domains whose turn it is: those that share a limit share the room there.
        """
        begun_there: Counter[str] = Counter()
        in_turn_there = Counter(self.limited_by(domain) for domain in in_turn)
        room_there: dict[str, int] = {}
        last, counted = "", 0

        def room_for(domain: str, begun: int) -> int:
            nonlocal last, counted
            begun_there[last] += begun - counted
            last, counted = self.limited_by(domain), begun
            room = self.room_for(domain, begun, begun_there[last])
            if in_turn_there[last] <= 1:
                return room
            share = room_there.setdefault(last, room) // in_turn_there[last]
            return min(room, max(1, share))

        return room_for

    def take(self, domain: str) -> None:
        """Note that a delivery begins."""
        self._taken[domain] += 1
        self._taken_in_all += 1
        self._count(domain, 1)

    def leave(self, domain: str) -> None:
        """Note that a delivery has ended."""
        self._taken_in_all -= 1
        self._taken[domain] -= 1
        self._count(domain, -1)
        if not self._taken[domain]:
            del self._taken[domain]

    def shrink(self, domain: str, next_hop: str = "", places: int = 0) -> None:
        """Note that one of the deliveries under way was told that there is no place for it.

        Args:
            domain: The recipients'.
            next_hop: Where there is none.
            places: How many there are; 0 when that is not known.
        """
        if places:
            self._learn(domain, f"next hop {next_hop}")
        key = self.limited_by(domain)
        under_way = self._taken_at[key] if places else self.under_way_to(domain)
        limit = self._limits.get(key)
        if limit is not None:
            # Several may be told so at once, before any of them has left.
            under_way = min(limit.most, under_way)
        self._limits[key] = _Limit(max(1, places, under_way - 1))
        self._limits.move_to_end(key)
        if len(self._limits) > _MOST_LIMITS:
            self._limits.popitem(last=False)

    def note_good(self, domain: str) -> None:
        """Note that one of the deliveries under way found its place."""
        key = self.limited_by(domain)
        limit = self._limits.get(key)
        if limit is None:
            return
        limit.good += 1
        if limit.good >= _GOOD_PER_PLACE * limit.most:
            limit.good = 0
            limit.most += 1
            if key == domain and limit.most >= self._most_per_domain:
                del self._limits[key]

    def _learn(self, domain: str, next_hop: str) -> None:
        self._forget(domain)
        self._next_hops[domain] = next_hop
        self._count(domain, self._taken.get(domain, 0))
        if len(self._next_hops) > _MOST_LIMITS:
            self._forget(next(iter(self._next_hops)))

    def _forget(self, domain: str) -> None:
        self._count(domain, -self._taken.get(domain, 0))
        self._next_hops.pop(domain, None)

    def _count(self, domain: str, by: int) -> None:
        next_hop = self._next_hops.get(domain)
        if next_hop is not None:
            self._taken_at[next_hop] += by
            if not self._taken_at[next_hop]:
                del self._taken_at[next_hop]
