"""TLS over a trio stream, and a TCP stream that costs little (provisional)."""

# ruff: noqa: PLC0414 - the alias is what tells a type checker that a name is re-exported.

from __future__ import annotations

from typing import TYPE_CHECKING

from mailcrane.api._lazy import lazy_names

if TYPE_CHECKING:
    from mailcrane.tls.certificate import CertificateError as CertificateError
    from mailcrane.tls.certificate import certificate_names as certificate_names
    from mailcrane.tls.certificate import names_match as names_match
    from mailcrane.tls.context import ClientTLS as ClientTLS
    from mailcrane.tls.context import Verification as Verification
    from mailcrane.tls.policy import OpportunisticTLS as OpportunisticTLS
    from mailcrane.tls.policy import PolicyUnknown as PolicyUnknown
    from mailcrane.tls.policy import TLSMode as TLSMode
    from mailcrane.tls.policy import TLSPolicy as TLSPolicy
    from mailcrane.tls.policy import TLSPolicyProvider as TLSPolicyProvider
    from mailcrane.tls.stream import HandshakeFailed as HandshakeFailed
    from mailcrane.tls.stream import PeerVerification as PeerVerification
    from mailcrane.tls.stream import TLSStream as TLSStream
    from mailcrane.tls.stream import TLSTruncated as TLSTruncated
    from mailcrane.tls.stream import fingerprint as fingerprint
    from mailcrane.tls.tcp import TCPStream as TCPStream
    from mailcrane.tls.tcp import open_tcp as open_tcp
else:
    # A type checker sees the names above, and no others.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "mailcrane.tls.certificate": ("CertificateError", "certificate_names", "names_match"),
            "mailcrane.tls.context": ("ClientTLS", "Verification"),
            "mailcrane.tls.policy": ("OpportunisticTLS", "PolicyUnknown", "TLSMode", "TLSPolicy", "TLSPolicyProvider"),
            "mailcrane.tls.stream": ("HandshakeFailed", "PeerVerification", "TLSStream", "TLSTruncated", "fingerprint"),
            "mailcrane.tls.tcp": ("TCPStream", "open_tcp"),
        },
    )
