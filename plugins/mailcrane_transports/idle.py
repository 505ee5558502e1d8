"""Sessions that are kept open for the next message to the same target."""

from __future__ import annotations

from collections import Counter

import trio

from mailcrane_transports.home import StartSoon
from mailcrane_transports.session import Session, Target

# Closing all sessions at the end: each has a few seconds for QUIT.
_CLOSE_ALL_SECONDS = 8.0


class IdleSessions:
    """The sessions of one transport that nothing is being sent in.

    Args:
        start_soon: Starts the closing of sessions.
        idle_seconds: How long one is kept.
    """

    def __init__(self, start_soon: StartSoon, idle_seconds: float) -> None:
        self._start_soon = start_soon
        self._idle_seconds = idle_seconds
        self._sessions: dict[Target, list[Session]] = {}
        self._by_host: Counter[str] = Counter()
        self._is_watched = False

    def count(self, host: str) -> int:
        """Return how many sessions with a host are kept."""
        return self._by_host[host]

    def take(self, target: Target) -> Session | None:
        """Take a session for a target out, the one that was used last, so that the others' time can end."""
        while sessions := self._sessions.get(target):
            session = sessions.pop()
            self._took(session, sessions)
            if session.is_usable:
                return session
            self.close(session)
        return None

    def put(self, session: Session) -> None:
        """Keep a session for the next message."""
        if not self._idle_seconds:
            self.close(session)
            return
        session.used_at = trio.current_time()
        self._sessions.setdefault(session.target, []).append(session)
        self._by_host[session.target.host] += 1
        if not self._is_watched:
            self._is_watched = True
            self._start_soon(self._watch)

    def make_room(self, host: str) -> None:
        """Close the session with a host that was not used for the longest time."""
        of_host = [sessions for target, sessions in self._sessions.items() if target.host == host]
        oldest = min(of_host, key=lambda sessions: sessions[0].used_at, default=None)
        if oldest is not None:
            session = oldest.pop(0)
            self._took(session, oldest)
            self.close(session)

    def close(self, session: Session) -> None:
        """Say goodbye without anybody waiting for it."""
        self._start_soon(session.aclose)

    async def aclose(self) -> None:
        """Close all sessions."""
        sessions = [session for kept in self._sessions.values() for session in kept]
        self._sessions.clear()
        self._by_host.clear()
        with trio.move_on_after(_CLOSE_ALL_SECONDS):
            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(session.aclose)

    def _took(self, session: Session, rest: list[Session]) -> None:
        host = session.target.host
        if not rest:
            del self._sessions[session.target]
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]

    async def _watch(self) -> None:
        """Close sessions whose time is over, until none is left."""
        while self._sessions:
            oldest = min(sessions[0].used_at for sessions in self._sessions.values())
            await trio.sleep_until(oldest + self._idle_seconds)
            now = trio.current_time()
            for sessions in list(self._sessions.values()):
                while sessions and sessions[0].used_at + self._idle_seconds <= now:
                    session = sessions.pop(0)
                    self._took(session, sessions)
                    self.close(session)
        self._is_watched = False
