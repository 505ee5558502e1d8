"""Our two ends against each other, and the standard library's client as a second opinion."""

from __future__ import annotations

import smtplib
import socket
import threading
from typing import Any

import pytest

from mailcrane.model.address import Mailbox, ReversePath
from mailcrane.model.clock import SystemClock
from mailcrane.sasl.credentials import (
    Credentials,
    make_cram_md5_secret,
    make_scram_secret,
    verify_password,
)
from mailcrane.sasl.exchange import Challenge, CheckPassword, Failure, NeedCredentials, Step
from mailcrane.sasl.mechanisms import ALL_MECHANISMS, make_client_mechanism, make_server_mechanism
from mailcrane.smtp import client as smtp_client
from mailcrane.smtp import replies
from mailcrane.smtp.client import AuthChallenge, AuthDone, ClientConnection, ClientEvent, ContentDone, EnvelopeDone
from mailcrane.smtp.command import Auth, StartTLS
from mailcrane.smtp.event import AuthResponse, Closed, Content, EndOfContent, Signal
from mailcrane.smtp.server import ServerConfig, ServerConnection

PASSWORD = "correct horse"
BINDING = b"\x07" * 32


@pytest.fixture(scope="module")
def credentials() -> Credentials:
    password = PASSWORD.encode()
    return Credentials(
        1,
        make_scram_secret(password, "sha256", iterations=4096),
        make_scram_secret(password, "sha1", iterations=4096),
        make_cram_md5_secret(password),
    )


class Server:
    """A submission server that takes everything, and knows one login."""

    def __init__(self, credentials: Credentials, **offers: Any) -> None:
        config = ServerConfig("mx.example.org", is_submission=True, mechanisms=ALL_MECHANISMS, **offers)
        is_tls = not config.offers_starttls and config.requires_tls_for_auth
        self.connection = ServerConnection(config, session_id="s1", clock=SystemClock(), is_tls=is_tls)
        self.connection.greet()
        self.credentials = credentials
        self.content = b""
        self.messages: list[bytes] = []
        self.is_closed = False
        self._mechanism: Any = None

    def run(self) -> bytes:
        """Go on until more is to be received; return what is to be sent."""
        while True:
            event = self.connection.next_event()
            if event is Signal.FLUSH:
                continue
            if isinstance(event, Signal | Closed | StartTLS):
                self.is_closed = isinstance(event, Closed)
                out = self.connection.data_to_send()
                if isinstance(event, StartTLS):
                    self.connection.tls_started()
                return out
            if isinstance(event, Content):
                self.content += event.octets
            elif isinstance(event, Auth):
                self._mechanism = make_server_mechanism(
                    event.mechanism,
                    hostname="mx.example.org",
                    server_secret=b"s",
                    channel_bindings={"tls-exporter": BINDING},
                )
                self._step(self._mechanism.step(event.initial_response))
            elif isinstance(event, AuthResponse):
                self._step(self._mechanism.step(event.data))
            elif self.connection.next_event() is Signal.PAUSED:
                if isinstance(event, EndOfContent):
                    self.messages.append(self.content)
                    self.content = b""
                self.connection.accept()

    def _step(self, step: Step) -> None:
        if isinstance(step, NeedCredentials):
            step = self._mechanism.provide(self.credentials if step.login == "user" else None)
        if isinstance(step, Challenge):
            self.connection.challenge(step.data)
        elif isinstance(step, Failure):
            self.connection.reply(replies.AUTH_FAILURES[step.reason])
        elif isinstance(step, CheckPassword) and not verify_password(self.credentials, step.password):
            self.connection.reply(replies.BAD_CREDENTIALS)
        else:
            self.connection.accept()


def next_event(client: ClientConnection, server: Server) -> ClientEvent:
    """Carry bytes to and fro until the client has an event."""
    while True:
        client.receive(server.run())
        event = client.next_event()
        if event is not smtp_client.NEED_DATA:
            return event
        server.connection.receive(client.data_to_send())


