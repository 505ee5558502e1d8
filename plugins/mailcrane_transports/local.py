"""The transport type ``local``: everything goes to this server's own listener, for development.

TLS is used where the listener offers it, and nobody's certificate is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from mailcrane.api.tls import ClientTLS, Verification
from mailcrane_transports.config import LocalConfig
from mailcrane_transports.relay import NextHop, RelayTransport, TLSMode


async def open_local(config: LocalConfig, hostname: Callable[[], str]) -> RelayTransport:
    """Make the transport. Nothing is connected before the first delivery."""
    tls = ClientTLS(verification=Verification.NONE)
    return RelayTransport(NextHop(config.host, config.port, TLSMode.OPPORTUNISTIC, tls), hostname)
