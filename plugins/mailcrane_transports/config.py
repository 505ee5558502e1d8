"""What ``[transports.NAME]`` may say, per type."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from msgspec import Meta, Struct

from mailcrane.api import AddressError, Secret, parse_domain

NO_SECRET = Secret("")

_PRINTABLE = r"^[\x20-\x7e]*$"

Port = Annotated[int, Meta(ge=1, le=65535)]


class AuthConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How to log in at the next hop (RFC 4954)."""

    username: Annotated[str, Meta(min_length=1, description="The login.")]
    password: Annotated[Secret, Meta(description="The password.")]
    mechanisms: Annotated[
        tuple[str, ...],
        Meta(
            description="SASL mechanisms in the order of preference; the first that the next hop offers is used. Empty "
            "takes SCRAM-SHA-256-PLUS, SCRAM-SHA-256, SCRAM-SHA-1-PLUS, SCRAM-SHA-1, CRAM-MD5. PLAIN, which shows the "
            "password to the next hop, is used only when it is listed."
        ),
    ] = ()


class NextHopConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every type does at a next hop. Counted per process."""

    max_connections: Annotated[int, Meta(ge=1, le=10000, description="Connections to one next hop at once.")] = 20
    messages_per_second: Annotated[
        float, Meta(ge=0, le=100000, description="Messages to one next hop in a second; 0 is no limit.")
    ] = 0.0
    messages_per_connection: Annotated[
        int, Meta(ge=1, le=100000, description="Messages on one connection before it is closed.")
    ] = 100
    idle_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="How long a connection is kept for the next message; 0 closes it at once."),
    ] = 5.0


class SMTPConfig(NextHopConfig, frozen=True, forbid_unknown_fields=True):
    """Relay to a host by SMTP (RFC 5321), over STARTTLS unless told otherwise."""

    host: Annotated[str, Meta(min_length=1, description="Name or IP address of the next hop.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 25
    auth: Annotated[AuthConfig | None, Meta(description="How to log in; without it there is no login.")] = None
    starttls_insecure_skip_verify: Annotated[
        bool, Meta(description="STARTTLS is still required, but any certificate is taken.")
    ] = False
    no_starttls: Annotated[bool, Meta(description="Speak plaintext, even when the next hop offers STARTTLS.")] = False
    ca_file: Annotated[str, Meta(description="PEM file with the CA certificates to trust instead of the system's.")] = (
        ""
    )


class SubmissionConfig(SMTPConfig, frozen=True, forbid_unknown_fields=True):
    """Submit to a host (RFC 6409), over STARTTLS unless told otherwise."""

    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 587


class SubmissionsConfig(NextHopConfig, frozen=True, forbid_unknown_fields=True):
    """Submit to a host with TLS from the start (RFC 8314) and a verified certificate."""

    host: Annotated[str, Meta(min_length=1, description="Name or IP address of the next hop.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 465
    auth: Annotated[AuthConfig | None, Meta(description="How to log in; without it there is no login.")] = None
    ca_file: Annotated[str, Meta(description="PEM file with the CA certificates to trust instead of the system's.")] = (
        ""
    )


class DirectConfig(NextHopConfig, frozen=True, forbid_unknown_fields=True):
    """Deliver to the mail exchangers of each domain (RFC 5321 section 5)."""

    disable_ipv4: Annotated[bool, Meta(description="Connect to no IPv4 address.")] = False
    disable_ipv6: Annotated[bool, Meta(description="Connect to no IPv6 address.")] = False
    local_ips: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of this machine to connect from, at most one of each family; a family without one "
            "is left to the system."
        ),
    ] = ()
    ehlo_name: Annotated[
        str, Meta(description="Name to say in EHLO; empty is `hostname`. It should lead to the address in use.")
    ] = ""
    port: Annotated[int, Meta(ge=1, le=65535, description="Port of all hosts; in the Internet it is 25.")] = 25
    domain_ips: Annotated[
        dict[str, tuple[str, ...]],
        Meta(
            description='Domains that are delivered to at these addresses, without a look-up: `{ "example.org" = '
            '["192.0.2.25"] }`.'
        ),
    ] = {}

    def __post_init__(self) -> None:
        """Check what goes together.

        Raises:
            ValueError: it does not.
        """
        if self.disable_ipv4 and self.disable_ipv6:
            raise ValueError("disable_ipv4 and disable_ipv6 together leave no address")
        families = [_ip("local_ips", text).version for text in self.local_ips]
        if len(set(families)) < len(families):
            raise ValueError("local_ips has two addresses of one family")
        _check_name("ehlo_name", self.ehlo_name)
        for domain, ips in self.domain_ips.items():
            _check_name("domain_ips", domain)
            if not ips:
                raise ValueError(f"domain_ips of {domain} is empty")
            for text in ips:
                _ip("domain_ips", text)


class SocksConfig(NextHopConfig, frozen=True, forbid_unknown_fields=True):
    """Deliver to the mail exchangers of each domain through a SOCKS5 proxy (RFC 1928), without a login there."""

    address: Annotated[str, Meta(min_length=3, description="The proxy, as `host:port` or `[IPv6]:port`.")]
    remote_ips: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Addresses from which next hops see the proxy connect. Only hosts of these families are "
            "connected to; the addresses belong into SPF records.",
        ),
    ]
    remote_hostname: Annotated[str, Meta(min_length=1, description="Name of those addresses, said in EHLO.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Port of all hosts; in the Internet it is 25.")] = 25

    def __post_init__(self) -> None:
        """Check the addresses.

        Raises:
            ValueError: one is not what it must be.
        """
        split_host_port(self.address)
        _check_name("remote_hostname", self.remote_hostname)
        for text in self.remote_ips:
            _ip("remote_ips", text)


class FailConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Fail without trying: for domains that are not to be sent to."""

    smtp_code: Annotated[int, Meta(ge=400, le=599, description="Reply code; 4yz defers, 5yz fails.")] = 554
    smtp_message: Annotated[
        str,
        Meta(
            max_length=256,
            pattern=_PRINTABLE,
            description="Text of the reply, in printable ASCII; empty says that delivery is switched off.",
        ),
    ] = ""


class LocalConfig(NextHopConfig, frozen=True, forbid_unknown_fields=True):
    """Deliver everything to this server's own listener, for development."""

    host: Annotated[str, Meta(min_length=1, description="Address of the listener.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 1025


def split_host_port(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[IPv6]:port``.

    Raises:
        ValueError: the text is neither.
    """
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
        raise ValueError(f'"{text}" is not host:port')
    if is_bracketed:
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if ":" in host:
        raise ValueError(f'"{text}": write an IPv6 address in brackets')
    return host, int(port)


def _ip(field: str, text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'{field}: "{text}" is not an IP address') from None


def _check_name(field: str, name: str) -> None:
    try:
        if name and parse_domain(name) != name:
            raise ValueError(f'{field}: write "{parse_domain(name)}" in place of "{name}"')
    except AddressError:
        raise ValueError(f'{field}: "{name}" is not a domain name') from None
