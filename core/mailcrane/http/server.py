"""Accepts connections and runs hypercorn's protocol on each.

`hypercorn.trio.serve` is never used: some requests make an exception there that ends the process, and its shutdown
waits for clients that do not read. Here an exception ends its connection, connections are limited, each listener has
its own application and TLS, every wait on a client has a deadline, and shutdown ends.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from typing import Any, Protocol, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from msgspec import Struct

from mailcrane.http.app import ASGIApp, Message, Receive, Scope, Send
from mailcrane.http.connection import ConnectionStream, Endpoints, HTTPTimeouts, TLSConnectionStream
from mailcrane.http.dispatch import TLS_INFO_KEY
from mailcrane.observe.log import get_log
from mailcrane.tls.context import ServerTLS
from mailcrane.tls.proxy_protocol import ProxyProtocolError, ReceivedStream, read_proxy_header
from mailcrane.tls.stream import HandshakeFailed

log = get_log(__name__)

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConnectionGate(Protocol):
    """Counts the connections of an address; `mailcrane.listener.limits.ConnectionLimits` is one."""

    def enter(self, address: str) -> bool:
        """Count a connection; False when it is one too many."""
        ...

    def leave(self, address: str) -> None:
        """Count the end of a connection that was let in."""
        ...


class HTTPListener(Struct, frozen=True):
    """Where HTTP is served.

    Attributes:
        name: Of the listener, for logs.
        listener: Bound; it is closed when the server stops.
        app: Answers requests: a `mailcrane.http.dispatch.Dispatcher`.
        tls: None serves plaintext.
        max_connections: Open at once; more are closed at once.
        proxy_protocol_from: Connections from these networks begin with a PROXY header, which is believed.
        gate: Limits the connections of one address.
    """

    name: str
    listener: trio.abc.Listener[Any]
    app: ASGIApp
    tls: ServerTLS | None = None
    max_connections: int = 1000
    proxy_protocol_from: tuple[IPNetwork, ...] = ()
    gate: ConnectionGate | None = None


async def serve_http(
    listeners: Sequence[HTTPListener],
    stop: trio.Event,
    *,
    timeouts: HTTPTimeouts | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then let requests under way finish within ``timeouts.shutdown``.

    The lifespan of applications is run by whoever mounts them: see `mailcrane.http.lifespan`.
    """
    server = _Server(timeouts or HTTPTimeouts())
    await server.run(listeners, stop, task_status)


