"""A TCP stream that costs less than trio's own: straight on the non-blocking socket.

`trio.SocketStream` spends two context managers and several checkpoints on each call, which is most of what a short
dialog costs. This one does what SMTP sessions and HTTP requests need: it sends at once where the socket takes it, waits
otherwise, and raises the exceptions that trio's streams raise. One task may send while another receives; two may not do
the same. Unlike trio's streams it does not let other tasks run when a send succeeds at once: who sends waits for the
peer soon.
"""

from __future__ import annotations

import os
import select
import socket

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, notify_closing, wait_readable, wait_writable

_RECEIVE_OCTETS = 65536


class TCPStream(trio.abc.HalfCloseableStream):
    """A connection; it owns the socket."""

    def __init__(self, connected: socket.socket) -> None:
        """Take a connected, non-blocking socket."""
        self.socket = connected
        self._is_closed = False
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def of(cls, stream: trio.SocketStream) -> TCPStream:
        """Take the connection out of a stream of trio's, which is of no further use."""
        connected = socket.socket(fileno=stream.socket.detach())
        connected.setblocking(False)
        return cls(connected)

    @property
    def has_something_to_read(self) -> bool:
        """Whether octets, or the end, have arrived that were not received yet."""
        if self._is_closed:
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            trio.ClosedResourceError: the stream was closed.
        """
        if self._is_closed:
            raise trio.ClosedResourceError
        await checkpoint_if_cancelled()
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._lost(error) from error
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            await wait_writable(self.socket)
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes octets."""
        if self._is_closed:
            raise trio.ClosedResourceError
        await wait_writable(self.socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, waiting for at least an octet; empty at the end.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            trio.ClosedResourceError: the stream was closed.
        """
        if self._is_closed:
            raise trio.ClosedResourceError
        while True:
            await wait_readable(self.socket)
            try:
                return self.socket.recv(max_bytes or _RECEIVE_OCTETS)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        if self._is_closed:
            raise trio.ClosedResourceError
        await checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._lost(error) from error

    async def aclose(self) -> None:
        """Close the connection; twice does nothing."""
        if not self._is_closed:
            self._is_closed = True
            notify_closing(self.socket)
            self.socket.close()
        await checkpoint()

    def _lost(self, error: OSError) -> Exception:
        if self._is_closed:
            return trio.ClosedResourceError("the stream was closed by another task")
        return trio.BrokenResourceError(f"connection lost: {error}")


async def open_tcp(address: str, port: int, local_ip: str = "") -> TCPStream:
    """Open a connection to an IP address.

    Args:
        address: Of the peer.
        port: Of the peer.
        local_ip: Of this machine, to connect from; empty leaves it to the system.

    Raises:
        OSError: there is none; the error is the system's, which says why.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_STREAM) as connecting:
        try:
            if local_ip:
                await connecting.bind((local_ip, 0))
            await connecting.connect((address, port))
        except OSError as error:
            # Trio puts the address in front of the reason.
            raise OSError(error.errno, os.strerror(error.errno or 0)) from None
        connected = socket.socket(fileno=connecting.detach())
    connected.setblocking(False)
    return TCPStream(connected)
