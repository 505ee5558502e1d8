"""What next hops bear: limits of ours, and what they say themselves. Pure logic; a transport asks before it connects.

A transport enters a next hop for each message and leaves it afterwards, having said how it went. While a limit is
reached, `NotNow` tells the queue to leave the destination alone without counting an attempt. A next hop that asks to
slow down gets half of the connections it had, and one more for each round of messages that it takes; one that stands
still at a single connection, or cannot be reached, is left alone for a while and then tried with one message.

All of it is per process and kept in memory: after a restart a next hop is a stranger again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from msgspec import Struct

from mailcrane.model.reply import Reply
from mailcrane.model.transport import NotNow
from mailcrane.observe.metrics import Counter

_held_back = Counter(
    "mailcrane_next_hop_held_back_total",
    "Deliveries that were not begun because of what a next hop bears, by reason.",
    ["reason"],
)
_backed_off = Counter(
    "mailcrane_next_hop_backed_off_total",
    "How often a next hop was given fewer connections or left alone, by reason.",
    ["reason"],
)

# When to look again at the latest for a place, in case that whoever was woken for it had nothing to deliver any more.
_PLACE_SECONDS = 10.0

_FIRST_PAUSE_SECONDS = 30.0
_MAX_PAUSE_SECONDS = 600.0
# From the second pause in a row on, entries are answered from memory: they shall come to their end in time although
# only one of them now and then is let through.
_PAUSES_BEFORE_MEMORY = 2
# Trouble that is so long ago says nothing any more.
_FORGET_SECONDS = 1800.0
# Next hops that are remembered before those at rest are looked for and forgotten.
_MANY = 4096

# RFC 5321 section 3.8 (421), RFC 3463 and RFC 4954 section 6 (4.3.2 system not accepting messages, 4.4.5 congestion,
# 4.7.x policy, as for too many messages).
_BUSY_CODES = frozenset({"4.3.2", "4.4.5"})
# RFC 3463: the address or the mailbox, or how many there are in a transaction, whatever the words say.
_ABOUT_RECIPIENTS = ("4.1.", "4.2.", "4.5.3")
_BUSY_WORDS = ("too many", "rate limit", "too fast", "slow down", "throttl")


def is_push_back(reply: Reply) -> bool:
    """Return whether a reply asks for fewer connections or messages, whatever the one message it was about.

    421, 450 and 451 with 4.7.x, the codes for a busy system, and what says so in words.
    """
    if reply.code == 421:
        return True
    if not reply.is_transient_failure:
        return False
    if reply.enhanced_status_code in _BUSY_CODES:
        return True
    if reply.code in {450, 451} and reply.enhanced_status_code.startswith("4.7."):
        # Greylisting is about the one sender and recipient: more of the same would be taken from others.
        return "greylist" not in reply.text.lower()
    if reply.enhanced_status_code.startswith(_ABOUT_RECIPIENTS):
        return False
    text = reply.text.lower()
    return "recipient" not in text and any(word in text for word in _BUSY_WORDS)


class NextHopLimits(Struct, frozen=True):
    """What may be done at one next hop.

    Attributes:
        max_connections: At once.
        messages_per_second: 0 is no limit.
    """

    max_connections: int = 20
    messages_per_second: float = 0.0


class AtLimit(NotNow):
    """A limit of ours, or what is left of it after the next hop asked to slow down, is reached."""


class LeftAlone(NotNow):
    """The next hop had trouble and is left alone for a moment."""


class Suspended(Exception):
    """A next hop has failed again and again, and this delivery is not going to try it: defer it with this text.

    Attributes:
        next_hop: As given to `NextHops.enter`.
        reason: What it did the last time.
        seconds: Until it is tried again.
    """

    def __init__(self, next_hop: str, reason: str, seconds: float) -> None:
        super().__init__(f"{next_hop} is not tried again for {seconds:.0f} s: {reason}")
        self.next_hop = next_hop
        self.reason = reason
        self.seconds = seconds


class NextHops:
    """The next hops of one transport.

    Args:
        limits: For each of them.
        now: A clock in seconds that never goes back.
    """

    def __init__(self, limits: NextHopLimits, *, now: Callable[[], float] = trio.current_time) -> None:
        self._limits = limits
        self._now = now
        self._hops: dict[str, _NextHop] = {}

    def __len__(self) -> int:
        """How many next hops are remembered."""
        return len(self._hops)

    @contextmanager
    def enter(self, name: str) -> Iterator[Place]:
        """Take a place at a next hop for one message, for the length of the block.

        Raises:
            AtLimit, LeftAlone: nothing is to be tried now; both are `NotNow`.
            Suspended: it is left alone for some time already.
        """
        hop = self._hop(name)
        hop.check(self._now())
        place = Place(hop, self._now)
        hop.active += 1
        try:
            yield place
        finally:
            hop.leave(self._now())
            if hop.is_at_rest(self._now()):
                self._hops.pop(name, None)

    def places_taken(self, name: str) -> int:
        """Return how many deliveries are at a next hop."""
        hop = self._hops.get(name)
        return 0 if hop is None else hop.active

    def places(self, name: str) -> int:
        """Return how many deliveries at once a next hop is given now; 0 while it is left alone."""
        hop = self._hops.get(name)
        if hop is None:
            return self._limits.max_connections
        return 0 if self._now() < hop.paused_until else int(hop.window)

    def _hop(self, name: str) -> _NextHop:
        hop = self._hops.get(name)
        if hop is None:
            now = self._now()
            if len(self._hops) >= _MANY:
                self._hops = {key: one for key, one in self._hops.items() if not one.is_at_rest(now)}
            hop = self._hops[name] = _NextHop(name, self._limits, now)
        return hop


class Place:
    """One delivery at a next hop. Say how it went; while nothing is said, nothing is learned."""

    def __init__(self, hop: _NextHop, now: Callable[[], float]) -> None:
        self._hop = hop
        self._now = now
        self._entered_at = now()

    def accepted(self) -> None:
        """The next hop did what it was asked, or refused for reasons of the message."""
        self._hop.accepted(self._entered_at, self._now())

    def pushed_back(self, reason: str) -> None:
        """The next hop asks to slow down (`is_push_back`)."""
        self._hop.pushed_back(self._entered_at, self._now(), reason)

    def unreachable(self, reason: str) -> None:
        """No connection could be made, or it was lost before the next hop said anything."""
        self._hop.unreachable(self._entered_at, self._now(), reason)


class _NextHop:
    """What is known of one next hop.

    Attributes:
        window: How many connections it bears, as it seems; a fraction counts once it is a whole one.
        pauses: Those in a row, without a message that was taken in between.
        reason: What the last trouble was; empty once it is over.
        troubled_at: When it was, and taken_at: when a message was taken the last time.
        woken: Waiting deliveries that were told of a place and have not entered yet.
    """

    def __init__(self, name: str, limits: NextHopLimits, now: float) -> None:
        self.name = name
        self.limits = limits
        self.active = 0
        self.window = float(limits.max_connections)
        self.pauses = 0
        self.paused_until = -math.inf
        self.reason = ""
        self.troubled_at = -math.inf
        self.taken_at = -math.inf
        self.waiting: deque[trio.Event] = deque()
        self.woken = 0
        self._burst = max(1.0, limits.messages_per_second)
        self._tokens = self._burst
        self._tokens_at = now

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting it."""
        is_quiet = not self.active and not self.waiting
        self._fill(now)
        return is_quiet and (not self.reason or self._is_long_ago(now)) and self._tokens >= self._burst

    def check(self, now: float) -> None:
        """Take what a message needs besides a place.

        Raises:
            AtLimit, LeftAlone, Suspended: it may not come in.
        """
        if self.reason and self._is_long_ago(now):
            self._forget_trouble()
        if now < self.paused_until:
            seconds = self.paused_until - now
            if self.pauses >= _PAUSES_BEFORE_MEMORY:
                _held_back.inc("suspended")
                raise Suspended(self.name, self.reason, seconds)
            _held_back.inc("paused")
            raise LeftAlone(self.name, f"left alone for {math.ceil(seconds)} s: {self.reason}", seconds=seconds)
        self.woken = max(0, self.woken - 1)
        if self.active >= int(self.window):
            _held_back.inc("connections")
            raise AtLimit(
                self.name,
                self._full(),
                seconds=_PLACE_SECONDS,
                wait_for_place=self._wait,
                places=int(self.window),
            )
        if self.limits.messages_per_second:
            self._fill(now)
            if self._tokens < 1.0:
                _held_back.inc("rate")
                # Half of what a second gives: one at a time would be a look of the queue for each message.
                wanted = max(1.0, self._burst / 2)
                seconds = (wanted - self._tokens) / self.limits.messages_per_second
                raise AtLimit(
                    self.name, f"{self.limits.messages_per_second:g} messages a second is the limit", seconds=seconds
                )
            self._tokens -= 1.0

    def leave(self, now: float) -> None:
        """Give a place back."""
        self.active -= 1
        self.wake(now)

    def wake(self, now: float) -> None:
        """Tell as many of those who wait as there are places, the first first."""
        if now < self.paused_until:
            return
        free = int(self.window) - self.active - self.woken
        while free > 0 and self.waiting:
            self.waiting.popleft().set()
            self.woken += 1
            free -= 1

    def accepted(self, entered_at: float, now: float) -> None:
        """Give one connection more for each round of messages, up to the limit."""
        self.taken_at = now
        if entered_at < self.troubled_at:
            return  # It began before the trouble and says nothing of what came after.
        self.pauses = 0
        self.window = min(float(self.limits.max_connections), self.window + 1.0 / self.window)
        if self.window >= self.limits.max_connections:
            self.reason = ""
        self.wake(now)

    def pushed_back(self, entered_at: float, now: float, reason: str) -> None:
        """Take away half of the connections, once for all that were open."""
        if entered_at < self.troubled_at:
            return
        self._trouble(now, reason)
        in_use = min(self.window, self.active)
        if in_use < 2:
            self._pause(now, "pushed back")
        else:
            self.window = max(1.0, in_use // 2)
            _backed_off.inc("pushed back")

    def unreachable(self, entered_at: float, now: float, reason: str) -> None:
        """Leave it alone, unless it took something meanwhile: then it only has too many connections."""
        if self.taken_at >= entered_at:
            self.pushed_back(entered_at, now, reason)
        elif entered_at >= self.troubled_at:
            self._trouble(now, reason)
            self._pause(now, "unreachable")

    def _trouble(self, now: float, reason: str) -> None:
        # Those that entered before this instant saw the same trouble.
        self.troubled_at = math.nextafter(now, math.inf)
        self.reason = reason

    def _pause(self, now: float, why: str) -> None:
        self.pauses += 1
        self.window = 1.0
        self.paused_until = now + min(_FIRST_PAUSE_SECONDS * 2 ** min(self.pauses - 1, 10), _MAX_PAUSE_SECONDS)
        _backed_off.inc(why)

    def _is_long_ago(self, now: float) -> bool:
        return now - max(self.troubled_at, self.paused_until) > _FORGET_SECONDS

    def _forget_trouble(self) -> None:
        self.reason = ""
        self.pauses = 0
        self.window = float(self.limits.max_connections)

    def _full(self) -> str:
        if self.reason and self.active == 1:
            return f"one message tries whether it works again: {self.reason}"
        if self.reason:
            return f"{self.active} of {self.limits.max_connections} connections, after: {self.reason}"
        return f"{self.active} connections at once is the limit"

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self.limits.messages_per_second)
        self._tokens_at = now
        if not self.limits.messages_per_second:
            self._tokens = self._burst

    async def _wait(self) -> None:
        """Return when there is a place for the one who has waited longest. Another may still take it."""
        if self.active + self.woken < int(self.window) and not self.waiting:
            self.woken += 1
            await trio.lowlevel.checkpoint()
            return
        event = trio.Event()
        self.waiting.append(event)
        try:
            await event.wait()
        finally:
            if not event.is_set():
                self.waiting.remove(event)
