from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from mailcrane.tls.certificate import CertificateAndKey, make_self_signed
from mailcrane.tls.context import ClientTLS, ServerTLS, UnknownServerName, Verification, choose_alpn
from mailcrane.tls.stream import HandshakeFailed, TLSStream, TLSTruncated

CERTIFICATE, KEY = make_self_signed(["mail.example", "*.wild.example", "127.0.0.1"])
SERVER_TLS = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)])
CLIENT_TLS = ClientTLS(ca_pem=CERTIFICATE)

Pair = tuple[TLSStream, TLSStream]


def wrap_pair(transports: tuple[trio.abc.Stream, trio.abc.Stream]) -> Pair:
    return CLIENT_TLS.wrap(transports[0], "mail.example"), SERVER_TLS.wrap(transports[1])


async def make_pair() -> Pair:
    client, server = wrap_pair(trio.testing.memory_stream_pair())
    await handshake(client, server)
    return client, server


async def handshake(client: TLSStream, server: TLSStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)


async def test_it_is_a_stream_as_trio_defines_it() -> None:
    await trio.testing.check_two_way_stream(make_pair, None)


async def test_it_is_a_stream_as_trio_defines_it_when_the_transport_blocks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def make() -> Pair:
        client, server = wrap_pair(trio.testing.lockstep_stream_pair())
        await handshake(client, server)
        return client, server

    await trio.testing.check_two_way_stream(make, make)


async def exchange(client: TLSStream, server: TLSStream) -> None:
    """Both send 24 MB at once, in pieces of odd sizes, and both get what the other sent."""
    total = 24 * 1024 * 1024
    block = bytes(range(256)) * 4096

    async def send(stream: TLSStream) -> None:
        sent = 0
        sizes = [1, 16384, 70001, 3, len(block), 524289]
        turn = 0
        while sent < total:
            piece = block[: min(sizes[turn % len(sizes)], total - sent)]
            await stream.send_all(piece)
            digests[stream].update(piece)
            sent += len(piece)
            turn += 1

    async def receive(stream: TLSStream) -> None:
        received = 0
        while received < total:
            data = await stream.receive_some()
            assert data
            received += len(data)
            arrived[stream].update(data)
        assert received == total

    digests = {client: hashlib.sha256(), server: hashlib.sha256()}
    arrived = {client: hashlib.sha256(), server: hashlib.sha256()}
    async with trio.open_nursery() as nursery:
        for stream in (client, server):
            nursery.start_soon(send, stream)
            nursery.start_soon(receive, stream)
    assert arrived[server].digest() == digests[client].digest()
    assert arrived[client].digest() == digests[server].digest()


async def test_much_flows_both_ways_at_once_and_arrives_intact() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        port = listener.socket.getsockname()[1]
        transports = (await trio.open_tcp_stream("127.0.0.1", port), await listener.accept())
        client, server = wrap_pair(transports)
        async with client, server:
            await exchange(client, server)


async def test_both_sides_know_what_was_negotiated_and_have_the_same_channel_binding() -> None:
    client, server = await make_pair()
    assert client.tls_info.version == server.tls_info.version == "TLSv1.3"
    assert client.tls_info.cipher == server.tls_info.cipher
    assert client.tls_info.server_name == server.tls_info.server_name == "mail.example"
    assert len(client.tls_info.peer_fingerprint) == 43
    assert server.tls_info.peer_fingerprint == ""
    binding = client.tls_exporter()
    assert binding is not None
    assert len(binding) == 32
    assert binding == server.tls_exporter()
    other_client, _ = await make_pair()
    assert other_client.tls_exporter() != binding


async def test_there_is_a_channel_binding_on_tls_1_2_with_the_extended_master_secret() -> None:
    transports = trio.testing.memory_stream_pair()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = TLSStream(transports[0], context, server_side=False)
    server = SERVER_TLS.wrap(transports[1])
    await handshake(client, server)
    assert client.tls_info.version == "TLSv1.2"
    assert client.tls_exporter() is not None
    assert client.tls_exporter() == server.tls_exporter()


async def test_there_is_no_channel_binding_and_no_information_before_the_handshake() -> None:
    client, _ = wrap_pair(trio.testing.memory_stream_pair())
    assert client.tls_exporter() is None
    with pytest.raises(RuntimeError):
        _ = client.tls_info


async def test_the_end_without_close_notify_is_a_truncation_and_with_it_is_an_end() -> None:
    client, server = await make_pair()
    await client.send_all(b"the beginning")
    await client.transport_stream.aclose()
    assert await server.receive_some() == b"the beginning"
    for _ in range(2):
        with pytest.raises(TLSTruncated):
            await server.receive_some()

    client, server = await make_pair()
    await client.send_all(b"all of it")
    await client.aclose()
    assert await server.receive_some() == b"all of it"
    assert await server.receive_some() == b""
    assert await server.receive_some() == b""


