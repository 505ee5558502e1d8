"""How one transport hands a message to one host: a place there, a session that is open or a new one, the message.

Everything that is alike for all transports that speak SMTP is here: limits per next hop, reuse of sessions, plaintext
where opportunistic TLS does not work, and what is learned of the next hop by how it went.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from mailcrane.api import Outcome, RecipientResult, TLSUse
from mailcrane.api.tls import TLSMode
from mailcrane.api.transport import NextHopLimits, NextHops, Place, is_push_back
from mailcrane_transports import metrics
from mailcrane_transports.config import NextHopConfig
from mailcrane_transports.dial import CannotConnect, Dialer, is_ipv6
from mailcrane_transports.dialog import Dialog, DialogFailed, TLSFailed
from mailcrane_transports.home import StartSoon
from mailcrane_transports.idle import IdleSessions
from mailcrane_transports.progress import Progress
from mailcrane_transports.session import Session, SetUp, SetUpRefused, Target
from mailcrane_transports.transaction import SessionStale, transact

# Gives the IP addresses of a host, those to try first in front; raises CannotConnect where there are none.
FindAddresses = Callable[[], Awaitable[Sequence[str]]]


class Line:
    """What one transport speaks to next hops with.

    Args:
        dialer: Makes connections.
        set_up: Makes sessions of them.
        ehlo: Gives the name that we say.
        config: Limits.
        start_soon: For sessions that are closed later.
    """

    def __init__(
        self, dialer: Dialer, set_up: SetUp, ehlo: Callable[[], str], config: NextHopConfig, start_soon: StartSoon
    ) -> None:
        self._dialer = dialer
        self._set_up = set_up
        self._ehlo = ehlo
        self._messages_per_connection = config.messages_per_connection
        self._hops = NextHops(NextHopLimits(config.max_connections, config.messages_per_second))
        self._idle = IdleSessions(start_soon, config.idle_seconds)

    async def deliver(self, target: Target, progress: Progress, find_addresses: FindAddresses) -> None:
        """Ask one host to take the message for the forward-paths that wait; what comes of it is in `progress`.

        Raises:
            NotNow, Suspended: the host was not asked.
        """
        with self._hops.enter(target.host) as place:
            progress.begin_host()
            session = self._idle.take(target)
            if session is not None:
                try:
                    await self._send(session, progress, place)
                    metrics.reused.inc()
                    return
                except SessionStale:
                    pass
            while self._idle.count(target.host) and self._is_full(target.host):
                self._idle.make_room(target.host)
            session = await self._open(target, progress, place, find_addresses)
            if session is not None:
                await self._send(session, progress, place)

    async def aclose(self) -> None:
        """Close the sessions that are kept."""
        await self._idle.aclose()

    def _is_full(self, host: str) -> bool:
        return self._hops.places_taken(host) + self._idle.count(host) > self._hops.places(host)

    async def _send(self, session: Session, progress: Progress, place: Place) -> None:
        progress.remote_mta, progress.tls = session.remote_mta, session.tls
        progress.is_lenient = session.is_dual_stack and progress.delivery.attempt == 1
        is_kept = False
        try:
            push_back = await transact(session, progress)
            if push_back:
                place.pushed_back(push_back)
            elif not session.is_broken:
                place.accepted()
            is_kept = not push_back and session.messages < self._messages_per_connection and session.is_usable
        except BaseException:
            # Cancelled, or stale: there is nobody to say goodbye to.
            await session.dialog.aclose()
            raise
        if is_kept:
            self._idle.put(session)
        else:
            self._idle.close(session)

    async def _open(
        self, target: Target, progress: Progress, place: Place, find_addresses: FindAddresses
    ) -> Session | None:
        """Make a session; None when that failed, which is noted then."""
        progress.remote_mta = target.host
        try:
            ips = await find_addresses()
            session = await self._connect(target, progress, place, ips)
        except CannotConnect as failure:
            place.unreachable(str(failure))
            progress.lost(str(failure))
        except SetUpRefused as refused:
            reply = refused.result.reply
            if reply is not None and is_push_back(reply):
                place.pushed_back(str(reply))
            progress.refused(refused.result)
        except DialogFailed as failure:
            place.unreachable(str(failure))
            progress.lost(str(failure))
        else:
            return session
        return None

    async def _connect(self, target: Target, progress: Progress, place: Place, ips: Sequence[str]) -> Session:
        is_dual_stack = len({is_ipv6(ip) for ip in ips}) > 1
        try:
            return await self._connect_once(target, progress, ips, is_dual_stack=is_dual_stack)
        except TLSFailed as failure:
            metrics.tls.inc("failed")
            if target.policy.mode is not TLSMode.OPPORTUNISTIC:
                raise SetUpRefused(RecipientResult(Outcome.DEFERRED, error=str(failure))) from failure
            problem = str(failure)
        metrics.plaintext_fallbacks.inc()
        session = await self._connect_once(target, progress, ips, is_dual_stack=is_dual_stack, is_plaintext=True)
        session.tls = replace(session.tls, is_fallback=True, problem=problem)
        return session

    async def _connect_once(
        self,
        target: Target,
        progress: Progress,
        ips: Sequence[str],
        *,
        is_dual_stack: bool,
        is_plaintext: bool = False,
    ) -> Session:
        stream, ip = await self._dialer.dial(target.host, ips, target.port)
        progress.dialed(target.host, ip)
        progress.remote_mta = f"{target.host} ({ip})"
        progress.is_lenient = is_dual_stack and progress.delivery.attempt == 1
        dialog = Dialog(stream)
        try:
            with dialog.patience():
                tls: TLSUse = await self._set_up.run(dialog, target, self._ehlo(), is_plaintext=is_plaintext)
        except SetUpRefused:
            # RFC 5321 section 3.1: after a refusal there is nothing to say but QUIT.
            self._idle.close(Session(target, dialog, "", TLSUse(), is_dual_stack=False))
            raise
        except BaseException:
            await dialog.aclose()
            raise
        return Session(target, dialog, progress.remote_mta, tls, is_dual_stack=is_dual_stack)
