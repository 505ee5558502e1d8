from __future__ import annotations

import base64
import ipaddress
import json
import struct
import tracemalloc
from typing import Any

import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from mailcrane.http.app import Receive, Scope, Send, drain, respond
from mailcrane.http.connection import ConnectionStream, Endpoints, HTTPTimeouts
from mailcrane.http.dispatch import TLS_INFO_KEY
from mailcrane.http.server import HTTPListener, serve_http
from mailcrane.tls.certificate import CertificateAndKey, make_self_signed
from mailcrane.tls.context import ClientTLS, ServerTLS, choose_alpn

from .conftest import Serve, receive_all, receive_until

GET = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
GET_KEEP_ALIVE = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await drain(receive, 1_000_000)
    await respond(send, 200, "hello\n")


async def about_the_connection(scope: Scope, receive: Receive, send: Send) -> None:
    tls = scope.get(TLS_INFO_KEY)
    answer = {
        "client": scope["client"],
        "server": scope["server"],
        "tls": tls.version if tls else "",
        "scheme": scope["scheme"],
    }
    await respond(send, 200, json.dumps(answer))


async def drip(stream: trio.abc.SendStream, octets: bytes) -> None:
    """Send an octet a second until the server has enough of it."""
    for octet in octets:
        try:
            await stream.send_all(bytes([octet]))
        except trio.BrokenResourceError:
            return
        await trio.sleep(1)
    pytest.fail("the server took it all")


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


async def test_a_request_is_answered(serve: Serve) -> None:
    async with serve(hello) as server:
        response = await server.exchange(GET)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert body_of(response) == b"hello\n"
    assert b"\r\nserver:" not in response.lower()


WEBSOCKET_AND_A_STRAY_BYTE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\nX"
)
BAD_HTTP2_SETTINGS = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: A\r\n\r\n"
)


@pytest.mark.parametrize("packet", [WEBSOCKET_AND_A_STRAY_BYTE, BAD_HTTP2_SETTINGS])
async def test_a_packet_that_would_end_hypercorns_own_server_ends_its_connection_only(
    serve: Serve, packet: bytes
) -> None:
    async with serve(hello) as server:
        bad = server.connect()
        await bad.send_all(packet)
        await receive_all(bad)
        assert body_of(await server.exchange(GET)) == b"hello\n"


async def test_a_client_that_never_reads_is_cut_off_while_others_are_served(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, bytes(1_000_000) if scope["path"] == "/much" else "hello\n")

    async with serve(much) as server:
        lazy = server.connect(is_lockstep=True)
        begin = trio.current_time()
        await lazy.send_all(GET.replace(b"GET /", b"GET /much"))
        await trio.testing.wait_all_tasks_blocked()
        assert body_of(await server.exchange(GET)) == b"hello\n"
        await trio.sleep(59)
        await drip(lazy, bytes(100))
        assert trio.current_time() - begin == pytest.approx(60, abs=3)