async def test_a_cancelled_receive_loses_nothing() -> None:
    client, server = await make_pair()
    message = bytes(range(256)) * 40
    received = bytearray()
    # The transport gives the record piece by piece, and every wait for more is cancelled.
    client.transport_stream.send_stream.send_all_hook = None
    await client.send_all(message)
    captured = client.transport_stream.send_stream.get_data_nowait()
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive_some()
    for position in range(0, len(captured), 61):
        server.transport_stream.receive_stream.put_data(captured[position : position + 61])
        with trio.move_on_after(0) as scope:
            received += await server.receive_some(100)
    while len(received) < len(message):
        received += await server.receive_some(1000)
    assert received == message


async def test_after_a_cancelled_send_the_stream_can_only_be_closed() -> None:
    transports = trio.testing.lockstep_stream_pair()
    client, server = wrap_pair(transports)
    await handshake(client, server)
    with trio.move_on_after(0.01) as scope:
        await client.send_all(bytes(1_000_000))
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError, match="interrupted"):
        await client.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError, match="interrupted"):
        await client.receive_some()
    await client.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"x")


async def test_a_send_that_is_cancelled_before_it_began_does_no_harm() -> None:
    client, server = await make_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.send_all(b"never")
    assert scope.cancelled_caught
    await client.send_all(b"but this")
    assert await server.receive_some() == b"but this"


async def test_a_handshake_that_does_not_come_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    _, server = wrap_pair(trio.testing.memory_stream_pair())
    with pytest.raises(HandshakeFailed, match="within 30 s"):
        await server.do_handshake()
    with pytest.raises(trio.BrokenResourceError, match="within 30 s"):
        await server.receive_some()


@pytest.mark.parametrize("garbage", [b"EHLO client.example\r\n" * 3, b"\x16\x03\x01\xff\xff" + bytes(100), bytes(64)])
async def test_a_peer_that_speaks_something_else_fails_the_handshake(garbage: bytes) -> None:
    transport, server_transport = trio.testing.memory_stream_pair()
    server = SERVER_TLS.wrap(server_transport)
    await transport.send_all(garbage)
    await transport.send_eof()
    with pytest.raises(HandshakeFailed):
        await server.do_handshake()
    await server.aclose()


async def test_a_peer_that_leaves_during_the_handshake_fails_it() -> None:
    transport, server_transport = trio.testing.memory_stream_pair()
    await transport.send_eof()
    with pytest.raises(HandshakeFailed, match="ended"):
        await SERVER_TLS.wrap(server_transport).do_handshake()


async def test_garbage_after_the_handshake_breaks_the_stream() -> None:
    client, server = await make_pair()
    await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError) as caught:
        await server.receive_some()
    assert not isinstance(caught.value, TLSTruncated)
    await server.aclose()


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    client, server = wrap_pair(trio.testing.lockstep_stream_pair())
    await handshake(client, server)
    begin = trio.current_time()
    await client.aclose()
    assert trio.current_time() - begin == pytest.approx(1.0)


@pytest.mark.parametrize("action", ["send", "receive"])
async def test_a_second_task_that_does_the_same_is_refused(action: str) -> None:
    client, server = wrap_pair(trio.testing.lockstep_stream_pair())
    await handshake(client, server)

    actions: dict[str, Callable[[], Awaitable[object]]] = {
        "send": lambda: client.send_all(bytes(100_000)),
        "receive": client.receive_some,
    }

    async def act() -> None:
        await actions[action]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await act()
        nursery.cancel_scope.cancel()


async def test_it_speaks_with_the_standard_librarys_tls() -> None:
    transports = trio.testing.memory_stream_pair()
    context = ssl.create_default_context(cadata=CERTIFICATE.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    server_tls = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)], alpn=choose_alpn("http/1.1"))
    client = trio.SSLStream(transports[0], context, server_hostname="mail.example")
    server = server_tls.wrap(transports[1])

    async def ask() -> None:
        await client.send_all(b"question")
        assert await client.receive_some() == b"answer"
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        assert await server.receive_some() == b"question"
        assert server.selected_alpn_protocol() == "http/1.1"
        await server.send_all(b"answer")
        assert await server.receive_some() == b""
        await server.aclose()


async def test_sizes_that_make_no_sense_are_refused() -> None:
    client, _ = await make_pair()
    with pytest.raises(ValueError, match="at least 1"):
        await client.receive_some(0)
    with pytest.raises(TypeError):
        await client.receive_some(1.5)  # type: ignore[arg-type]


async def test_nobody_asks_when_nothing_is_to_be_verified() -> None:
    transports = trio.testing.memory_stream_pair()
    client = ClientTLS(verification=Verification.NONE).wrap(transports[0], "other.example")
    server_tls = ServerTLS(
        [CertificateAndKey.from_pem(CERTIFICATE, KEY)], unknown_server_name=UnknownServerName.FALL_BACK
    )
    await handshake(client, server_tls.wrap(transports[1]))
    assert client.verify_error == ""
    assert client.peer_certificate is not None
