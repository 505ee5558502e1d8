"""Domains that are left alone for a while, because a transport said that it has no place, or has to wait, for them.

What is known of them is in memory only: after a restart one attempt to each finds it out again. Domains that wait for a
place at one next hop get their turns in the order in which they came. That a time is over needs no task: whoever looks
for what is due asks whether a domain is still to be left alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import trio
from msgspec import Struct

from mailcrane.model.clock import Clock
from mailcrane.model.transport import NotNow
from mailcrane.observe.log import get_log
from mailcrane.transport.deadline import BoundedCalls, DeadlinePassed, Interrupted

log = get_log(__name__)

# What a transport asks for is kept within these.
_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 3600.0
# Between two domains that are told of a place at one next hop, so that the first takes it before the next one looks.
_BETWEEN_TURNS_SECONDS = 0.002
# More next hops than this are not waited for; their domains go by time.
_MOST_NEXT_HOPS = 1000
# More domains than this are not remembered.
_MOST_DOMAINS = 20_000


class Blocked(Struct, frozen=True):
    """Why nothing of a domain is attempted now.

    Attributes:
        next_hop: What the limit belongs to.
        reason: In words, as the transport gave it.
        until: When it is tried again at the latest.
    """

    next_hop: str
    reason: str
    until: datetime


class BlockedDomains:
    """The domains that are left alone. To be changed on the loop only; `until` may be asked in any thread.

    Args:
        clock: The store's.
        on_free: Called with a domain for which a place may be free before its time is over.
    """

    def __init__(self, clock: Clock, on_free: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_free = on_free
        self._blocked: dict[str, Blocked] = {}
        # By next hop: the domains that wait for a place there, in order, with how to wait.
        self._turns: dict[str, OrderedDict[str, Callable[[], Awaitable[None]]]] = {}

    def until(self, domain: str) -> datetime | None:
        """Return when the time of a domain is over; None when it may be attempted now."""
        blocked = self._blocked.get(domain)
        return None if blocked is None or blocked.until <= self._clock.now() else blocked.until

    def get(self, domain: str) -> Blocked | None:
        """Return why a domain is left alone; None when it is not."""
        return None if self.until(domain) is None else self._blocked[domain]

    def domains(self) -> tuple[str, ...]:
        """Return the domains that are left alone now, sorted."""
        return tuple(sorted(domain for domain in self._blocked if self.until(domain) is not None))

    def discard(self, domain: str) -> None:
        """Leave a domain alone no longer."""
        self._blocked.pop(domain, None)

    def add(self, domain: str, why: NotNow, nursery: trio.Nursery, calls: BoundedCalls) -> datetime:
        """Leave a domain alone, and return until when.

        Whether there is a place is found out by waiting in the transport, unless it said how many places there are:
        then they are counted by whoever calls, who discards the domain.

        Args:
            domain: The recipients'.
            why: What the transport raised.
            nursery: Where the wait for a place runs.
            calls: How the transport is called there.
        """
        seconds = min(max(_SHORTEST_SECONDS, why.seconds), _LONGEST_SECONDS)
        blocked = Blocked(why.next_hop, why.reason, self._clock.now() + timedelta(seconds=seconds))
        self._blocked.pop(domain, None)
        self._blocked[domain] = blocked
        if len(self._blocked) > _MOST_DOMAINS:
            self._forget_first()
        if why.wait_for_place is not None and not why.places:
            turns = self._turns.get(why.next_hop)
            if turns is not None:
                turns.setdefault(domain, why.wait_for_place)
            elif len(self._turns) < _MOST_NEXT_HOPS:
                self._turns[why.next_hop] = OrderedDict({domain: why.wait_for_place})
                nursery.start_soon(self._give_turns, why.next_hop, calls)
        return blocked.until

    async def _give_turns(self, next_hop: str, calls: BoundedCalls) -> None:
        turns = self._turns[next_hop]
        try:
            while turns:
                domain, wait_for_place = next(iter(turns.items()))
                is_free = await self._wait(domain, next_hop, wait_for_place, calls)
                turns.pop(domain, None)
                if is_free:
                    self.discard(domain)
                    self._on_free(domain)
                    await trio.sleep(_BETWEEN_TURNS_SECONDS)
        except Interrupted:
            return
        finally:
            del self._turns[next_hop]

    async def _wait(
        self, domain: str, next_hop: str, wait_for_place: Callable[[], Awaitable[None]], calls: BoundedCalls
    ) -> bool:
        """Wait until there may be a place; False when the domain's time is over first, or the transport fails."""
        blocked = self.get(domain)
        if blocked is None or blocked.next_hop != next_hop:
            return False
        try:
            await calls.call((blocked.until - self._clock.now()).total_seconds(), wait_for_place)
        except DeadlinePassed:
            return False
        except Interrupted:
            raise
        except Exception:
            # The transport's fault; the domain is free when its time is over.
            log.exception("transport failed while waiting for a place", domain=domain, next_hop=next_hop)
            return False
        return self.get(domain) is not None

    def _forget_first(self) -> None:
        """Forget the domain that was blocked first; what is stored keeps it from being looked at before its time."""
        domain = next(iter(self._blocked))
        turns = self._turns.get(self._blocked.pop(domain).next_hop)
        if turns is not None:
            turns.pop(domain, None)
