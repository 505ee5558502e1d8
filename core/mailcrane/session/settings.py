"""What a listener's configuration means for the sessions on it."""

from __future__ import annotations

import ipaddress
from typing import Literal

from msgspec import Struct

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
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self.relay_networks)
