"""The stream of an accepted connection does what trio's streams do, but that sending need not yield."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mailcrane.tls.tcp import TCPStream, open_tcp


async def _pair() -> tuple[TCPStream, TCPStream]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.setblocking(False)
    other.setblocking(False)
    return TCPStream(one), TCPStream(other)


async def test_everything_sent_arrives_although_the_peer_reads_slowly() -> None:
    sender, receiver = await _pair()
    octets = bytes(range(256)) * 40_000
    arrived = bytearray()

    async def receive() -> None:
        while chunk := await receiver.receive_some(65536):
            arrived.extend(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await sender.send_all(octets)
        await sender.send_eof()
    assert bytes(arrived) == octets
    await sender.aclose()
    await receiver.aclose()


async def test_a_closed_stream_says_so() -> None:
    stream, peer = await _pair()
    await stream.aclose()
    await stream.aclose()
    for use in (stream.send_all(b"x"), stream.receive_some(1), stream.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await use
    assert await peer.receive_some(1) == b""
    await peer.aclose()


async def test_closing_wakes_a_task_that_receives() -> None:
    stream, peer = await _pair()
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some(1)

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await stream.aclose()
    await peer.aclose()


async def test_a_cancelled_task_sends_nothing() -> None:
    stream, peer = await _pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.send_all(b"too late")
    await stream.aclose()
    assert await peer.receive_some(100) == b""
    await peer.aclose()


async def test_a_reset_connection_is_a_broken_stream() -> None:
    stream, peer = await _pair()
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some(1)
    await stream.aclose()


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
async def test_a_connection_is_opened_to_addresses_of_both_families(address: str, family: socket.AddressFamily) -> None:
    with socket.create_server((address, 0), family=family) as listening:
        stream = await open_tcp(address, listening.getsockname()[1])
        accepted, _ = listening.accept()
        with accepted:
            await stream.send_all(b"x")
            assert accepted.recv(1) == b"x"
            accepted.sendall(b"y")
            assert await stream.receive_some() == b"y"
        await stream.aclose()
