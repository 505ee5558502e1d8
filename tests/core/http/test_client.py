from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing

from mailcrane.http.client import (
    AddressRefused,
    ConnectFailed,
    GuardedClient,
    HTTPClientError,
    RequestTimedOut,
    ResponseFailed,
    URLRefused,
)
from mailcrane.http.guard import AddressGuard
from mailcrane.http.url import parse_url
from mailcrane.tls.certificate import CertificateAndKey, make_self_signed
from mailcrane.tls.context import ClientTLS, ServerTLS

Handler = Callable[["Peer", trio.abc.Stream], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Note: hi\r\n\r\nok"
PUBLIC = "203.0.114.7"


class Peer:
    """A web server in memory behind every address, and a resolver."""

    def __init__(self, nursery: trio.Nursery, handler: Handler) -> None:
        self.nursery = nursery
        self.handler = handler
        self.answers: list[list[str]] = [[PUBLIC]]
        self.asked: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.requests: list[bytes] = []
        self.unreachable: set[str] = set()

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def connect(self, address: str, port: int) -> trio.abc.Stream:
        self.connected.append((address, port))
        if address in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        client, server = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.handler, self, server)
        return client

    def client(self, tls: ClientTLS | None = None, allow_networks: Sequence[str] = ()) -> GuardedClient:
        return GuardedClient(allow_networks=allow_networks, resolve=self.resolve, connect=self.connect, tls=tls)

    async def read_request(self, stream: trio.abc.Stream) -> bytes:
        """Read a request with its body; none when the client closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            received = await stream.receive_some()
            if not received:
                return b""
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            body += await stream.receive_some()
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]


async def answer_all(peer: Peer, stream: trio.abc.Stream) -> None:
    while await peer.read_request(stream):
        await stream.send_all(OK)


def answer_with(*pieces: bytes, pause: float = 0) -> Handler:
    async def handle(peer: Peer, stream: trio.abc.Stream) -> None:
        await peer.read_request(stream)
        try:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(pause)
            await stream.aclose()
        except trio.BrokenResourceError:
            pass

    return handle


@pytest.fixture
async def peer(nursery: trio.Nursery) -> Peer:
    return Peer(nursery, answer_all)


async def test_a_body_is_posted_with_the_callers_headers(peer: Peer) -> None:
    client = peer.client()
    response = await client.post("http://hook.example/path?a=b", headers={"X-One": "1"}, body=b"{}")
    assert (response.status, response.body, response.is_truncated) == (200, b"ok", False)
    assert response.headers["x-note"] == "hi"
    assert peer.requests == [
        b"POST /path?a=b HTTP/1.1\r\nHost: hook.example\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n{}"
    ]
    assert peer.connected == [(PUBLIC, 80)]
    await client.aclose()


async def test_connections_are_kept_for_further_requests(peer: Peer) -> None:
    client = peer.client()
    for _ in range(3):
        await client.post("http://hook.example/", headers={}, body=b"x")
    assert len(peer.requests) == 3
    assert len(peer.connected) == len(peer.asked) == 1
    await client.aclose()


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.251",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:7f00:1::1",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_an_address_that_is_not_global_is_refused(peer: Peer, address: str) -> None:
    peer.answers = [[address]]
    with pytest.raises(AddressRefused):
        await peer.client().post("http://inside.example/", headers={}, body=b"x")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressRefused):
        await peer.client().post(f"http://{host}/", headers={}, body=b"x")
    assert peer.connected == []


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "203.0.114.7"])
def test_a_global_address_may_be_reached(address: str) -> None:
    assert AddressGuard().may_reach(ipaddress.ip_address(address))


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost"])
async def test_other_spellings_of_an_address_go_through_the_resolver_and_its_answer_is_checked(
    peer: Peer, spelling: str
) -> None:
    peer.answers = [["127.0.0.1"]]
    with pytest.raises(HTTPClientError):
        await peer.client().post(f"http://{spelling}/", headers={}, body=b"x")
    assert peer.connected == []


async def test_networks_that_an_administrator_allows_can_be_reached(peer: Peer) -> None:
    client = peer.client(allow_networks=["127.0.0.0/8", "::1/128"])
    for url in ("http://127.0.0.1:8080/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"):
        assert (await client.post(url, headers={}, body=b"x")).status == 200
    assert [port for _, port in peer.connected] == [8080, 80, 80]
    assert b"Host: 127.0.0.1:8080\r\n" in peer.requests[0]
    assert b"Host: [::1]\r\n" in peer.requests[1]
    with pytest.raises(AddressRefused):
        await client.post("http://10.0.0.1/", headers={}, body=b"x")
    await client.aclose()


async def test_an_answer_that_changes_between_check_and_connection_leads_nowhere(peer: Peer) -> None:
    peer.answers = [[PUBLIC], ["127.0.0.1"]]
    peer.handler = answer_with(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    client = peer.client()
    await client.post("http://rebind.example/", headers={}, body=b"x")
    assert peer.asked == ["rebind.example"]
    with pytest.raises(AddressRefused):
        await client.post("http://rebind.example/", headers={}, body=b"x")
    assert peer.connected == [(PUBLIC, 80)]


async def test_of_several_addresses_only_those_that_may_be_reached_are_tried(peer: Peer) -> None:
    peer.answers = [["10.0.0.1", "203.0.114.1", "203.0.114.2"]]
    peer.unreachable = {"203.0.114.1"}
    client = peer.client()
    assert (await client.post("http://many.example/", headers={}, body=b"x")).status == 200
    assert [address for address, _ in peer.connected] == ["203.0.114.1", "203.0.114.2"]
    await client.aclose()


async def test_a_host_that_cannot_be_reached_or_resolved_is_an_error(peer: Peer) -> None:
    peer.unreachable = {PUBLIC}
    with pytest.raises(ConnectFailed, match="Connection refused"):
        await peer.client().post("http://hook.example/", headers={}, body=b"x")
    peer.answers = [[]]
    with pytest.raises(ConnectFailed, match="no addresses"):
        await peer.client().post("http://hook.example/", headers={}, body=b"x")


async def test_redirects_are_not_followed(peer: Peer) -> None:
    peer.handler = answer_with(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    response = await peer.client().post("http://hook.example/", headers={}, body=b"x")
    assert response.status == 302
    assert len(peer.connected) == 1


async def test_of_a_huge_response_only_the_beginning_is_read(peer: Peer) -> None:
    peer.handler = answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", *[bytes(10_000)] * 100)
    client = peer.client()
    response = await client.post("http://hook.example/", headers={}, body=b"x", max_response_octets=512)
    assert (response.body, response.is_truncated) == (bytes(512), True)
    await client.aclose()


async def test_a_huge_header_is_an_error(peer: Peer) -> None:
    peer.handler = answer_with(b"HTTP/1.1 200 OK\r\n", *[b"X: " + bytes(1000).hex().encode() + b"\r\n"] * 100)
    with pytest.raises(ResponseFailed):
        await peer.client().post("http://hook.example/", headers={}, body=b"x")


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"])
async def test_a_response_that_drips_ends_at_the_deadline(
    peer: Peer, begin: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    peer.handler = answer_with(begin, *[b"H"] * 90, pause=1)
    start = trio.current_time()
    with pytest.raises(RequestTimedOut, match="10 s"):
        await peer.client().post("http://hook.example/", headers={}, body=b"x", timeout=10)
    assert trio.current_time() - start == pytest.approx(10)


@pytest.mark.parametrize("end", ["drips", "is lost"])
async def test_where_the_status_counts_the_body_is_waited_for_a_short_time(
    peer: Peer, end: str, autojump_clock: trio.testing.MockClock
) -> None:
    header = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    peer.handler = answer_with(header, *[b"H"] * (90 if end == "drips" else 3), pause=1)
    start = trio.current_time()
    response = await peer.client().post("http://hook.example/", headers={}, body=b"x", body_seconds=5.5)
    assert (response.status, response.is_truncated) == (200, True)
    assert 2 <= len(response.body) <= 5
    assert trio.current_time() - start < 10


async def test_what_is_more_than_wanted_but_not_much_does_not_cost_the_connection(peer: Peer) -> None:
    async def answer_at_length(peer: Peer, stream: trio.abc.Stream) -> None:
        while await peer.read_request(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000)

    peer.handler = answer_at_length
    client = peer.client()
    for _ in range(2):
        response = await client.post(
            "http://hook.example/", headers={}, body=b"x", max_response_octets=512, body_seconds=5
        )
        assert (len(response.body), response.is_truncated) == (512, True)
    assert len(peer.connected) == 1
    await client.aclose()


async def test_a_connection_that_was_idle_for_long_is_closed_and_not_used_again(
    peer: Peer, autojump_clock: trio.testing.MockClock
) -> None:
    peer.handler = answer_all
    client = peer.client()
    for pause in (0, 4, 6):
        await trio.sleep(pause)
        await client.post("http://hook.example/", headers={}, body=b"x")
    assert len(peer.connected) == 2
    await client.aclose()


async def test_more_requests_than_connections_wait_for_each_other(
    peer: Peer, autojump_clock: trio.testing.MockClock
) -> None:
    async def answer_late(peer: Peer, stream: trio.abc.Stream) -> None:
        await peer.read_request(stream)
        await trio.sleep(10)
        await stream.send_all(OK)

    peer.handler = answer_late
    client = GuardedClient(resolve=peer.resolve, connect=peer.connect, max_connections=2)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(_post, client, f"http://hook-{number}.example/")
    assert trio.current_time() - start == 20
    assert len(peer.connected) == 4
    await client.aclose()


async def _post(client: GuardedClient, url: str) -> None:
    assert (await client.post(url, headers={}, body=b"x")).status == 200


async def test_a_dropped_keep_alive_connection_is_replaced(peer: Peer) -> None:
    async def answer_once(peer: Peer, stream: trio.abc.Stream) -> None:
        await peer.read_request(stream)
        await stream.send_all(OK)
        await peer.read_request(stream)
        await stream.aclose()

    peer.handler = answer_once
    client = peer.client()
    await client.post("http://hook.example/", headers={}, body=b"1")
    assert (await client.post("http://hook.example/", headers={}, body=b"2")).status == 200
    assert len(peer.connected) == 2
    assert [request[-1:] for request in peer.requests] == [b"1", b"2", b"2"]
    await client.aclose()


async def test_a_kept_connection_that_is_lost_within_a_response_is_an_error_and_not_retried(peer: Peer) -> None:
    async def answer_one_and_a_half(peer: Peer, stream: trio.abc.Stream) -> None:
        await peer.read_request(stream)
        await stream.send_all(OK)
        await peer.read_request(stream)
        await stream.send_all(OK[:20])
        await stream.aclose()

    peer.handler = answer_one_and_a_half
    client = peer.client()
    await client.post("http://hook.example/", headers={}, body=b"1")
    with pytest.raises(ResponseFailed):
        await client.post("http://hook.example/", headers={}, body=b"2")
    assert len(peer.requests) == 2
    await client.aclose()


async def test_what_comes_behind_a_response_is_no_answer_to_the_next_request(peer: Peer) -> None:
    first = True

    async def answer_twice_at_once(peer: Peer, stream: trio.abc.Stream) -> None:
        nonlocal first
        while await peer.read_request(stream):
            await stream.send_all(OK + OK.replace(b"200 OK", b"500 No") if first else OK)
            first = False

    peer.handler = answer_twice_at_once
    client = peer.client()
    for _ in range(2):
        assert (await client.post("http://hook.example/", headers={}, body=b"x")).status == 200
    assert len(peer.connected) == 2
    await client.aclose()


async def test_the_response_counts_and_not_what_announces_it(peer: Peer) -> None:
    peer.handler = answer_with(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK)
    assert (await peer.client().post("http://hook.example/", headers={}, body=b"x")).status == 200


async def test_a_refusal_is_read_although_the_server_took_only_a_part_of_the_request() -> None:
    async with await _listen() as listener, trio.open_nursery() as nursery:

        async def refuse() -> None:
            stream = await listener.accept()
            await stream.receive_some(1)
            await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await stream.aclose()

        nursery.start_soon(refuse)
        client = GuardedClient(allow_networks=["127.0.0.0/8"])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        response = await client.post(url, headers={}, body=b"x" * 8_000_000)
        assert response.status == 413
        await client.aclose()


async def test_a_connection_that_is_refused_is_told_in_the_systems_words() -> None:
    listener = await _listen()
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    client = GuardedClient(allow_networks=["127.0.0.0/8"])
    with pytest.raises(ConnectFailed, match=rf"port {port}: 127\.0\.0\.1: Connection refused"):
        await client.post(f"http://127.0.0.1:{port}/", headers={}, body=b"x")


async def _listen() -> trio.SocketListener:
    return (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]


async def test_no_more_connections_are_kept_than_may_be_in_use(peer: Peer) -> None:
    client = GuardedClient(resolve=peer.resolve, connect=peer.connect, max_connections=2)
    for url in ("http://one.example/", "http://two.example/", "http://three.example/", "http://one.example/"):
        await _post(client, url)
    assert len(peer.connected) == 4
    await _post(client, "http://three.example/")
    assert len(peer.connected) == 4
    await client.aclose()


@pytest.mark.parametrize(
    "response", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
)
async def test_a_new_connection_without_a_whole_response_is_an_error_and_not_retried(
    peer: Peer, response: bytes
) -> None:
    peer.handler = answer_with(response)
    with pytest.raises(ResponseFailed):
        await peer.client().post("http://hook.example/", headers={}, body=b"x")
    assert len(peer.connected) == 1


CERTIFICATE, KEY = make_self_signed(["hook.example"])
SERVER_TLS = ServerTLS([CertificateAndKey.from_pem(CERTIFICATE, KEY)])


async def answer_over_tls(peer: Peer, stream: trio.abc.Stream) -> None:
    tls = SERVER_TLS.wrap(stream)
    try:
        await answer_all(peer, tls)
        peer.requests.append(tls.tls_info.server_name.encode())
    except trio.BrokenResourceError:
        await tls.aclose()


async def test_tls_is_verified_for_the_name_in_the_url(peer: Peer) -> None:
    peer.handler = answer_over_tls
    client = peer.client(ClientTLS(ca_pem=CERTIFICATE))
    assert (await client.post("https://hook.example/", headers={}, body=b"x")).status == 200
    assert peer.connected == [(PUBLIC, 443)]
    await client.aclose()
    with pytest.raises(ConnectFailed, match=r"no TLS with hook\.example: certificate not trusted"):
        await peer.client(ClientTLS()).post("https://hook.example/", headers={}, body=b"x")
    with pytest.raises(ConnectFailed, match=r"no TLS with other\.example"):
        await peer.client(ClientTLS(ca_pem=CERTIFICATE)).post("https://other.example/", headers={}, body=b"x")


async def test_the_environments_proxy_is_not_used(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    client = peer.client()
    assert (await client.get("http://hook.example/")).status == 200
    assert peer.requests == [b"GET / HTTP/1.1\r\nHost: hook.example\r\n\r\n"]
    await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hook.example/",
        "file:///etc/passwd",
        "//hook.example/",
        "hook.example",
        "http://",
        "http://user:secret@hook.example/",
        "http://hook.example:99999/",
        "http://hook.example/a b",
        "http://hook.example/\r\nX: y",
        "http://[::1/",
        "http://a..example/",
    ],
)
async def test_a_url_that_cannot_be_fetched_is_refused(peer: Peer, url: str) -> None:
    with pytest.raises(URLRefused):
        await peer.client().post(url, headers={}, body=b"x")
    assert peer.asked == []


async def test_a_header_that_would_be_two_is_refused(peer: Peer) -> None:
    with pytest.raises(URLRefused):
        await peer.client().post("http://hook.example/", headers={"X": "a\r\nY: b"}, body=b"x")
    assert peer.requests == []


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://Hook.Example:80/a%20b?c=d#e", b"hook.example", b"/a%20b?c=d"),
        ("https://hook.example:8443", b"hook.example:8443", b"/"),
        ("http://bücher.example/ü?q=ü", b"xn--bcher-kva.example", b"/%C3%BC?q=%C3%BC"),
        ("http://[2606:4700::1]:8080/", b"[2606:4700::1]:8080", b"/"),
    ],
)
def test_urls_are_written_as_they_travel(url: str, host: bytes, target: bytes) -> None:
    parsed = parse_url(url)
    assert (parsed.host_field, parsed.target) == (host, target)
