"""The stream that hypercorn is given for one connection: with the time limits that hypercorn does not have.

Hypercorn shields its sends from cancellation, so a limit on them can only live inside the stream. It does not limit
the time that a request's header may take; and it limits an idle connection by a task per request, which is dear, and
which keeps a connection whose client has left.
"""

from __future__ import annotations

import ipaddress
import math
import socket

import trio
from msgspec import Struct

from mailcrane.model.session import TLSInfo
from mailcrane.tls.stream import TLSStream

# A response is sent in pieces, so that the time limit is on progress and not on the whole.
_SEND_OCTETS = 256 * 1024


class HTTPTimeouts(Struct, frozen=True):
    """Seconds for the waits on a client.

    Attributes:
        handshake: For PROXY header and TLS together.
        header: From the first octet of a request to the end of its header.
        idle: Between requests.
        send: For 256 KB of a response.
        shutdown: For requests under way when the server stops.
    """

    handshake: float = 30.0
    header: float = 30.0
    idle: float = 65.0
    send: float = 60.0
    shutdown: float = 5.0


class Endpoints(Struct, frozen=True):
    """The addresses of a connection, as hypercorn asks a socket for them."""

    remote: tuple[str, int]
    local: tuple[str, int]

    @property
    def family(self) -> socket.AddressFamily:
        """The family that the remote address belongs to."""
        try:
            version = ipaddress.ip_address(self.remote[0].partition("%")[0]).version
        except ValueError:
            version = 4
        return socket.AF_INET6 if version == 6 else socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        """The client's address."""
        return self.remote

    def getsockname(self) -> tuple[str, int]:
        """The address that the client reached."""
        return self.local

    @classmethod
    def of(cls, stream: trio.abc.Stream) -> Endpoints:
        """The addresses of a stream; those of a stream without a socket are loopback ones."""
        if not isinstance(stream, trio.SocketStream):
            return cls(("127.0.0.1", 0), ("127.0.0.1", 0))
        remote, local = stream.socket.getpeername(), stream.socket.getsockname()
        return cls((remote[0], remote[1]), (local[0], local[1]))


class ConnectionStream(trio.abc.Stream):
    """A connection in plaintext, as hypercorn wants it.

    Attributes:
        socket: Tells the addresses.
        tls_info: What was negotiated; None in plaintext.
    """

    tls_info: TLSInfo | None = None

    def __init__(self, inner: trio.abc.Stream, endpoints: Endpoints, timeouts: HTTPTimeouts) -> None:
        self.socket = endpoints
        self._inner = inner
        self._timeouts = timeouts
        self._requests = 0
        self._is_multiplexed = False
        self._is_in_header = False
        self._held = b""
        self._is_holding = False
        self._deadline = trio.current_time() + timeouts.idle
        # Of the receive that waits, so that its deadline can be moved.
        self._waiting: trio.CancelScope | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self._requests

    def begin_request(self, *, is_multiplexed: bool = False) -> None:
        """Note that the header of a request is complete.

        Args:
            is_multiplexed: Whether requests share the connection (HTTP/2). What comes between them then need not be
                the beginning of a request.
        """
        self._requests += 1
        self._is_multiplexed = is_multiplexed
        self._is_in_header = False
        self._move_deadline(math.inf)

    def end_request(self) -> None:
        """Note that a request is answered."""
        self._requests -= 1
        self._is_holding = False
        if not self._requests:
            self._move_deadline(trio.current_time() + self._timeouts.idle)

    def hold(self) -> None:
        """Keep what is sent next until more follows: a response's header, so that it travels with the body."""
        self._is_holding = not self._is_multiplexed

    def release(self) -> None:
        """Send what is held with what is sent next."""
        self._is_holding = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; a client that takes too long is cut off.

        Raises:
            trio.BrokenResourceError: the connection is gone, or the client did not read.
        """
        if self._is_holding:
            self._held += data
            return
        if self._held:
            data, self._held = self._held + bytes(data), b""
        if len(data) <= _SEND_OCTETS:
            if data:
                await self._send_piece(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _SEND_OCTETS):
            await self._send_piece(view[start : start + _SEND_OCTETS])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something can be sent."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; requests, and the header of each, must come in time.

        Raises:
            trio.BrokenResourceError: the connection is gone, was idle for too long, or the header took too long.
        """
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._waiting = scope
            data = await self._inner.receive_some(max_bytes)
        self._waiting = None
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("no request, or no end of its header, in time")
        if data and not self._requests and not self._is_multiplexed and not self._is_in_header:
            self._is_in_header = True
            self._deadline = trio.current_time() + self._timeouts.header
        return data

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def _send_piece(self, piece: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(self._timeouts.send) as scope:
            await self._inner.send_all(piece)
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self._inner)
            raise trio.BrokenResourceError(f"the client did not read for {self._timeouts.send:g} s")

    def _move_deadline(self, deadline: float) -> None:
        self._deadline = deadline
        if self._waiting is not None:
            self._waiting.deadline = deadline


class TLSConnectionStream(ConnectionStream):
    """A connection under TLS, as hypercorn wants it. The handshake is made already.

    Attributes:
        transport_stream: Tells the addresses, by its ``socket``.
    """

    def __init__(self, inner: TLSStream, endpoints: Endpoints, timeouts: HTTPTimeouts) -> None:
        super().__init__(inner, endpoints, timeouts)
        self.transport_stream = self
        self.tls_info = inner.tls_info
        self._protocol = inner.selected_alpn_protocol()

    async def do_handshake(self) -> None:
        """Nothing is left to do."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """The application protocol that was agreed on."""
        return self._protocol
