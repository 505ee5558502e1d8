"""What servers and clients negotiate: versions, certificates by name, application protocols, verification.

An OpenSSL context must not change once it was used, so `ServerTLS` makes new ones when certificates change;
connections keep the one that they began with.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import trio
from cryptography import x509
from OpenSSL import SSL, crypto

from mailcrane.tls.certificate import CertificateAndKey, CertificateError, certificate_names, names_match
from mailcrane.tls.stream import TLSStream

# Chooses one of the protocols that the client offers, or None to go on without (RFC 7301).
ALPNChoice = Callable[[tuple[str, ...]], str | None]

_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
_SESSION_ID_CONTEXT = b"mailcrane"


class UnknownServerName(enum.StrEnum):
    """What a server does when a client asks for a name that no certificate is for."""

    REFUSE = "refuse"  # the handshake fails, without showing a certificate
    FALL_BACK = "fall back"  # the first certificate is shown, as SMTP between servers wants it


def choose_alpn(*protocols: str) -> ALPNChoice:
    """Choose the first of our protocols that a client offers."""

    def choose(offered: tuple[str, ...]) -> str | None:
        return next((protocol for protocol in protocols if protocol in offered), None)

    return choose


class ServerTLS:
    """The server side for some listeners; its certificates can be replaced while it is used."""

    def __init__(
        self,
        certificates: Sequence[CertificateAndKey],
        *,
        unknown_server_name: UnknownServerName = UnknownServerName.REFUSE,
        alpn: ALPNChoice | None = None,
        session_tickets: bool = True,
        request_client_certificate: bool = False,
        minimum_version: int = SSL.TLS1_2_VERSION,
        handshake_timeout: float = 30.0,
    ) -> None:
        """Set up the server side.

        Args:
            certificates: The first is shown to clients that do not say which name they want.
            unknown_server_name: What happens when a client asks for another name.
            alpn: Chooses the application protocol; None ignores what clients offer.
            session_tickets: Whether sessions may be resumed by ticket (RFC 5077).
            request_client_certificate: Ask for one. Any certificate is taken: it stands for its key only.
            minimum_version: Of TLS, as OpenSSL numbers it.
            handshake_timeout: Seconds.

        Raises:
            CertificateError: there is none, or OpenSSL does not take it.
        """
        self._unknown_server_name = unknown_server_name
        self._alpn = alpn
        self._session_tickets = session_tickets
        self._request_client_certificate = request_client_certificate
        self._minimum_version = minimum_version
        self._handshake_timeout = handshake_timeout
        self._context = self._make(certificates)

    def replace(self, certificates: Sequence[CertificateAndKey]) -> None:
        """Show other certificates to connections from now on.

        Raises:
            CertificateError: there is none, or OpenSSL does not take it; then nothing has changed.
        """
        self._context = self._make(certificates)

    def wrap(self, stream: trio.abc.Stream) -> TLSStream:
        """Make the server side of a connection. The handshake is yet to be made."""
        return TLSStream(stream, self._context, server_side=True, handshake_timeout=self._handshake_timeout)

    def _make(self, certificates: Sequence[CertificateAndKey]) -> SSL.Context:
        if not certificates:
            raise CertificateError("a TLS server needs a certificate")
        contexts = [(certificate, self._make_one(certificate)) for certificate in certificates]
        without = self._make_one(None)

        def choose_by_name(connection: SSL.Connection) -> None:
            name = (connection.get_servername() or b"").decode("ascii", "replace")
            if not name:
                return
            for certificate, context in contexts:
                if certificate.is_for(name):
                    connection.set_context(context)
                    return
            if self._unknown_server_name is UnknownServerName.REFUSE:
                # Without a certificate OpenSSL ends the handshake with an alert.
                connection.set_context(without)

        default = contexts[0][1]
        default.set_tlsext_servername_callback(choose_by_name)
        return default

    def _make_one(self, certificate: CertificateAndKey | None) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self._minimum_version)
        context.set_options(_OPTIONS if self._session_tickets else _OPTIONS | SSL.OP_NO_TICKET)
        context.set_session_id(_SESSION_ID_CONTEXT)
        # Sessions live in tickets, if anywhere: a cache in memory would serve one process only.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self._request_client_certificate:
            context.set_verify(SSL.VERIFY_PEER, _accept_any_certificate)
        if self._alpn is not None:
            context.set_alpn_select_callback(_alpn_callback(self._alpn))
        if certificate is not None:
            try:
                context.use_certificate(certificate.chain[0])
                for issuer in certificate.chain[1:]:
                    context.add_extra_chain_cert(issuer)
                context.use_privatekey(certificate.key)
                context.check_privatekey()
            except SSL.Error as error:
                raise CertificateError(f"OpenSSL does not take the certificate for {certificate.names}") from error
        return context


class Verification(enum.StrEnum):
    """What a client does about a certificate that is not trusted for the name that it wants."""

    REQUIRED = "required"  # the handshake fails
    REPORTED = "reported"  # the stream tells in `verify_error`; the caller decides
    NONE = "none"  # not even looked at: opportunistic TLS


class ClientTLS:
    """The client side, verifying by PKIX (RFC 5280) and by name (RFC 9525)."""

    def __init__(
        self,
        *,
        verification: Verification = Verification.REQUIRED,
        ca_pem: bytes | None = None,
        alpn: Sequence[str] = (),
        minimum_version: int = SSL.TLS1_2_VERSION,
        handshake_timeout: float = 30.0,
    ) -> None:
        """Set up the client side.

        Args:
            verification: What is done about a certificate that is not trusted.
            ca_pem: The trusted CA certificates; None trusts the system's.
            alpn: Application protocols to offer, the best first.
            minimum_version: Of TLS, as OpenSSL numbers it.
            handshake_timeout: Seconds.

        Raises:
            CertificateError: `ca_pem` cannot be read.
        """
        self._verification = verification
        self._handshake_timeout = handshake_timeout
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(minimum_version)
        context.set_options(_OPTIONS)
        if alpn:
            context.set_alpn_protos([protocol.encode("ascii") for protocol in alpn])
        if verification is not Verification.NONE:
            _trust(context, ca_pem)
            context.set_verify(SSL.VERIFY_PEER, _verify_peer)
        self._context = context

    def wrap(self, stream: trio.abc.Stream, server_name: str) -> TLSStream:
        """Make the client side of a connection. The handshake is yet to be made.

        Args:
            stream: The connection.
            server_name: The A-label name or IP address that the certificate must be for; a name is sent as SNI too.
        """
        return TLSStream(
            stream,
            self._context,
            server_side=False,
            server_name="" if _is_ip(server_name) else server_name.rstrip("."),
            verification=_PeerCheck(server_name, is_fatal=self._verification is Verification.REQUIRED),
            handshake_timeout=self._handshake_timeout,
        )


class _PeerCheck:
    """What is found out about one peer's certificate."""

    def __init__(self, name: str, *, is_fatal: bool) -> None:
        self.name = name
        self.is_fatal = is_fatal
        self.error = ""