def log_in(client: ClientConnection, server: Server, name: str, password: str) -> AuthDone:
    mechanism = make_client_mechanism(
        [name],
        "user",
        password,
        is_encrypted=True,
        channel_binding=("tls-exporter", BINDING) if "-PLUS" in name else None,
    )
    assert mechanism is not None
    client.authenticate(mechanism.name, mechanism.initial())
    server.connection.receive(client.data_to_send())
    event = next_event(client, server)
    while isinstance(event, AuthChallenge):
        client.auth_response(mechanism.respond(event.data))
        server.connection.receive(client.data_to_send())
        event = next_event(client, server)
    assert isinstance(event, AuthDone)
    assert mechanism.is_complete or not event.reply.is_positive
    return event


def say_hello(client: ClientConnection, server: Server) -> None:
    client.hello("client.example")
    server.connection.receive(client.data_to_send())
    next_event(client, server)


@pytest.mark.parametrize("name", ALL_MECHANISMS)
def test_a_client_logs_in_with_every_mechanism(name: str, credentials: Credentials) -> None:
    client, server = ClientConnection(), Server(credentials)
    next_event(client, server)
    say_hello(client, server)
    assert set(client.extensions.mechanisms) == set(ALL_MECHANISMS)
    assert log_in(client, server, name, "wrong password").reply.code == 535
    assert log_in(client, server, name, PASSWORD).reply.code == 235
    assert server.connection.is_authenticated


def test_a_message_goes_from_end_to_end(credentials: Credentials) -> None:
    client, server = ClientConnection(), Server(credentials, offers_starttls=True)
    next_event(client, server)
    say_hello(client, server)
    client.start_tls()
    server.connection.receive(client.data_to_send())
    next_event(client, server)
    client.tls_started()
    say_hello(client, server)
    log_in(client, server, "SCRAM-SHA-256-PLUS", PASSWORD)
    for message in (b"Subject: one\r\n\r\n.\r\n..\r\nend", b"", b"\r\n.\r\n"):
        path = Mailbox("bob", "example.org")
        client.begin_transaction(ReversePath(path), [path] * 150, size_octets=len(message), body="8BITMIME")
        server.connection.receive(client.data_to_send())
        envelope = next_event(client, server)
        assert isinstance(envelope, EnvelopeDone)
        assert envelope.may_send_content
        stuffed = client.send_content(message)
        client.end_content()
        server.connection.receive(stuffed + client.data_to_send())
        assert isinstance(next_event(client, server), ContentDone)
    assert server.messages == [b"Subject: one\r\n\r\n.\r\n..\r\nend\r\n", b"", b"\r\n.\r\n"]


class SocketSMTP(smtplib.SMTP):
    """smtplib on a socket that is already connected."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        super().__init__("peer", 25, local_hostname="client.example", timeout=10)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._connected


def serve(server: Server, peer: socket.socket) -> None:
    with peer:
        while True:
            peer.sendall(server.run())
            if server.is_closed:
                return
            server.connection.receive(peer.recv(65536))


def test_smtplib_submits_to_our_server(credentials: Credentials) -> None:
    ours, theirs = socket.socketpair()
    server = Server(credentials, requires_tls_for_auth=False)
    thread = threading.Thread(target=serve, args=(server, ours))
    thread.start()
    try:
        with SocketSMTP(theirs) as smtp:
            smtp.ehlo()
            assert smtp.esmtp_features["size"] == "104857600"
            smtp.user, smtp.password = "user", PASSWORD
            for name, method in (
                ("CRAM-MD5", smtp.auth_cram_md5),
                ("PLAIN", smtp.auth_plain),
                ("LOGIN", smtp.auth_login),
            ):
                assert smtp.auth(name, method)[0] == 235
                server.connection.is_authenticated = name == "LOGIN"
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@example.org", ["not an address"], "x")
            refused = smtp.sendmail(
                "a@example.org", ["b@example.org", "bad..one@example.org"], "Subject: x\n\n.\nend", ["BODY=8BITMIME"]
            )
            assert list(refused) == ["bad..one@example.org"]
            assert smtp.verify("x")[0] == 252
    finally:
        theirs.close()
        thread.join(10)
    assert server.messages == [b"Subject: x\r\n\r\n.\r\nend\r\n"]