async def test_a_request_header_must_come_within_30_seconds(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    async with serve(hello) as server:
        slow = server.connect()
        begin = trio.current_time()
        await drip(slow, GET_KEEP_ALIVE.replace(b"Host", b"X: " + bytes(100).hex().encode() + b"\r\nHost"))
        assert trio.current_time() - begin == pytest.approx(30, abs=2)


async def test_a_body_may_take_longer_than_a_header(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        octets = 0
        while True:
            message = await receive()
            octets += len(message["body"])
            if not message["more_body"]:
                break
        await respond(send, 200, str(octets))

    async with serve(count) as server:
        client = server.connect()
        await client.send_all(b"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            await client.send_all(b"x")
            await trio.sleep(1)
        assert body_of(await receive_all(client)) == b"100"


async def test_an_idle_connection_is_closed_after_65_seconds(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    async with serve(hello) as server:
        client = server.connect()
        await trio.sleep(60)
        await client.send_all(GET_KEEP_ALIVE)
        await receive_until(client, b"hello\n")
        begin = trio.current_time()
        await trio.sleep(60)
        await client.send_all(GET_KEEP_ALIVE)
        await receive_until(client, b"hello\n")
        assert await receive_all(client) == b""
        assert trio.current_time() - begin == pytest.approx(125, abs=1)


async def test_a_client_that_leaves_gives_its_place_back_at_once(serve: Serve) -> None:
    async with serve(hello, max_connections=1) as server:
        for request in (b"", b"GET / HT", GET_KEEP_ALIVE):
            client = server.connect()
            await client.send_all(request)
            await trio.testing.wait_all_tasks_blocked()
            await client.aclose()
            await trio.testing.wait_all_tasks_blocked()
        assert body_of(await server.exchange(GET)) == b"hello\n"


async def test_connections_above_the_limit_are_closed_at_once(serve: Serve) -> None:
    async with serve(hello, max_connections=2) as server:
        first, second, third = (server.connect() for _ in range(3))
        assert await receive_all(third) == b""
        await first.send_all(GET)
        assert body_of(await receive_all(first)) == b"hello\n"
        await trio.testing.wait_all_tasks_blocked()
        assert body_of(await server.exchange(GET)) == b"hello\n"
        await second.aclose()


async def test_connections_of_one_network_are_limited_by_a_gate(serve: Serve) -> None:
    class Gate:
        open: list[str]

        def __init__(self) -> None:
            self.open = []

        def enter(self, address: str) -> bool:
            if self.open:
                return False
            self.open.append(address)
            return True

        def leave(self, address: str) -> None:
            self.open.remove(address)

    gate = Gate()
    async with serve(hello, gate=gate) as server:
        first = server.connect()
        await first.send_all(GET_KEEP_ALIVE)
        await receive_until(first, b"hello\n")
        assert await server.exchange(GET) == b""
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert body_of(await server.exchange(GET)) == b"hello\n"
    assert gate.open == []


async def test_an_application_that_raises_fails_its_request_only(serve: Serve) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fail":
            raise RuntimeError("broken")
        await respond(send, 200, "hello\n")

    async with serve(fail) as server:
        assert (await server.exchange(GET.replace(b"GET /", b"GET /fail"))).startswith(b"HTTP/1.1 500 ")
        assert body_of(await server.exchange(GET)) == b"hello\n"


async def test_shutdown_ends_idle_connections_and_waits_for_requests_under_way(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(3)
        await respond(send, 200, "done\n")

    async with serve(slow) as server:
        idle, busy = server.connect(), server.connect()
        await busy.send_all(GET_KEEP_ALIVE)
        await trio.testing.wait_all_tasks_blocked()
        server.stop.set()
        assert await receive_all(idle) == b""
        assert body_of(await receive_all(busy)) == b"done\n"
        await server.stopped.wait()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_shutdown_ends_beside_a_client_that_does_not_read(
    serve: Serve, autojump_clock: trio.testing.MockClock, is_cancelled: bool
) -> None:
    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, bytes(10_000_000))

    begin = trio.current_time()
    with trio.CancelScope() as scope:
        async with serve(much) as server:
            lazy = server.connect(is_lockstep=True)
            await lazy.send_all(GET)
            await trio.testing.wait_all_tasks_blocked()
            begin = trio.current_time()
            if is_cancelled:
                scope.cancel()
            else:
                server.stop.set()
                await server.stopped.wait()
    assert trio.current_time() - begin <= 5.1


CERTIFICATE, KEY = make_self_signed(["test.example"])


@pytest.mark.parametrize(("alpn", "scheme"), [((), "https"), (("http/1.1",), "https")])
async def test_tls_is_served_and_known_to_the_application(serve: Serve, alpn: tuple[str, ...], scheme: str) -> None:
    tls = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)], alpn=choose_alpn("h2", "http/1.1"))
    async with serve(about_the_connection, tls=tls) as server:
        client = ClientTLS(ca_pem=CERTIFICATE, alpn=alpn).wrap(server.connect(), "test.example")
        await client.send_all(GET)
        answer = json.loads(body_of(await receive_all(client)))
        assert answer["tls"] == "TLSv1.3"
        assert answer["scheme"] == scheme


async def test_http_2_is_spoken_where_the_client_wants_it(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    tls = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)], alpn=choose_alpn("h2", "http/1.1"))
    async with serve(hello, tls=tls) as server:
        client = ClientTLS(ca_pem=CERTIFICATE, alpn=("h2", "http/1.1")).wrap(server.connect(), "test.example")
        await client.do_handshake()
        assert client.selected_alpn_protocol() == "h2"
        protocol = h2.connection.H2Connection()
        protocol.initiate_connection()
        begin = trio.current_time()
        for stream_id in (1, 3):
            fields = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "test")]
            protocol.send_headers(stream_id, fields, end_stream=True)
            await client.send_all(protocol.data_to_send())
            body, is_ended = b"", False
            while not is_ended:
                for event in protocol.receive_data(await client.receive_some()):
                    body += event.data if isinstance(event, h2.events.DataReceived) else b""
                    is_ended = is_ended or isinstance(event, h2.events.StreamEnded)
            assert body == b"hello\n"
            # A ping on an idle connection is not the beginning of a header, which would have to end in 30 seconds.
            protocol.ping(b"12345678")
            await client.send_all(protocol.data_to_send())
            await trio.sleep(50)
        await receive_all(client)
        assert trio.current_time() - begin == pytest.approx(115, abs=1)