def _verify_peer(connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, is_good: int) -> bool:
    check = connection.get_app_data()
    if not isinstance(check, _PeerCheck):
        return bool(is_good)
    if not is_good:
        check.error = check.error or f"certificate not trusted: {_VERIFY_ERRORS.get(number, f'error {number}')}"
    elif depth == 0 and not names_match(certificate_names(certificate.to_cryptography()), check.name):
        check.error = check.error or f"certificate is not for {check.name}"
    return not (check.error and check.is_fatal)


def _accept_any_certificate(
    connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, is_good: int
) -> bool:
    return True


def _alpn_callback(choice: ALPNChoice) -> Callable[[SSL.Connection, list[bytes]], Any]:
    def choose(_: SSL.Connection, offered: list[bytes]) -> Any:
        chosen = choice(tuple(protocol.decode("ascii", "replace") for protocol in offered))
        return SSL.NO_OVERLAPPING_PROTOCOLS if chosen is None else chosen.encode("ascii")

    return choose


def _trust(context: SSL.Context, ca_pem: bytes | None) -> None:
    if ca_pem is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    if store is None:
        raise CertificateError("OpenSSL has no certificate store")
    try:
        for certificate in x509.load_pem_x509_certificates(ca_pem):
            store.add_cert(crypto.X509.from_cryptography(certificate))
    except ValueError as error:
        raise CertificateError(f"no CA certificates in PEM form: {error}") from None


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# The words of OpenSSL's constants, such as "err depth zero self signed cert"; its own texts are not reachable.
_VERIFY_ERRORS: dict[int, str] = {
    value: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, value in vars(SSL.X509VerificationCodes).items()
    if isinstance(value, int) and not name.startswith("_")
}
