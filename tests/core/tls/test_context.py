from __future__ import annotations

import datetime

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from mailcrane.tls.certificate import CertificateAndKey, CertificateError, make_self_signed, names_match
from mailcrane.tls.context import ClientTLS, ServerTLS, UnknownServerName, Verification, choose_alpn
from mailcrane.tls.stream import HandshakeFailed, TLSStream, fingerprint


def make(*names: str) -> tuple[bytes, CertificateAndKey]:
    certificate, key = make_self_signed(names)
    return certificate, CertificateAndKey.from_pem(certificate, key)


ONE_PEM, ONE = make("one.example", "127.0.0.1", "::1")
TWO_PEM, TWO = make("two.example", "*.two.example")


async def connect(client_tls: ClientTLS, server_tls: ServerTLS, name: str) -> tuple[TLSStream, TLSStream]:
    transports = trio.testing.memory_stream_pair()
    client, server = client_tls.wrap(transports[0], name), server_tls.wrap(transports[1])
    failures: list[HandshakeFailed] = []

    async def negotiate(stream: TLSStream) -> None:
        try:
            await stream.do_handshake()
            if stream is client:
                await client.send_all(b"x")
            else:
                await server.receive_some()
        except HandshakeFailed as failure:
            failures.append(failure)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(negotiate, client)
        nursery.start_soon(negotiate, server)
    if failures:
        raise failures[0]
    return client, server


@pytest.mark.parametrize(
    ("name", "certificate"), [("one.example", ONE), ("two.example", TWO), ("a.two.example", TWO), ("127.0.0.1", ONE)]
)
async def test_the_certificate_is_chosen_by_the_name_that_the_client_asks_for(
    name: str, certificate: CertificateAndKey
) -> None:
    client, _ = await connect(ClientTLS(ca_pem=ONE_PEM + TWO_PEM), ServerTLS([ONE, TWO]), name)
    assert client.peer_certificate == certificate.chain[0]
    assert client.verify_error == ""


async def test_an_unknown_name_is_refused_without_showing_a_certificate() -> None:
    with pytest.raises(HandshakeFailed):
        await connect(ClientTLS(verification=Verification.NONE), ServerTLS([ONE, TWO]), "three.example")


async def test_an_unknown_name_falls_back_to_the_first_certificate_where_wanted() -> None:
    server_tls = ServerTLS([ONE, TWO], unknown_server_name=UnknownServerName.FALL_BACK)
    client, server = await connect(ClientTLS(verification=Verification.NONE), server_tls, "three.example")
    assert client.peer_certificate == ONE.chain[0]
    assert server.tls_info.server_name == "three.example"


async def test_an_untrusted_certificate_fails_the_handshake_of_a_client_that_verifies() -> None:
    with pytest.raises(HandshakeFailed, match="not trusted"):
        await connect(ClientTLS(ca_pem=TWO_PEM), ServerTLS([ONE]), "one.example")


async def test_a_certificate_for_another_name_fails_the_handshake_of_a_client_that_verifies() -> None:
    server_tls = ServerTLS([ONE], unknown_server_name=UnknownServerName.FALL_BACK)
    with pytest.raises(HandshakeFailed, match=r"certificate is not for three\.example"):
        await connect(ClientTLS(ca_pem=ONE_PEM), server_tls, "three.example")


@pytest.mark.parametrize(
    ("ca_pem", "name", "error"),
    [
        (TWO_PEM, "one.example", "self signed cert"),
        (ONE_PEM, "three.example", "certificate is not for three.example"),
        (ONE_PEM, "192.0.2.1", "certificate is not for 192.0.2.1"),
        (ONE_PEM, "one.example", ""),
    ],
)
async def test_a_verification_error_can_be_reported_instead(ca_pem: bytes, name: str, error: str) -> None:
    client_tls = ClientTLS(ca_pem=ca_pem, verification=Verification.REPORTED)
    server_tls = ServerTLS([ONE], unknown_server_name=UnknownServerName.FALL_BACK)
    client, _ = await connect(client_tls, server_tls, name)
    assert error in client.verify_error
    assert bool(error) == bool(client.verify_error)


async def test_an_expired_certificate_is_not_trusted() -> None:
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=9)
    certificate, key = make_self_signed(["old.example"], days=3, now=then)
    server_tls = ServerTLS([CertificateAndKey.from_pem(certificate, key)])
    with pytest.raises(HandshakeFailed, match="expired"):
        await connect(ClientTLS(ca_pem=certificate), server_tls, "old.example")


async def test_the_systems_cas_are_trusted_where_none_are_given() -> None:
    with pytest.raises(HandshakeFailed, match="not trusted"):
        await connect(ClientTLS(), ServerTLS([ONE]), "one.example")


