"""The transport type ``smtp``: relay to a host on port 25, over STARTTLS with a verified certificate by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from mailcrane.api.tls import ClientTLS, Verification
from mailcrane_transports.config import SMTPConfig
from mailcrane_transports.relay import NextHop, RelayTransport, TLSMode


async def open_smtp(config: SMTPConfig, hostname: Callable[[], str]) -> RelayTransport:
    """Make the transport. Nothing is connected before the first delivery.

    Raises:
        OSError: `ca_file` cannot be read.
        CertificateError: it has no certificates.
    """
    if config.no_starttls:
        return RelayTransport(NextHop(config.host, config.port, TLSMode.NONE, auth=config.auth), hostname)
    is_verified = not config.starttls_insecure_skip_verify
    ca_pem = await trio.Path(Path(config.ca_file)).read_bytes() if config.ca_file else None
    tls = ClientTLS(
        verification=Verification.REQUIRED if is_verified else Verification.NONE, ca_pem=ca_pem if is_verified else None
    )
    next_hop = NextHop(config.host, config.port, TLSMode.REQUIRED, tls, is_verified, config.auth)
    return RelayTransport(next_hop, hostname)
