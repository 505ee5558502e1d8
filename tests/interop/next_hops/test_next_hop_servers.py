"""Deliveries into other people's mail servers: STARTTLS, logins, TLS from the start, by MX, and through a proxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
import trio

from mailcrane.api import Outcome, RecipientResult, Secret
from mailcrane.api.tls import TLSMode, TLSPolicy
from mailcrane.config.static import DNSConfig
from mailcrane.dns.server import make_resolver
from mailcrane_conformance.transport import make_delivery
from mailcrane_transports.config import AuthConfig, DirectConfig, SMTPConfig, SocksConfig, SubmissionsConfig
from mailcrane_transports.direct import open_direct, open_socks
from mailcrane_transports.home import Home
from mailcrane_transports.relay import open_smtp, open_submissions

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"
# The best that each server has: Postfix by Cyrus SASL, Exim by its own.
MECHANISMS = {"postfix": ("SCRAM-SHA-256", "PLAIN"), "exim": ("CRAM-MD5",)}

_BODY = ".leading dot\r\n..two\r\n. \r\nFrom me\r\n" + "x" * 990 + "\r\n\r\ntrailing spaces   \r\n\ttab\r\n.\r\n..\r\n"


@pytest.fixture(params=["postfix", "exim", "opensmtpd"])
def any_server(request: pytest.FixtureRequest) -> Any:
    """Each of the servers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["postfix", "exim"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each of the servers whose TLS works."""
    return request.getfixturevalue(request.param)


def content(subject: str) -> bytes:
    return f"From: <a@sender.example>\r\nTo: <b@interop.example>\r\nSubject: {subject}\r\n\r\n{_BODY}".encode()


class StubDNS:
    """Answers over UDP: one MX host for every domain below interop.example, with one address."""

    def __init__(self, host: str, ip: str) -> None:
        self.host, self.ip = host, ip

    async def serve(self, socket: trio.socket.SocketType) -> None:
        while True:
            wire, peer = await socket.recvfrom(4096)
            query = dns.message.from_wire(wire)
            response = dns.message.make_response(query)
            [question] = query.question
            if question.rdtype == dns.rdatatype.MX:
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "MX", f"10 {self.host}."))
            elif question.rdtype == dns.rdatatype.A:
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", self.ip))
            await socket.sendto(response.to_wire(), peer)


class AllVerified:
    """A policy that wants a good certificate of every host."""

    async def policy(self, domain: str, host: str) -> TLSPolicy:
        return TLSPolicy(TLSMode.VERIFIED, "test")


@contextlib.asynccontextmanager
async def home_with_dns(server: Any) -> AsyncIterator[Home]:
    async with trio.open_nursery() as nursery:
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
            await socket.bind(("127.0.0.1", 0))
            nursery.start_soon(StubDNS(server.name, server.host).serve, socket)
            resolver = make_resolver(DNSConfig(servers=(f"127.0.0.1:{socket.getsockname()[1]}",)))
            yield Home(nursery.start_soon, lambda: "client.example", resolver, lambda domain: False)
            nursery.cancel_scope.cancel()


def delivered(results: tuple[RecipientResult, ...]) -> RecipientResult:
    [result] = results
    assert result.outcome is Outcome.DELIVERED, result
    return result


async def test_mail_arrives_over_mx_as_it_was(any_server: Any) -> None:
    subject = f"direct {any_server.name}"
    async with home_with_dns(any_server) as home:
        transport = await open_direct(DirectConfig(port=any_server.port), home)
        for number in range(3):
            delivery = make_delivery("b@interop.example", octets=content(f"{subject} {number}"))
            result = delivered(await transport.deliver(delivery))
        await transport.aclose()
    assert result.remote_mta == f"{any_server.name} ({any_server.host})"
    # The last one went over the connection of the first.
    assert result.dialed == ()
    assert result.tls is not None
    assert result.tls.is_offered
    assert result.tls.is_fallback is (any_server.login_port == 0)
    kept = any_server.read(f"{subject} 2")
    assert kept.count(_BODY.replace("\r\n", "\n")) >= 3


async def test_a_login_over_verified_starttls_may_relay(server: Any, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["server"]
    auth = AuthConfig("ann", Secret(PASSWORD), MECHANISMS[name])
    config = SMTPConfig(server.host, server.login_port, auth, ca_file=str(server.ca_file))
    subject = f"login {server.name}"
    async with home_with_dns(server) as home:
        transport = await open_smtp(config, home)
        result = delivered(await transport.deliver(make_delivery("b@interop.example", octets=content(subject))))
        await transport.aclose()
    assert result.tls is not None
    assert result.tls.is_verified
    server.read(subject)


async def test_a_wrong_password_is_deferred(server: Any) -> None:
    auth = AuthConfig("ann", Secret("wrong"), ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN"))
    config = SMTPConfig(server.host, server.login_port, auth, ca_file=str(server.ca_file))
    async with home_with_dns(server) as home:
        transport = await open_smtp(config, home)
        [result] = await transport.deliver(make_delivery("b@interop.example", octets=content("wrong")))
        await transport.aclose()
    assert result.outcome is Outcome.DEFERRED
    assert result.reply is not None
    assert result.reply.code == 535


async def test_mail_arrives_over_tls_from_the_start(server: Any, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["server"]
    auth = AuthConfig("ann", Secret(PASSWORD), MECHANISMS[name])
    config = SubmissionsConfig(server.host, server.tls_port, auth, ca_file=str(server.ca_file))
    subject = f"submissions {server.name}"
    async with home_with_dns(server) as home:
        transport = await open_submissions(config, home)
        delivered(await transport.deliver(make_delivery("b@interop.example", octets=content(subject))))
        await transport.aclose()
    server.read(subject)


async def test_what_is_not_relayed_fails(any_server: Any) -> None:
    async with home_with_dns(any_server) as home:
        transport = await open_direct(DirectConfig(port=any_server.port), home)
        [result] = await transport.deliver(make_delivery("b@elsewhere.example", octets=content("relay")))
        await transport.aclose()
    assert result.outcome is Outcome.FAILED, result
    assert result.error.startswith("RCPT: 55")


async def test_a_policy_that_wants_a_good_certificate_is_not_met_by_an_unknown_one(server: Any) -> None:
    async with home_with_dns(server) as home:
        strict = Home(home.start_soon, home.hostname, home.resolver, home.is_local_domain, AllVerified())
        transport = await open_direct(DirectConfig(port=server.port), strict)
        [result] = await transport.deliver(make_delivery("b@interop.example", octets=content("strict")))
        await transport.aclose()
    assert result.outcome is Outcome.DEFERRED
    assert "certificate not trusted" in result.error


async def test_mail_arrives_through_a_socks_proxy(any_server: Any, microsocks: tuple[str, int]) -> None:
    proxy = f"{microsocks[0]}:{microsocks[1]}"
    subject = f"socks {any_server.name}"
    async with home_with_dns(any_server) as home:
        config = SocksConfig(proxy, (microsocks[0],), "out.client.example", port=any_server.port)
        transport = await open_socks(config, home)
        delivered(await transport.deliver(make_delivery("b@interop.example", octets=content(subject))))
        await transport.aclose()
    # By default a host name in the Received field is what was said in EHLO.
    assert "out.client.example" in any_server.read(subject)


async def test_through_a_proxy_what_cannot_be_reached_is_told(microsocks: tuple[str, int], postfix: Any) -> None:
    async with home_with_dns(postfix) as home:
        config = SocksConfig(f"{microsocks[0]}:{microsocks[1]}", ("127.0.0.1",), "out.client.example", port=1)
        transport = await open_socks(config, home)
        [result] = await transport.deliver(make_delivery("b@interop.example"))
        await transport.aclose()
    assert result.outcome is Outcome.DEFERRED
    assert "SOCKS proxy" in result.error
