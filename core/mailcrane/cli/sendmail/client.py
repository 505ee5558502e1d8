"""One submission over a blocking socket: the protocol without I/O, with the time limits of RFC 5321 section 4.5.3.2."""

from __future__ import annotations

import socket
import ssl
from typing import TypeVar

from msgspec import Struct

from mailcrane.cli.sendmail.config import SendmailConfig
from mailcrane.cli.sendmail.message import OutgoingMessage
from mailcrane.model.address import ReversePath
from mailcrane.model.reply import Reply
from mailcrane.sasl.exchange import AuthenticationFailed, ClientMechanism
from mailcrane.smtp.client import (
    AuthChallenge,
    AuthDone,
    ClientConnection,
    ClientEvent,
    ClientSignal,
    ContentDone,
    EnvelopeDone,
    Greeting,
    HelloDone,
    StartTLSDone,
)
from mailcrane.smtp.errors import RemoteProtocolError

E = TypeVar("E", bound=ClientEvent)

_CONNECT_SECONDS = 30.0
_COMMAND_SECONDS = 300.0
_FINAL_REPLY_SECONDS = 600.0
_RECEIVE_OCTETS = 65536
_SEND_OCTETS = 65536


class SubmissionFailed(Exception):
    """The server could not be reached, broke off, or does not take the message from us.

    Attributes:
        reply: What the server said last; None where it did not speak.
        is_login: Whether it was about who we are.
    """

    def __init__(self, text: str, *, reply: Reply | None = None, is_login: bool = False) -> None:
        super().__init__(text if reply is None else f"{text}: {reply}")
        self.reply = reply
        self.is_login = is_login


class Submitted(Struct, frozen=True):
    """What became of a message.

    Attributes:
        reply: After the final dot, or the one that refused all recipients.
        refused: The recipients that the server does not take, with its replies.
        is_taken: Whether the others have it.
    """

    reply: Reply
    refused: tuple[tuple[str, Reply], ...]
    is_taken: bool


class _External:
    """SASL EXTERNAL (RFC 4422 appendix A): who we are was shown in TLS."""

    name = "EXTERNAL"
    is_complete = True

    def initial(self) -> bytes:
        return b""

    def respond(self, challenge: bytes) -> bytes:
        return b""


def submit(message: OutgoingMessage, config: SendmailConfig) -> Submitted:
    """Submit a message.

    Raises:
        SubmissionFailed: nobody has it, as far as can be known.
    """
    try:
        with socket.create_connection((config.host, config.port_number), _CONNECT_SECONDS) as connected:
            dialog = _Dialog(connected, config)
            try:
                return dialog.run(message)
            finally:
                dialog.socket.close()
    except ssl.SSLCertVerificationError as error:
        raise SubmissionFailed(f"{config.host}: its certificate is not good: {error.verify_message}") from None
    except RemoteProtocolError as error:
        raise SubmissionFailed(f"{config.host}: {error}") from None
    except TimeoutError:
        raise SubmissionFailed(f"{config.host} did not answer in time") from None
    except OSError as error:
        raise SubmissionFailed(f"{config.host}:{config.port_number}: {error}") from None


