"""A trio stream that speaks TLS over another stream, by OpenSSL with memory BIOs.

The standard library's TLS has no channel binding for TLS 1.3, refuses client certificates that it cannot verify, and
cannot report a verification error and go on; OpenSSL can. What is negotiated is decided in `mailcrane.tls.context`.

There is no half-close: `aclose` says close_notify and does not wait for the peer's.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Protocol

import trio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate
from OpenSSL import SSL
from OpenSSL._util import lib as _openssl

from mailcrane.model.session import TLSInfo

# What is encrypted before it is handed to the transport: bounds memory, and is many records.
_SEND_OCTETS = 128 * 1024
_RECEIVE_OCTETS = 64 * 1024
# Replies to key updates wait for the next send, unless there are so many that they would pile up.
_MAX_WAITING_OCTETS = 16 * 1024
# For close_notify, so that a peer that does not read cannot hold a socket.
_CLOSE_SECONDS = 1.0

# RFC 9266 section 4.2.
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_OCTETS = 32


class HandshakeFailed(trio.BrokenResourceError):
    """TLS was not established, with the reason in words. The transport is of no further use."""


class TLSTruncated(trio.BrokenResourceError):
    """The peer ended the connection without close_notify (RFC 8446 section 6.1).

    What was received until then may be a part of what was sent. It is an error for content, and of no interest after
    QUIT, where many peers just close.
    """


class PeerVerification(Protocol):
    """What is found out about the peer's certificate during the handshake; see `mailcrane.tls.context`."""

    @property
    def error(self) -> str:
        """Why the certificate is not trusted; empty when it is, or when nothing was to be verified."""
        ...