class _Server:
    def __init__(self, timeouts: HTTPTimeouts) -> None:
        self._timeouts = timeouts
        self._config = _hypercorn_config(timeouts)
        self._context = WorkerContext(None)
        self._open: set[trio.abc.Stream] = set()
        self._connections: set[ConnectionStream] = set()
        self._per_listener: dict[str, int] = {}
        self._none_open = trio.Event()

    async def run(
        self, listeners: Sequence[HTTPListener], stop: trio.Event, task_status: trio.TaskStatus[None]
    ) -> None:
        async with trio.open_nursery() as connections:
            try:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, connections)
                    task_status.started()
                    await stop.wait()
                    accepting.cancel_scope.cancel()
                # Connections between two requests close now, those in a request after it.
                await self._context.terminated.set()
                for connection in list(self._connections):
                    if connection.is_idle:
                        connections.start_soon(trio.aclose_forcefully, connection)
                if self._open:
                    with trio.move_on_after(self._timeouts.shutdown):
                        await self._none_open.wait()
            finally:
                # What hypercorn sends is shielded: only closing the transport ends it.
                with trio.CancelScope(shield=True):
                    for stream in list(self._open):
                        await trio.aclose_forcefully(stream)
                connections.cancel_scope.cancel()

    async def _accept(self, listener: HTTPListener, connections: trio.Nursery) -> None:
        async def handle(stream: trio.abc.Stream) -> None:
            await self._connection(listener, stream)

        await trio.serve_listeners(handle, [listener.listener], handler_nursery=connections)

    async def _connection(self, listener: HTTPListener, stream: trio.abc.Stream) -> None:
        count = self._per_listener.get(listener.name, 0)
        if count >= listener.max_connections:
            log.debug("too many http connections", listener=listener.name)
            await trio.aclose_forcefully(stream)
            return
        self._per_listener[listener.name] = count + 1
        self._open.add(stream)
        try:
            await self._serve(listener, stream)
        # The top of a connection: whatever went wrong in it, hypercorn's own faults too, ends here.
        except Exception as error:
            log.warning("http connection failed", listener=listener.name, error=_words(error))
        finally:
            self._per_listener[listener.name] -= 1
            self._open.discard(stream)
            if not self._open and self._context.terminated.is_set():
                self._none_open.set()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _serve(self, listener: HTTPListener, stream: trio.abc.Stream) -> None:
        try:
            endpoints = Endpoints.of(stream)
        except OSError:
            return  # Gone already.
        with trio.move_on_after(self._timeouts.handshake) as scope:
            connection = await self._begin(listener, stream, endpoints)
        if scope.cancelled_caught or connection is None:
            return
        address = connection.socket.remote[0]
        if listener.gate is not None and not listener.gate.enter(address):
            log.debug("too many http connections of one network", listener=listener.name, remote_ip=address)
            return
        try:
            app = ASGIWrapper(cast(Any, _with_connection(listener.app, connection)))
            self._connections.add(connection)
            await _Protocol(app, self._config, self._context, connection)
        finally:
            self._connections.discard(connection)
            if listener.gate is not None:
                listener.gate.leave(address)

    async def _begin(
        self, listener: HTTPListener, stream: trio.abc.Stream, endpoints: Endpoints
    ) -> ConnectionStream | None:
        """Read a PROXY header and make the TLS handshake, where they are due; None when that fails."""
        try:
            if _is_in(endpoints.remote[0], listener.proxy_protocol_from):
                header, received = await read_proxy_header(stream)
                stream = ReceivedStream(stream, received)
                if header.source_ip:
                    endpoints = Endpoints(
                        (header.source_ip, header.source_port), (header.destination_ip, header.destination_port)
                    )
            if listener.tls is None:
                return ConnectionStream(stream, endpoints, self._timeouts)
            tls = listener.tls.wrap(stream)
            await tls.do_handshake()
            return TLSConnectionStream(tls, endpoints, self._timeouts)
        except (HandshakeFailed, ProxyProtocolError, trio.BrokenResourceError) as error:
            log.debug(
                "http connection not begun", listener=listener.name, remote_ip=endpoints.remote[0], error=str(error)
            )
            return None


class _Protocol(TCPServer):
    """hypercorn's connection without its idle task: `ConnectionStream` has the deadlines."""

    def __init__(self, app: ASGIWrapper, config: Config, context: WorkerContext, stream: ConnectionStream) -> None:
        super().__init__(app, config, context, ConnectionState({}), cast(Any, stream))
        self.idle_task = cast(Any, _NoTask())


class _NoTask:
    """Stands for hypercorn's task that closes an idle connection."""

    async def restart(self, task_group: object, action: object) -> None:
        pass

    async def stop(self) -> None:
        pass


def _with_connection(app: ASGIApp, connection: ConnectionStream) -> ASGIApp:
    """Let the connection know when requests begin and end, and the application what the connection knows."""
    tls_info = connection.tls_info

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_together(message: Message) -> None:
            # hypercorn writes header and body one by one; together they are one packet and one TLS record.
            if message["type"] == "http.response.start":
                connection.hold()
            else:
                connection.release()
            await send(message)

        connection.begin_request(is_multiplexed=scope.get("http_version") == "2")
        if tls_info is not None:
            scope[TLS_INFO_KEY] = tls_info
        try:
            await app(scope, receive, send_together)
        finally:
            connection.end_request()

    return run


def _hypercorn_config(timeouts: HTTPTimeouts) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("mailcrane.http.hypercorn")
    config.include_server_header = False
    config.keep_alive_timeout = timeouts.idle
    config.ssl_handshake_timeout = timeouts.handshake
    config.h2_max_concurrent_streams = 100
    return config


def _is_in(address: str, networks: Sequence[IPNetwork]) -> bool:
    if not networks:
        return False
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def _words(error: BaseException) -> str:
    """An exception, or those in a group, in words."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(inner) for inner in error.exceptions)
    return repr(error)
