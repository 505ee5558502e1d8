from __future__ import annotations

import ipaddress
import struct

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from mailcrane.tls.proxy_protocol import ProxyHeader, ProxyProtocolError, parse_proxy_header, read_proxy_header

V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(command: int, family: int, payload: bytes) -> bytes:
    return V2 + struct.pack("!BBH", command, family, len(payload)) + payload


V2_IPV4 = version_2(0x21, 0x11, bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 40000, 25))
V2_IPV6 = version_2(
    0x21,
    0x21,
    ipaddress.ip_address("2001:db8::7").packed
    + ipaddress.ip_address("2001:db8::1").packed
    + struct.pack("!HH", 40000, 443)
    + b"\x04\x00\x01\x00",
)

HEADERS = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n", ProxyHeader("192.0.2.7", 40000, "198.51.100.1", 25)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", ProxyHeader("2001:db8::7", 40000, "2001:db8::1", 443)),
    (b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ProxyHeader()),
    (V2_IPV4, ProxyHeader("192.0.2.7", 40000, "198.51.100.1", 25)),
    (V2_IPV6, ProxyHeader("2001:db8::7", 40000, "2001:db8::1", 443)),
    (version_2(0x20, 0x00, b""), ProxyHeader()),
    (version_2(0x21, 0x31, bytes(216)), ProxyHeader()),
]


@pytest.mark.parametrize(("data", "header"), HEADERS)
def test_a_header_is_parsed_and_what_follows_is_left(data: bytes, header: ProxyHeader) -> None:
    assert parse_proxy_header(data + b"EHLO x\r\n") == (header, len(data))


@pytest.mark.parametrize(("data", "header"), HEADERS)
def test_every_beginning_of_a_header_asks_for_more(data: bytes, header: ProxyHeader) -> None:
    assert all(parse_proxy_header(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"POST / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 40000 25\r\n",
        b"PROXY " + b"x" * 101,
        version_2(0x11, 0x11, b""),
        version_2(0x22, 0x11, b""),
        version_2(0x21, 0x11, bytes(11)),
        version_2(0x21, 0x11, bytes(5000)),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse_proxy_header(data)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2]))
def test_no_octets_raise_anything_else(data: bytes, begin: bytes) -> None:
    try:
        parsed = parse_proxy_header(begin + data)
    except ProxyProtocolError:
        return
    assert parsed is None or parsed[1] <= len(begin + data)


async def test_a_header_in_pieces_is_read_from_a_stream() -> None:
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for position in range(len(V2_IPV4)):
                await client.send_all(V2_IPV4[position : position + 1])
            await client.send_all(b"EHLO")

        nursery.start_soon(send)
        header, rest = await read_proxy_header(server)
    assert header.source_ip == "192.0.2.7"
    assert b"EHLO".startswith(rest)


async def test_a_connection_that_ends_early_has_no_header() -> None:
    client, server = trio.testing.memory_stream_pair()
    await client.send_all(b"PROXY TCP4")
    await client.send_eof()
    with pytest.raises(ProxyProtocolError, match="ended"):
        await read_proxy_header(server)