async def test_replaced_certificates_are_shown_to_new_connections() -> None:
    server_tls = ServerTLS([ONE])
    client_tls = ClientTLS(ca_pem=ONE_PEM + TWO_PEM)
    old, old_server = await connect(client_tls, server_tls, "one.example")
    server_tls.replace([TWO])
    new, _ = await connect(client_tls, server_tls, "two.example")
    assert new.peer_certificate == TWO.chain[0]
    await old.send_all(b"still here")
    assert await old_server.receive_some() == b"still here"
    with pytest.raises(HandshakeFailed):
        await connect(client_tls, server_tls, "one.example")


async def test_a_refused_replacement_changes_nothing() -> None:
    server_tls = ServerTLS([ONE])
    with pytest.raises(CertificateError):
        server_tls.replace([])
    await connect(ClientTLS(ca_pem=ONE_PEM), server_tls, "one.example")


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["imap"], None), ([], None)]
)
async def test_the_application_protocol_is_chosen_among_what_is_offered(offered: list[str], chosen: str | None) -> None:
    server_tls = ServerTLS([ONE, TWO], alpn=choose_alpn("h2", "http/1.1"))
    client, server = await connect(ClientTLS(ca_pem=TWO_PEM, alpn=offered), server_tls, "two.example")
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == chosen


async def test_tls_below_1_2_is_refused() -> None:
    server_tls = ServerTLS([ONE])
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    transports = trio.testing.memory_stream_pair()
    client, server = TLSStream(transports[0], context, server_side=False), server_tls.wrap(transports[1])

    async def fail(stream: TLSStream) -> None:
        with pytest.raises(HandshakeFailed):
            await stream.do_handshake()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail, client)
        nursery.start_soon(fail, server)


async def test_a_client_certificate_is_known_by_the_fingerprint_of_its_key() -> None:
    server_tls = ServerTLS([ONE], request_client_certificate=True)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(TWO.chain[0])
    context.use_privatekey(TWO.key)
    transports = trio.testing.memory_stream_pair()
    client, server = TLSStream(transports[0], context, server_side=False), server_tls.wrap(transports[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    assert server.tls_info.peer_fingerprint == fingerprint(TWO.chain[0]) != ""

    _, server = await connect(ClientTLS(ca_pem=ONE_PEM), server_tls, "one.example")
    assert server.tls_info.peer_fingerprint == ""


@pytest.mark.parametrize("session_tickets", [True, False])
async def test_session_tickets_are_given_out_only_where_wanted(session_tickets: bool) -> None:
    server_tls = ServerTLS([ONE], session_tickets=session_tickets)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    transports = trio.testing.memory_stream_pair()
    client, server = TLSStream(transports[0], context, server_side=False), server_tls.wrap(transports[1])
    flights = bytearray()
    original = server.transport_stream.send_all

    async def record(data: bytes) -> None:
        flights.extend(data)
        await original(data)

    server.transport_stream.send_all = record
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    # On TLS 1.2 the ticket is a handshake message in plain view (RFC 5077 section 3.3: type 4).
    assert (b"\x16\x03\x03" in flights and _has_handshake_message(bytes(flights), 4)) is session_tickets


def _has_handshake_message(octets: bytes, wanted: int) -> bool:
    while octets:
        kind, length = octets[0], int.from_bytes(octets[3:5])
        if kind == 20:
            return False
        body = octets[5 : 5 + length]
        while kind == 22 and body:
            if body[0] == wanted:
                return True
            body = body[4 + int.from_bytes(body[1:4]) :]
        octets = octets[5 + length :]
    return False


@pytest.mark.parametrize(
    ("wanted", "is_match"),
    [
        ("mail.example", True),
        ("MAIL.example.", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        (".wild.example", False),
        ("example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:DB8:0::1", True),
    ],
)
def test_names_match_whole_labels_and_addresses(wanted: str, is_match: bool) -> None:
    names = ("mail.example", "*.wild.example", "192.0.2.1", "2001:db8::1", "*.example.")
    assert names_match(names[:4], wanted) is is_match


def test_pem_that_does_not_belong_together_is_refused() -> None:
    certificate, key = make_self_signed(["one.example"])
    other_certificate, _ = make_self_signed(["two.example"])
    with pytest.raises(CertificateError, match="does not belong"):
        CertificateAndKey.from_pem(other_certificate, key)
    with pytest.raises(CertificateError, match="no certificates"):
        CertificateAndKey.from_pem(b"", key)
    with pytest.raises(CertificateError, match="no unencrypted private key"):
        CertificateAndKey.from_pem(certificate, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def test_the_private_key_is_not_shown() -> None:
    assert repr(ONE) == "CertificateAndKey(names=('one.example', '127.0.0.1', '::1'))"
