"""What is known of one connection and the dialog on it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Protocol = Literal["smtp", "submission", "submissions", "http", "imap"]


class TLSInfo(Struct, frozen=True):
    """A TLS session that was negotiated.

    Attributes:
        version: ``TLSv1.2`` or ``TLSv1.3``.
        cipher: OpenSSL's name of the cipher suite.
        server_name: What the client asked for (SNI); empty when it did not.
        peer_fingerprint: SHA-256 of the peer certificate's SubjectPublicKeyInfo as unpadded base64url; empty without
            a peer certificate.
    """

    version: str
    cipher: str
    server_name: str = ""
    peer_fingerprint: str = ""


class SessionInfo(Struct, frozen=True):
    """A session, from its connection to QUIT. A changed fact makes a new value.

    Attributes:
        id: Unique over all workers; shown in logs, in ``Received`` and in error replies.
        protocol: What is spoken.
        listener: Name of the listener in ``mailcrane.toml``.
        remote_ip: Of the client, after the PROXY protocol where a listener is told to believe it.
        local_ip: The address that the client reached.
        ehlo: The name that the client gave; empty before EHLO or HELO.
        tls: None in plaintext.
        account: Name of the authenticated account; empty before authentication.
        login_address: The address that the client logged in with, or empty.
    """

    id: str
    protocol: Protocol
    listener: str
    remote_ip: str
    remote_port: int = 0
    local_ip: str = ""
    local_port: int = 0
    ehlo: str = ""
    is_extended: bool = False
    tls: TLSInfo | None = None
    account: str = ""
    login_address: str = ""

    @property
    def is_submission(self) -> bool:
        """Whether an identity submits here (RFC 6409), rather than a server relaying to us."""
        return self.protocol in {"submission", "submissions"}
