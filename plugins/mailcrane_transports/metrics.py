"""What is counted at next hops."""

from __future__ import annotations

from mailcrane.api.metrics import Counter

connections = Counter(
    "mailcrane_outgoing_connections_total",
    "Connections to next hops: ok, refused (or no route), timeout, dns (no address was found).",
    ["result"],
)
reused = Counter("mailcrane_outgoing_connections_reused_total", "Messages that went over a connection that was open.")
tls = Counter(
    "mailcrane_outgoing_tls_total",
    "Sessions by TLS: verified, unverified, plaintext (none offered or wanted), failed.",
    ["result"],
)
plaintext_fallbacks = Counter(
    "mailcrane_outgoing_plaintext_fallbacks_total", "Connections made again in plaintext because TLS did not work."
)
requiretls_unsupported = Counter(
    "mailcrane_outgoing_requiretls_unsupported_total",
    "Hosts that a message with REQUIRETLS could not be given to: unverified TLS, or unsupported by the host.",
    ["reason"],
)
requiretls_no_ignored = Counter(
    "mailcrane_outgoing_tls_required_no_total", "Messages with TLS-Required: No for which a policy was set aside."
)
