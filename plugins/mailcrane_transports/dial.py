"""Connections to hosts: by their IP addresses, through a SOCKS5 proxy, or by a name that the system resolves."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Protocol

import trio

from mailcrane.api.tls import TCPStream, open_tcp
from mailcrane_transports import metrics

# For all addresses of a host together.
_CONNECT_SECONDS = 30.0
_MAX_ADDRESSES = 8


class CannotConnect(Exception):
    """No address of a host took a connection; the text has each with its reason."""


class Dialer(Protocol):
    """Makes connections."""

    async def dial(self, host: str, ips: Sequence[str], port: int) -> tuple[trio.abc.Stream, str]:
        """Connect to the first address that takes it, within 30 seconds for all of them.

        Returns:
            The connection and the address.

        Raises:
            CannotConnect: none did.
        """
        ...


class AddressDialer:
    """Connects by IP address; implements `Dialer`.

    Args:
        local_ips: Addresses to connect from, at most one of a family.
    """

    def __init__(self, local_ips: Sequence[str] = ()) -> None:
        self._local = {is_ipv6(ip): ip for ip in local_ips}

    async def dial(self, host: str, ips: Sequence[str], port: int) -> tuple[trio.abc.Stream, str]:
        """Try the addresses one after another."""
        return await _first(ips, port, self._connect)

    async def _connect(self, ip: str, port: int, seconds: float) -> TCPStream:
        with trio.fail_after(seconds):
            return await open_tcp(ip, port, self._local.get(is_ipv6(ip), ""))


class SocksDialer:
    """Connects through a SOCKS5 proxy (RFC 1928), to addresses that were looked up here; implements `Dialer`."""

    def __init__(self, host: str, port: int) -> None:
        # Here, because few servers have a proxy.
        import python_socks.async_.trio  # noqa: PLC0415

        self._host, self._port = host, port
        self._proxy = python_socks.async_.trio.Proxy(python_socks.ProxyType.SOCKS5, host, port, rdns=False)
        self._error = python_socks.ProxyError

    async def dial(self, host: str, ips: Sequence[str], port: int) -> tuple[trio.abc.Stream, str]:
        """Ask the proxy for the addresses one after another."""
        return await _first(ips, port, self._connect)

    async def _connect(self, ip: str, port: int, seconds: float) -> TCPStream:
        with trio.fail_after(seconds):
            try:
                # Its own limit is set higher, so that ours tells a slow proxy from one that refuses.
                one = await self._proxy.connect(ip, port, timeout=seconds + 60.0)
            except (self._error, OSError) as error:
                # Whatever it is, it is not the host that failed: without an error number the text stands as it is.
                why = getattr(error, "strerror", None) or str(error)
                raise OSError(f"SOCKS proxy {self._host}:{self._port}: {why}") from error
        return TCPStream.of(trio.SocketStream(one))


class SystemDialer:
    """Connects to a name as the system resolves it, ``/etc/hosts`` included; implements `Dialer`."""

    async def dial(self, host: str, ips: Sequence[str], port: int) -> tuple[trio.abc.Stream, str]:
        """Connect, trying several addresses at once where the first is slow."""
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            metrics.connections.inc(_kind(error))
            raise CannotConnect(f"cannot connect to {host}:{port}: {_words(error, _CONNECT_SECONDS)}") from error
        metrics.connections.inc("ok")
        ip = str(stream.socket.getpeername()[0])
        return TCPStream.of(stream), ip


class _Connect(Protocol):
    async def __call__(self, ip: str, port: int, seconds: float) -> TCPStream: ...


async def _first(ips: Sequence[str], port: int, connect: _Connect) -> tuple[TCPStream, str]:
    deadline = trio.current_time() + _CONNECT_SECONDS
    failures = []
    tried = ips[:_MAX_ADDRESSES]
    for number, ip in enumerate(tried):
        seconds = max(1.0, (deadline - trio.current_time()) / (len(tried) - number))
        try:
            stream = await connect(ip, port, seconds)
        except (OSError, trio.TooSlowError) as error:
            metrics.connections.inc(_kind(error))
            failures.append(f"{ip}: {_words(error, seconds)}")
        else:
            metrics.connections.inc("ok")
            return stream, ip
    raise CannotConnect(f"cannot connect to port {port} of {'; '.join(failures)}")


def is_ipv6(ip: str) -> bool:
    """Return whether an IP address is one of version 6."""
    return ":" in ip


def _kind(error: Exception) -> str:
    is_late = isinstance(error, trio.TooSlowError) or getattr(error, "errno", None) == errno.ETIMEDOUT
    return "timeout" if is_late else "refused"


def _words(error: Exception, seconds: float) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer in {seconds:.0f} s"
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error)
