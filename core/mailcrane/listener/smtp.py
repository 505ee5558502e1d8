"""Accepts SMTP connections and holds their sessions.

Accepting survives a lack of file descriptors, and pauses while the store has more to do than it can write: clients
then wait in the kernel's queue, where they cost nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from base64 import urlsafe_b64encode
from collections.abc import Sequence

import trio
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.listener.limits import ConnectionLimits, Limits
from mailcrane.model.reply import Reply
from mailcrane.model.session import SessionInfo
from mailcrane.observe.log import get_log
from mailcrane.observe.metrics import Counter
from mailcrane.plugin.errors import HookFailed
from mailcrane.session.settings import Network
from mailcrane.session.smtp import SessionProfile, SMTPSession
from mailcrane.smtp import replies
from mailcrane.tls.proxy_protocol import ProxyProtocolError, ReceivedStream, read_proxy_header
from mailcrane.tls.tcp import TCPStream

log = get_log(__name__)

# Many: the kernel's queue is where clients wait while the store is busy.
BACKLOG = 4096

# Those who wait are taken together, but not so many that the sessions under way have to wait for them.
_MOST_ACCEPTED_AT_ONCE = 16

_MAX_WRITE_DELAY = 0.2
_PAUSE = 0.02
_EXHAUSTED_PAUSE = 0.1
_REFUSAL_SECONDS = 5.0
_PREAMBLE_SECONDS = 30.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# Sessions get so long to end by themselves when the server stops, then so long after they were cancelled.
GRACE_SECONDS = 3.0
FORCED_SECONDS = 1.0

_PLUGIN_FAILED = Reply.make(421, "4.3.0", "Local error, try again later")
_TOO_MANY_FAILED_LOGINS = Reply.make(421, "4.7.0", "Too many failed logins, try again later")

_connections = Counter(
    "mailcrane_connections_total", "SMTP connections, by protocol and result.", ("protocol", "result")
)


class ListenerSettings(Struct, frozen=True):
    """How connections to one listener are let in.

    Attributes:
        proxy_protocol_from: Connections from these networks begin with a PROXY protocol header.
    """

    max_connections: int = 1000
    per_minute: Limits = (300, 900, 2700)
    per_network: Limits = (30, 90, 270)
    proxy_protocol_from: tuple[Network, ...] = ()


class SMTPListener:
    """One listener: its sockets, its connections and their limits.

    Args:
        profile: Of its sessions.
        settings: Whom it lets in.
    """

    def __init__(self, profile: SessionProfile, settings: ListenerSettings) -> None:
        self._profile = profile
        self._settings = settings
        self._limits = ConnectionLimits(settings.per_minute, settings.per_network)
        self._sockets: list[socket.socket] = []
        self._sessions: set[SMTPSession] = set()
        self._open = 0
        self._is_stopping = False
        self._ended = trio.Event()
        self._accepting = trio.CancelScope()
        self._running = trio.CancelScope()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Address and port of each socket, once bound."""
        return [one.getsockname()[:2] for one in self._sockets]

    def bind(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Bind and listen.

        Raises:
            OSError: an address cannot be bound.
        """
        for host, port in addresses:
            self._sockets.append(_listening_socket(host, port))

    async def run(self) -> None:
        """Accept until `stop`, and hold the sessions until they have ended."""
        try:
            with self._running:
                async with trio.open_nursery() as nursery:
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for one in self._sockets:
                                accepting.start_soon(self._accept_from, one, nursery)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Take no more connections and end the sessions, within a few seconds."""
        self._is_stopping = True
        self._accepting.cancel()
        self.close()
        for session in list(self._sessions):
            session.stop()
        with trio.move_on_after(GRACE_SECONDS):
            await self._ended.wait()
        self._running.cancel()

    def close(self) -> None:
        """Close the listening sockets; twice does nothing."""
        for one in self._sockets:
            if one.fileno() >= 0:
                trio.lowlevel.notify_closing(one)
                one.close()

    async def serve_stream(self, stream: trio.abc.Stream, remote: tuple[str, int], local: tuple[str, int]) -> None:
        """Hold one connection: limits, PROXY protocol, TLS, the hook, the session. Closes the stream.

        Args:
            stream: Any stream; tests give one in memory.
            remote: Address and port of the client.
            local: Address and port that it reached.
        """
        self._open += 1
        counted = ""
        try:
            if self._settings.proxy_protocol_from and self._is_proxy(remote[0]):
                with trio.fail_after(_PREAMBLE_SECONDS):
                    header, rest = await read_proxy_header(stream)
                if header.source_ip:
                    remote = (header.source_ip, header.source_port)
                    local = (header.destination_ip, header.destination_port)
                if rest:
                    stream = ReceivedStream(stream, rest)
            if self._open > self._settings.max_connections or not self._limits.enter(remote[0]):
                await self._refuse(stream, replies.TOO_MANY_CONNECTIONS)
                return
            counted = remote[0]
            await self._hold(stream, remote, local)
        except (ProxyProtocolError, trio.TooSlowError) as error:
            log.info("connection without its PROXY header", remote_ip=remote[0], error=error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("connection lost", remote_ip=remote[0], error=error)
        except Exception:
            # The top of a connection: what goes wrong here must not end the listener.
            log.exception("connection failed", remote_ip=remote[0])
        finally:
            self._open -= 1
            if counted:
                self._limits.leave(counted)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FORCED_SECONDS):
                await stream.aclose()

    async def _hold(self, stream: trio.abc.Stream, remote: tuple[str, int], local: tuple[str, int]) -> None:
        profile = self._profile
        settings, services = profile.settings, profile.services
        info = SessionInfo(
            new_session_id(),
            settings.protocol,
            settings.listener,
            remote[0],
            remote[1],
            local[0],
            local[1],
        )
        if self._is_stopping:
            await self._refuse(stream, replies.SHUTTING_DOWN)
            return
        if settings.is_submission and services.logins.is_locked_out(remote[0]):
            await self._refuse(stream, _TOO_MANY_FAILED_LOGINS)
            return
        if settings.protocol == "submissions":
            assert services.tls is not None, "submissions is configured with a certificate only"
            tls = services.tls.wrap(stream)
            await tls.do_handshake()
            stream = tls
            info = replace(info, tls=tls.tls_info)
        if services.hooks.accept_connection.implementations:
            try:
                refusal = await services.hooks.accept_connection(session=info)
            except HookFailed:
                refusal = _PLUGIN_FAILED
            if refusal is not None:
                await self._refuse(stream, refusal, info.id)
                return
        _connections.inc(settings.protocol, "accepted")
        log.debug("connection", session=info.id, remote_ip=info.remote_ip, listener=info.listener)
        session = SMTPSession(profile, stream, info)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def _accept_from(self, listening: socket.socket, nursery: trio.Nursery) -> None:
        store = self._profile.services.store
        taken = 0
        while True:
            if store.write_delay() > _MAX_WRITE_DELAY:
                await trio.sleep(_PAUSE)
                continue
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listening)
                continue
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.error("no more connections: out of file descriptors or memory", error=error)
                    await trio.sleep(_EXHAUSTED_PAUSE)
                elif error.errno == errno.EBADF:
                    return
                # Otherwise the client was gone before we got to it (accept(2) passes on network errors).
                continue
            nursery.start_soon(self._serve_socket, accepted, address)
            taken += 1
            if taken % _MOST_ACCEPTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def _serve_socket(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        accepted.setblocking(False)
        try:
            stream = TCPStream(accepted)
            local = accepted.getsockname()
        except OSError:
            accepted.close()
            return
        await self.serve_stream(stream, (_plain_ip(address[0]), address[1]), (_plain_ip(local[0]), local[1]))

    async def _refuse(self, stream: trio.abc.Stream, reply: Reply, session_id: str = "") -> None:
        """Say why and close. A client that expects TLS first could not read it, so that it is not told."""
        _connections.inc(self._profile.settings.protocol, "refused")
        if self._profile.settings.protocol == "submissions" and isinstance(stream, TCPStream):
            return
        with trio.move_on_after(_REFUSAL_SECONDS):
            await stream.send_all(replies.encode_reply(reply, session_id=session_id))

    def _is_proxy(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._settings.proxy_protocol_from)


def new_session_id() -> str:
    """Make an id for a session: unique, and nothing can be told from it."""
    return urlsafe_b64encode(os.urandom(12)).decode("ascii")


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _plain_ip(address: str) -> str:
    return address.partition("%")[0]
