"""The PROXY protocol, versions 1 and 2: a load balancer tells the addresses of the connection that it passes on.

It stands before everything else on a connection, TLS included. Parsing does no I/O; `read_proxy_header` reads from a
stream. Believe it only from networks that an operator listed: anybody can write it.

The reference is the text that HAProxy publishes, "The PROXY protocol, Versions 1 & 2".
"""

from __future__ import annotations

import ipaddress
import struct

import trio
from msgspec import Struct

_V1_BEGIN = b"PROXY "
_V1_MAX_OCTETS = 107
_V2_BEGIN = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_OCTETS = 16
# Addresses take 36 octets at most; the rest is for extensions, which are skipped.
_V2_MAX_OCTETS = _V2_FIXED_OCTETS + 4096

_V2_LOCAL = 0x20
_V2_PROXY = 0x21
_V2_FAMILIES = {0x11: 4, 0x21: 16}


class ProxyProtocolError(ValueError):
    """What stands at the beginning of the connection is not a PROXY header."""


class ProxyHeader(Struct, frozen=True):
    """The connection that was passed on.

    Attributes:
        source_ip: The real client; empty when the load balancer speaks for itself (a health check) or does not know.
            Then the addresses of the connection itself are the true ones.
        destination_ip: What the client reached.
    """

    source_ip: str = ""
    source_port: int = 0
    destination_ip: str = ""
    destination_port: int = 0


def parse_proxy_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Parse a header of either version.

    Returns:
        The header and its length in octets; None when more octets are needed.

    Raises:
        ProxyProtocolError: it is not a header.
    """
    if data[:1] == b"P":
        return _parse_v1(data)
    if _V2_BEGIN.startswith(data[: len(_V2_BEGIN)]):
        return _parse_v2(data)
    raise ProxyProtocolError("no PROXY header at the beginning of the connection")


async def read_proxy_header(stream: trio.abc.ReceiveStream) -> tuple[ProxyHeader, bytes]:
    """Read a header from the beginning of a connection. The caller sets a deadline.

    Returns:
        The header, and octets after it that were received already.

    Raises:
        ProxyProtocolError: it is not a header, or the connection ended.
    """
    data = b""
    while True:
        received = await stream.receive_some(_V2_MAX_OCTETS)
        if not received:
            raise ProxyProtocolError("the connection ended before its PROXY header")
        data += received
        parsed = parse_proxy_header(data)
        if parsed is not None:
            header, length = parsed
            return header, data[length:]


class ReceivedStream(trio.abc.Stream):
    """A stream of which some octets were received already, behind a PROXY header."""

    def __init__(self, inner: trio.abc.Stream, received: bytes) -> None:
        self._inner = inner
        self._received = received

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Give what was received already, then what comes."""
        if not self._received:
            return await self._inner.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        count = len(self._received) if max_bytes is None else max_bytes
        received, self._received = self._received[:count], self._received[count:]
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something can be sent."""
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()


def _parse_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    if not _V1_BEGIN.startswith(data[: len(_V1_BEGIN)]):
        raise ProxyProtocolError("no PROXY header at the beginning of the connection")
    line, end, _ = data[:_V1_MAX_OCTETS].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_MAX_OCTETS:
            raise ProxyProtocolError("a PROXY header of version 1 has no end")
        return None
    length = len(line) + 2
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(), length
    if len(words) != 6 or words[1] not in {"TCP4", "TCP6"}:
        raise ProxyProtocolError("a PROXY header of version 1 does not have its six words")
    address_type = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        source, destination = str(address_type(words[2])), str(address_type(words[3]))
    except ValueError:
        raise ProxyProtocolError("a PROXY header of version 1 has a bad address") from None
    return ProxyHeader(source, _port(words[4]), destination, _port(words[5])), length


def _parse_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    if len(data) < _V2_FIXED_OCTETS:
        return None
    command, family, size = struct.unpack_from("!BBH", data, len(_V2_BEGIN))
    length = _V2_FIXED_OCTETS + size
    if command not in {_V2_LOCAL, _V2_PROXY}:
        raise ProxyProtocolError("a PROXY header has an unknown version or command")
    if length > _V2_MAX_OCTETS:
        raise ProxyProtocolError("a PROXY header of version 2 is too long")
    if len(data) < length:
        return None
    width = _V2_FAMILIES.get(family)
    if command == _V2_LOCAL or width is None:
        return ProxyHeader(), length
    if size < 2 * width + 4:
        raise ProxyProtocolError("a PROXY header of version 2 is too short for its addresses")
    start = _V2_FIXED_OCTETS
    source = ipaddress.ip_address(data[start : start + width])
    destination = ipaddress.ip_address(data[start + width : start + 2 * width])
    source_port, destination_port = struct.unpack_from("!HH", data, start + 2 * width)
    return ProxyHeader(str(source), source_port, str(destination), destination_port), length


def _port(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) <= 5 and int(text) <= 65535):
        raise ProxyProtocolError("a PROXY header of version 1 has a bad port")
    return int(text)
