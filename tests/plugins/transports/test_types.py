"""The types submission, submissions, socks and fail, and what their configuration refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from mailcrane.api import ConfigError, Outcome, Reply, Secret
from mailcrane.config.convert import convert
from mailcrane.testing import FakeResolver
from mailcrane.tls.context import ServerTLS
from mailcrane_conformance.transport import make_delivery
from mailcrane_transports.config import (
    AuthConfig,
    DirectConfig,
    FailConfig,
    SocksConfig,
    SubmissionConfig,
    SubmissionsConfig,
    split_host_port,
)
from mailcrane_transports.direct import open_socks
from mailcrane_transports.fail import open_fail
from mailcrane_transports.home import Home
from mailcrane_transports.relay import open_smtp, open_submissions

Opened = Callable[[Any], Any]


@pytest.fixture
def ca_file(certificate: Any, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate[0])
    return str(path)


# --- submission and submissions -------------------------------------------------------------------------------------


def test_submission_has_a_port_of_its_own() -> None:
    assert SubmissionConfig("smtp.example").port == 587
    assert SubmissionsConfig("smtp.example").port == 465


async def test_submission_logs_in_over_starttls(
    peer: Any, certificate: Any, ca_file: str, home: Home, opened: Opened
) -> None:
    peer.tls = ServerTLS([certificate[1]])
    peer.extensions, peer.tls_extensions = ("STARTTLS",), ("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN",)
    auth = AuthConfig("ann@peer.example", Secret("correct horse battery"))
    transport = opened(await open_smtp(SubmissionConfig(peer.host, peer.port, auth, ca_file=ca_file), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert peer.logins == ["SCRAM-SHA-256-PLUS ann@peer.example"]


async def test_submissions_speaks_tls_from_the_start(
    peer: Any, certificate: Any, ca_file: str, home: Home, opened: Opened
) -> None:
    peer.immediate_tls = ServerTLS([certificate[1]])
    transport = opened(await open_submissions(SubmissionsConfig(peer.host, peer.port, ca_file=ca_file), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.tls is not None
    assert result.tls.is_verified
    assert "STARTTLS" not in peer.lines[0]


async def test_submissions_trusts_no_unknown_certificate(
    peer: Any, certificate: Any, home: Home, opened: Opened
) -> None:
    peer.immediate_tls = ServerTLS([certificate[1]])
    transport = opened(await open_submissions(SubmissionsConfig(peer.host, peer.port), home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "certificate not trusted" in result.error
    assert peer.contents == []


# --- fail -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "outcome", "reply"),
    [
        (FailConfig(), Outcome.FAILED, Reply.make(554, "5.7.0", "Delivery is switched off for this destination")),
        (FailConfig(451, "come back"), Outcome.DEFERRED, Reply.make(451, "4.7.0", "come back")),
    ],
)
async def test_fail_answers_as_it_is_told(home: Home, config: FailConfig, outcome: Outcome, reply: Reply) -> None:
    transport = await open_fail(config, home)
    results = await transport.deliver(make_delivery("a@peer.example", "b@peer.example"))
    assert [(result.outcome, result.reply) for result in results] == [(outcome, reply)] * 2


# --- socks ----------------------------------------------------------------------------------------------------------


class Proxy:
    """A SOCKS5 proxy (RFC 1928) without a login.

    Attributes:
        reply: The code in its answer; 0 connects.
        asked: Addresses and ports that it was asked for.
    """

    def __init__(self) -> None:
        self.port = 0
        self.reply = 0
        self.asked: list[tuple[str, int]] = []

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            assert await client.receive_some(1024) == b"\x05\x01\x00"
            await client.send_all(b"\x05\x00")
            request = await client.receive_some(1024)
            assert request[:4] == b"\x05\x01\x00\x01"
            ip, port = ".".join(map(str, request[4:8])), int.from_bytes(request[8:10], "big")
            self.asked.append((ip, port))
            await client.send_all(bytes([5, self.reply, 0, 1, 0, 0, 0, 0, 0, 0]))
            if self.reply:
                return
            server = await trio.open_tcp_stream(ip, port)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self.pass_on, client, server)
                nursery.start_soon(self.pass_on, server, client)

    async def pass_on(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for octets in source:
            await target.send_all(octets)
        await target.send_eof()


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> AsyncIterator[Proxy]:
    """A proxy on a free port."""
    proxy = Proxy()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
    yield proxy
    listener.socket.close()


async def open_through(proxy: Proxy, peer: Any, home: Home) -> Any:
    config = SocksConfig(f"127.0.0.1:{proxy.port}", ("192.0.2.9",), "out.example", port=peer.port)
    return await open_socks(config, home)


async def test_mail_goes_through_the_proxy_to_the_looked_up_address(
    proxy: Proxy, peer: Any, resolver: FakeResolver, home: Home, opened: Opened
) -> None:
    resolver.add("peer.example", "MX", (10, "mx.peer.example"))
    resolver.add_host("mx.peer.example", "2001:db8::1", "127.0.0.1")
    transport = opened(await open_through(proxy, peer, home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DELIVERED
    assert result.remote_mta == "mx.peer.example (127.0.0.1)"
    # The proxy has no IPv6 address, so none is asked for.
    assert proxy.asked == [("127.0.0.1", peer.port)]
    assert peer.lines[0][0] == "EHLO out.example"


async def test_what_the_proxy_refuses_is_deferred_and_told(
    proxy: Proxy, peer: Any, resolver: FakeResolver, home: Home, opened: Opened
) -> None:
    resolver.add_host("peer.example", "127.0.0.1")
    proxy.reply = 5
    transport = opened(await open_through(proxy, peer, home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert f"127.0.0.1: SOCKS proxy 127.0.0.1:{proxy.port}: " in result.error
    assert "refused" in result.error.lower()


async def test_a_proxy_that_is_not_there_is_named(
    peer: Any, resolver: FakeResolver, home: Home, opened: Opened
) -> None:
    resolver.add_host("peer.example", "127.0.0.1")
    config = SocksConfig("127.0.0.1:1", ("192.0.2.9",), "out.example", port=peer.port)
    transport = opened(await open_socks(config, home))
    [result] = await transport.deliver(make_delivery())
    assert result.outcome is Outcome.DEFERRED
    assert "SOCKS proxy 127.0.0.1:1: Could not connect to proxy" in result.error


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "table", "words"),
    [
        (DirectConfig, {"disable_ipv4": True, "disable_ipv6": True}, "leave no address"),
        (DirectConfig, {"local_ips": ["192.0.2.1", "192.0.2.2"]}, "two addresses of one family"),
        (DirectConfig, {"local_ips": ["here"]}, '"here" is not an IP address'),
        (DirectConfig, {"ehlo_name": "not a name"}, '"not a name" is not a domain name'),
        (DirectConfig, {"domain_ips": {"Example.org": ["192.0.2.1"]}}, 'write "example.org"'),
        (DirectConfig, {"domain_ips": {"example.org": []}}, "is empty"),
        (DirectConfig, {"max_connections": 0}, "max_connections"),
        (SocksConfig, {"address": "proxy", "remote_ips": ["192.0.2.1"], "remote_hostname": "a.b"}, "is not host:port"),
        (SocksConfig, {"address": "p:1080", "remote_ips": [], "remote_hostname": "a.b"}, "remote_ips"),
        (FailConfig, {"smtp_code": 250}, "smtp_code"),
        (FailConfig, {"smtp_message": "x" * 257}, "smtp_message"),
        (FailConfig, {"smtp_message": "schön"}, "smtp_message"),
        (FailConfig, {"smtp_message": "two\r\nlines"}, "smtp_message"),
        (SubmissionConfig, {"host": ""}, "host"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(config: Any, table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        convert(table, config, "transports.out")
    assert words in str(error.value)
    assert str(error.value).count("transports.out")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("proxy.example:1080", ("proxy.example", 1080)), ("[2001:db8::1]:1080", ("2001:db8::1", 1080))],
)
def test_a_host_and_port_are_split(text: str, wanted: tuple[str, int]) -> None:
    assert split_host_port(text) == wanted


@pytest.mark.parametrize("text", ["proxy", ":1080", "proxy:0", "proxy:70000", "2001:db8::1:1080", "[x]:1"])
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_host_port(text)