async def test_a_response_header_travels_with_its_body() -> None:
    _, server = trio.testing.memory_stream_pair()
    server.send_stream.send_all_hook = None
    connection = ConnectionStream(server, Endpoints.of(server), HTTPTimeouts())
    connection.hold()
    await connection.send_all(b"header")
    with pytest.raises(trio.WouldBlock):
        server.send_stream.get_data_nowait()
    connection.release()
    await connection.send_all(b"body")
    assert server.send_stream.get_data_nowait() == b"headerbody"


async def test_a_client_that_does_not_speak_tls_does_no_harm(
    serve: Serve, autojump_clock: trio.testing.MockClock
) -> None:
    tls = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)])
    async with serve(hello, tls=tls) as server:
        silent = server.connect()
        begin = trio.current_time()
        assert b"HTTP" not in await server.exchange(GET)
        assert await receive_all(silent) == b""
        assert trio.current_time() - begin == pytest.approx(30, abs=1)


PROXY_V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12)
    + bytes([203, 0, 113, 9, 192, 0, 2, 1])
    + struct.pack("!HH", 5555, 80)
)


@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\n", PROXY_V2])
async def test_a_proxy_header_tells_the_client_where_its_network_is_listed(serve: Serve, header: bytes) -> None:
    async with serve(about_the_connection, proxy_protocol_from=(ipaddress.ip_network("127.0.0.0/8"),)) as server:
        answer = json.loads(body_of(await server.exchange(header + GET)))
        assert answer["client"] == ["203.0.113.9", 5555]
        assert answer["server"] == ["192.0.2.1", 80]
        assert await server.exchange(GET) == b""


async def test_a_proxy_header_from_elsewhere_is_not_believed(serve: Serve) -> None:
    async with serve(about_the_connection, proxy_protocol_from=(ipaddress.ip_network("192.0.2.0/24"),)) as server:
        response = await server.exchange(b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\n" + GET)
        assert response.startswith(b"HTTP/1.1 400 ")


async def upload(serve: Serve, size: int) -> None:
    total: list[int] = []

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        octets = 0
        while True:
            message: Any = await receive()
            octets += len(message["body"])
            if not message["more_body"]:
                break
        total.append(octets)
        await respond(send, 200, "ok")

    async with serve(read) as server:
        client = server.connect(is_lockstep=True)
        tracemalloc.start()
        try:
            await client.send_all(
                b"POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
            )
            chunk = bytes(65536)
            for _ in range(size // len(chunk)):
                await client.send_all(chunk)
            response = await receive_all(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert body_of(response) == b"ok"
    assert total == [size]
    assert peak < 5_000_000


async def test_an_upload_of_50_mb_does_not_grow_memory(serve: Serve) -> None:
    await upload(serve, 50 * 1024 * 1024)


@pytest.mark.slow
async def test_an_upload_of_200_mb_does_not_grow_memory(serve: Serve) -> None:
    await upload(serve, 200 * 1024 * 1024)


async def test_it_serves_sockets() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            serve_http, [HTTPListener("test", listener, about_the_connection) for listener in listeners], stop
        )
        client = await trio.open_tcp_stream("127.0.0.1", port)
        await client.send_all(GET)
        answer = json.loads(body_of(await receive_all(client)))
        assert answer["client"] == list(client.socket.getsockname())
        await client.aclose()
        stop.set()


async def test_timeouts_can_be_set(serve: Serve, autojump_clock: trio.testing.MockClock) -> None:
    async with serve(hello, HTTPTimeouts(idle=3)) as server:
        begin = trio.current_time()
        assert await receive_all(server.connect()) == b""
        assert trio.current_time() - begin == pytest.approx(3)