class TLSStream(trio.abc.Stream):
    """TLS over a stream that it owns.

    The handshake is made by `do_handshake`, or by the first send or receive. One task may send while another receives.
    Receiving may be cancelled without loss. When sending or the handshake is cancelled, a record may be cut in two, so
    that the stream can only be closed after it.

    Attributes:
        transport_stream: The stream underneath.
        verification: Knows whether the peer's certificate is trusted; None where none was looked at.
    """

    def __init__(
        self,
        transport_stream: trio.abc.Stream,
        context: SSL.Context,
        *,
        server_side: bool,
        server_name: str = "",
        verification: PeerVerification | None = None,
        handshake_timeout: float = 30.0,
    ) -> None:
        """Wrap a stream.

        Args:
            transport_stream: Closed with this stream.
            context: What is negotiated.
            server_side: Whether the peer begins the handshake.
            server_name: As a client: sent as SNI. An A-label name; empty sends none, as for an IP address.
            verification: Handed to the context's verify callback as the connection's application data.
            handshake_timeout: Seconds for the whole handshake.
        """
        self.transport_stream: Any = transport_stream
        self.verification = verification
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(verification)
        self._server_side = server_side
        self._server_name = server_name
        self._handshake_timeout = handshake_timeout
        if server_side:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            if server_name:
                self._connection.set_tlsext_host_name(server_name.encode("ascii"))
        self._outgoing = bytearray()
        self._handshake_lock = trio.Lock()
        self._transport_send_lock = trio.Lock()
        self._send_conflict = _ConflictDetector("another task is already sending on this stream")
        self._receive_conflict = _ConflictDetector("another task is already receiving on this stream")
        self._info: TLSInfo | None = None
        self._broken = ""
        self._is_closed = False
        self._is_ended = False
        self._is_truncated = False

    async def do_handshake(self) -> None:
        """Make the handshake; does nothing when it was made.

        Raises:
            HandshakeFailed: it failed or took too long.
            trio.ClosedResourceError: the stream was closed.
        """
        async with self._handshake_lock:
            self._check_usable()
            if self._info is not None:
                return
            try:
                with trio.fail_after(self._handshake_timeout):
                    await self._negotiate()
            except trio.TooSlowError:
                self._broken = f"no TLS handshake within {self._handshake_timeout:g} s"
                raise HandshakeFailed(self._broken) from None
            except HandshakeFailed as failure:
                self._broken = str(failure)
                raise
            except trio.BrokenResourceError as broken:
                self._broken = f"connection lost during the TLS handshake: {broken}".rstrip(": ")
                raise HandshakeFailed(self._broken) from broken
            except BaseException:
                self._broken = "the TLS handshake was cancelled"
                raise
            self._info = self._describe()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all octets.

        Raises:
            trio.BrokenResourceError: the connection is gone, or an earlier send was cancelled.
            trio.ClosedResourceError: the stream was closed.
            trio.BusyResourceError: another task is sending.
        """
        with self._send_conflict:
            self._check_usable()
            if self._info is None:
                await self.do_handshake()
            if not len(data):
                await trio.lowlevel.checkpoint()
                return
            # Nothing is encrypted yet, so that a cancellation does no harm here.
            await trio.lowlevel.checkpoint_if_cancelled()
            view = memoryview(data).cast("B")
            async with self._transport_send_lock:
                for start in range(0, len(view), _SEND_OCTETS):
                    self._check_usable()
                    self._encrypt(view[start : start + _SEND_OCTETS])
                    await self._send_waiting()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may take something."""
        with self._send_conflict:
            self._check_usable()
            if self._info is None:
                await self.do_handshake()
            async with self._transport_send_lock:
                await self.transport_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some octets, at most `max_bytes`; none at the end, when the peer said close_notify.

        Raises:
            TLSTruncated: the connection ended without close_notify.
            trio.BrokenResourceError: the connection is gone, or the peer broke the protocol.
            trio.ClosedResourceError: the stream was closed.
            trio.BusyResourceError: another task is receiving.
        """
        limit = _check_max_bytes(max_bytes)
        with self._receive_conflict:
            self._check_usable()
            if self._info is None:
                await self.do_handshake()
            await trio.lowlevel.checkpoint_if_cancelled()
            has_waited = False
            while True:
                data = self._decrypt(limit)
                if data is not None:
                    if not has_waited:
                        # Only a turn for the other tasks: what was decrypted must not be lost to a cancellation.
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    return data
                has_waited = True
                if len(self._outgoing) > _MAX_WAITING_OCTETS:
                    async with self._transport_send_lock:
                        await self._send_waiting()
                await self._read_transport()

    async def aclose(self) -> None:
        """Say close_notify, where that is possible within a second, and close the transport."""
        if self._is_closed:
            await self.transport_stream.aclose()
            return
        self._is_closed = True
        try:
            if self._info is not None and not self._broken and not self._transport_send_lock.locked():
                self._connection.shutdown()
                self._collect()
                with trio.move_on_after(_CLOSE_SECONDS):
                    await self.transport_stream.send_all(bytes(self._outgoing))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, SSL.Error):
            # The peer is gone already, or a record is under way: it will find a truncated stream, rightly.
            pass
        finally:
            await self.transport_stream.aclose()

    @property
    def tls_info(self) -> TLSInfo:
        """What was negotiated.

        Raises:
            RuntimeError: before the handshake.
        """
        if self._info is None:
            raise RuntimeError("there was no TLS handshake yet")
        return self._info

    @property
    def verify_error(self) -> str:
        """Why the peer's certificate is not trusted; empty when it is, or when nothing was to be verified."""
        return "" if self.verification is None else self.verification.error

    @property
    def peer_certificate(self) -> Certificate | None:
        """The certificate that the peer showed."""
        return self._connection.get_peer_certificate(as_cryptography=True)

    def selected_alpn_protocol(self) -> str | None:
        """The application protocol that was agreed on (RFC 7301)."""
        return self._connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None

    def tls_exporter(self) -> bytes | None:
        """The channel binding ``tls-exporter`` (RFC 9266), or None where it would not be unique.

        That is before the handshake, and on TLS 1.2 without the extended master secret (RFC 7627). There is no
        ``tls-unique``, which is broken on TLS 1.2 and undefined on 1.3.
        """
        if self._info is None:
            return None
        if self._info.version != "TLSv1.3" and not _has_extended_master_secret(self._connection):
            return None
        return self._connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_OCTETS, b"")

    # --- what follows moves octets between OpenSSL and the transport ---

    async def _negotiate(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                is_done = False
            except SSL.Error as error:
                await self._send_alert()
                reason = _reason(error)
                # Only a certificate that OpenSSL was told to refuse is the reason; it may have failed for another.
                raise HandshakeFailed(self.verify_error if "verify failed" in reason else reason) from None
            else:
                is_done = True
            self._collect()
            if is_done and self._server_side and self._connection.get_protocol_version_name() == "TLSv1.3":
                # Only session tickets wait, and go with the first octets that we send: a client that sends much
                # before it reads would else wait for us while we wait for it.
                return
            async with self._transport_send_lock:
                await self._send_waiting()
            if is_done:
                return
            if self._is_truncated:
                raise HandshakeFailed("the peer ended the connection during the TLS handshake")
            await self._read_transport()

    async def _send_alert(self) -> None:
        self._collect()
        with trio.move_on_after(_CLOSE_SECONDS) as scope:
            scope.shield = True
            try:
                await self.transport_stream.send_all(bytes(self._outgoing))
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass

    async def _read_transport(self) -> None:
        # Cancellation arrives here or not at all: octets that the transport gave out are in OpenSSL at once.
        data = await self.transport_stream.receive_some(_RECEIVE_OCTETS)
        if data:
            self._connection.bio_write(data)
        else:
            self._is_truncated = True
            self._connection.bio_shutdown()

    async def _send_waiting(self) -> None:
        """Send what OpenSSL has put out so far. The caller holds the lock."""
        waiting, self._outgoing = self._outgoing, bytearray()
        if not waiting:
            return
        try:
            await self.transport_stream.send_all(waiting)
        except trio.BrokenResourceError as error:
            self._broken = str(error) or "connection lost"
            raise
        except BaseException:
            self._broken = "an earlier send was interrupted"
            raise

    def _encrypt(self, piece: memoryview) -> None:
        while piece:
            try:
                count = self._connection.send(piece)
            except SSL.Error as error:
                self._broken = _reason(error)
                raise trio.BrokenResourceError(self._broken) from None
            piece = piece[count:]
        self._collect()

    def _decrypt(self, limit: int) -> bytes | None:
        """Return octets, none at the end, or None when more must come from the transport first."""
        if self._is_ended:
            return b""
        pieces: list[bytes] = []
        count = 0
        try:
            while count < limit:
                piece = self._connection.recv(limit - count)
                pieces.append(piece)
                count += len(piece)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._is_ended = True
        except SSL.Error as error:
            if not pieces:
                raise self._receive_failure(error) from None
        self._collect()
        if pieces:
            return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        return b"" if self._is_ended else None

    def _receive_failure(self, error: SSL.Error) -> trio.BrokenResourceError:
        if self._is_truncated:
            return TLSTruncated("the peer ended the connection without close_notify")
        self._broken = _reason(error)
        self._collect()
        return trio.BrokenResourceError(self._broken)

    def _collect(self) -> None:
        try:
            while True:
                self._outgoing += self._connection.bio_read(_RECEIVE_OCTETS)
        except SSL.WantReadError:
            pass

    def _check_usable(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._broken:
            raise trio.BrokenResourceError(self._broken)

    def _describe(self) -> TLSInfo:
        server_name = self._server_name
        if self._server_side:
            server_name = (self._connection.get_servername() or b"").decode("ascii", "replace")
        return TLSInfo(
            version=self._connection.get_protocol_version_name(),
            cipher=self._connection.get_cipher_name() or "",
            server_name=server_name,
            peer_fingerprint=fingerprint(self.peer_certificate),
        )


class _ConflictDetector:
    """Refuses a second task, as trio's own streams do."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_held = False

    def __enter__(self) -> None:
        if self._is_held:
            raise trio.BusyResourceError(self._text)
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False


def fingerprint(certificate: Certificate | None) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo as unpadded base64url; empty without a certificate.

    It stays the same when a certificate is renewed for the same key.
    """
    if certificate is None:
        return ""
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        # A kind of key that cryptography does not know: it can identify nobody here.
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def _check_max_bytes(max_bytes: int | None) -> int:
    if max_bytes is None:
        return _RECEIVE_OCTETS
    if not isinstance(max_bytes, int):
        raise TypeError("max_bytes must be an integer or None")
    if max_bytes < 1:
        raise ValueError("max_bytes must be at least 1")
    return min(max_bytes, _RECEIVE_OCTETS)


def _reason(error: SSL.Error) -> str:
    """Words for an OpenSSL error; its arguments are a list of (library, function, reason)."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1]) or "TLS protocol error"
    if isinstance(error, SSL.SysCallError):
        return "the peer ended the connection"
    return "TLS protocol error"


def _has_extended_master_secret(connection: SSL.Connection) -> bool:
    # pyOpenSSL has no method for it; without the function underneath, TLS 1.2 simply has no channel binding.
    ask = getattr(_openssl, "SSL_get_extms_support", None)
    handle = getattr(connection, "_ssl", None)
    return ask is not None and handle is not None and ask(handle) == 1