class _Dialog:
    def __init__(self, connected: socket.socket, config: SendmailConfig) -> None:
        self.socket = connected
        self._config = config
        self._connection = ClientConnection()
        self._is_encrypted = False

    def run(self, message: OutgoingMessage) -> Submitted:
        config = self._config
        if config.tls == "implicit":
            self._start_tls()
        self._positive("the server refuses the connection", self._expect(Greeting).reply)
        self._hello()
        if config.tls == "starttls":
            if "STARTTLS" not in self._connection.extensions:
                raise SubmissionFailed(f"{config.host} does not offer STARTTLS")
            self._connection.start_tls()
            self._positive("STARTTLS is refused", self._expect(StartTLSDone).reply)
            self._start_tls()
            self._connection.tls_started()
            self._hello()
        if config.username:
            self._log_in()
        submitted = self._send(message)
        if not self._connection.is_closed:
            self._connection.quit()
            self.socket.sendall(self._connection.data_to_send())
        return submitted

    def _hello(self) -> None:
        self._connection.hello(self._config.local_hostname or socket.getfqdn())
        self._positive("EHLO is refused", self._expect(HelloDone).reply)

    def _start_tls(self) -> None:
        self.socket = make_context(self._config).wrap_socket(self.socket, server_hostname=self._config.host)
        self._is_encrypted = True

    def _log_in(self) -> None:
        mechanism = self._mechanism()
        self._connection.authenticate(mechanism.name, mechanism.initial())
        event = self._next(_COMMAND_SECONDS)
        while isinstance(event, AuthChallenge):
            try:
                self._connection.auth_response(mechanism.respond(event.data))
            except AuthenticationFailed as error:
                raise SubmissionFailed(f"{mechanism.name}: {error}", is_login=True) from None
            event = self._next(_COMMAND_SECONDS)
        if not isinstance(event, AuthDone):
            raise SubmissionFailed(f"unexpected {type(event).__name__}")
        if not event.reply.is_positive:
            raise SubmissionFailed("the login is refused", reply=event.reply, is_login=True)
        if not mechanism.is_complete:
            raise SubmissionFailed(f"{mechanism.name}: the server did not prove that it knows the password")

    def _mechanism(self) -> ClientMechanism:
        offered = self._connection.extensions.mechanisms
        config = self._config
        if not config.password:
            if "EXTERNAL" not in offered:
                raise SubmissionFailed(f"{config.host} does not offer EXTERNAL", is_login=True)
            return _External()
        from mailcrane.sasl.mechanisms import ALL_MECHANISMS, make_client_mechanism  # noqa: PLC0415 - for speed

        mechanism = make_client_mechanism(
            offered,
            config.username,
            config.password.reveal(),
            allowed=config.mechanisms or ALL_MECHANISMS,
            is_encrypted=self._is_encrypted,
        )
        if mechanism is None:
            raise SubmissionFailed(
                f"{config.host} offers no mechanism that can be used: {' '.join(offered) or '(none)'}", is_login=True
            )
        return mechanism

    def _send(self, message: OutgoingMessage) -> Submitted:
        is_tls_required = self._config.require_tls == "yes"
        needs_smtputf8 = message.needs_smtputf8 and "SMTPUTF8" in self._connection.extensions
        refusal = self._connection.extensions.refusal(
            size_octets=len(message.content),
            needs_smtputf8=any(path.needs_smtputf8 for path in (message.reverse_path, *message.forward_paths)),
            require_tls=is_tls_required,
        )
        if refusal is not None:
            raise SubmissionFailed("the server cannot take the message", reply=refusal)
        self._connection.begin_transaction(
            ReversePath(message.reverse_path),
            message.forward_paths,
            size_octets=len(message.content),
            body="8BITMIME" if message.has_8bit else "",
            smtputf8=needs_smtputf8,
            require_tls=is_tls_required,
        )
        envelope = self._expect(EnvelopeDone)
        refused = tuple(
            (str(path), reply)
            for path, reply in zip(message.forward_paths, envelope.recipients, strict=True)
            if not reply.is_positive
        )
        if not envelope.may_send_content:
            last = envelope.mail if not envelope.mail.is_positive else envelope.recipients[-1]
            return Submitted(last, refused, is_taken=False)
        for offset in range(0, len(message.content), _SEND_OCTETS):
            self.socket.sendall(self._connection.send_content(message.content[offset : offset + _SEND_OCTETS]))
        self._connection.end_content()
        reply = self._expect(ContentDone, _FINAL_REPLY_SECONDS).reply
        return Submitted(reply, refused, is_taken=reply.is_positive)

    def _positive(self, text: str, reply: Reply) -> None:
        if not reply.is_positive:
            raise SubmissionFailed(text, reply=reply)

    def _expect(self, kind: type[E], seconds: float = _COMMAND_SECONDS) -> E:
        event = self._next(seconds)
        if not isinstance(event, kind):
            raise SubmissionFailed(f"expected {kind.__name__}, got {type(event).__name__}")
        return event

    def _next(self, seconds: float) -> ClientEvent:
        self.socket.settimeout(seconds)
        while True:
            event = self._connection.next_event()
            if not isinstance(event, ClientSignal):
                return event
            octets = self._connection.data_to_send()
            if octets:
                self.socket.sendall(octets)
            self._connection.receive(self.socket.recv(_RECEIVE_OCTETS))


def make_context(config: SendmailConfig) -> ssl.SSLContext:
    """Make the TLS context that the configuration asks for.

    Raises:
        SubmissionFailed: the certificate that is to be shown cannot be used.
    """
    context = ssl.create_default_context(cafile=config.ca_file or None)
    if config.tls_insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if config.client_certificate_file:
            context.load_cert_chain(config.client_certificate_file)
        elif config.client_ed25519_key:
            import tempfile  # noqa: PLC0415 - few need it, and all wait for it

            from mailcrane.tls.certificate import make_client_certificate  # noqa: PLC0415 - imports much

            # The library takes files only.
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(make_client_certificate(config.client_ed25519_key.reveal()))
                file.flush()
                context.load_cert_chain(file.name)
    except (OSError, ValueError) as error:
        raise SubmissionFailed(f"the certificate to be shown cannot be used: {error}", is_login=True) from None
    return context
