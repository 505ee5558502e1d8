"""What a listener's configuration means for the sessions on it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Literal

from msgspec import Struct

_MAPPED = bytes(10) + b"\xff\xff"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SessionSettings(Struct, frozen=True):
    """How the sessions of one listener behave.

    Attributes:
        listener: Its name in ``mailcrane.toml``.
        protocol: ``smtp`` takes mail from servers, the other two from identities; ``submissions`` begins with TLS.
        hostname: Our own name, in greetings and trace fields; A-labels.
        is_legacy_auth: Whether the mechanisms that need weak secrets are offered.
        require_tls_for_auth: AUTH is not offered in plaintext.
        require_starttls: No mail is taken in plaintext.
        relay_networks: Clients in them may relay anywhere without AUTH, as `relay_account`.
        catch_all_account: Takes mail for every address that is not known, at any domain; empty for none.
        has_special_recipients: Local parts may ask for a failure (`mailcrane.session.special`).
    """

    listener: str
    protocol: Literal["smtp", "submission", "submissions"]
    hostname: str
    max_message_octets: int = 100 * 1024 * 1024
    is_legacy_auth: bool = False
    require_tls_for_auth: bool = True
    require_starttls: bool = False
    relay_networks: tuple[Network, ...] = ()
    relay_account: str = ""
    catch_all_account: str = ""
    has_special_recipients: bool = False

    @property
    def is_submission(self) -> bool:
        """Whether identities submit here."""
        return self.protocol != "smtp"

    def may_relay(self, address: str) -> bool:
        """Whether a client at an address may relay without AUTH."""
        if not self.relay_networks or not self.relay_account:
            return False
        number, width = _number(address)
        return any(
            network.max_prefixlen == width
            and (number ^ int(network.network_address)) >> (width - network.prefixlen) == 0
            for network in self.relay_networks
        )


def _number(address: str) -> tuple[int, int]:
    """Return an address as a number with its width in bits; a fifth of what `ipaddress.ip_address` costs."""
    if ":" in address:
        octets = socket.inet_pton(socket.AF_INET6, address)
        # A client of a socket for both families may be written as an IPv4-mapped address.
        if octets.startswith(_MAPPED):
            octets = octets[12:]
    else:
        octets = socket.inet_pton(socket.AF_INET, address)
    return int.from_bytes(octets, "big"), 8 * len(octets)
