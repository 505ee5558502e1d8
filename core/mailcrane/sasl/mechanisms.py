"""Which mechanisms there are, in the order of preference, and how they are made by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mailcrane.sasl.exchange import ClientMechanism, ServerMechanism
from mailcrane.sasl.scram_client import ScramClient
from mailcrane.sasl.scram_server import ScramServer
from mailcrane.sasl.simple import CramMD5Client, CramMD5Server, LoginClient, LoginServer, PlainClient, PlainServer

ALL_MECHANISMS = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)

# Need secrets that are only made where legacy is on.
LEGACY_MECHANISMS = frozenset({"SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "CRAM-MD5"})

# Give the password to whoever reads along, or to a server that is not the one it pretends to be.
CLEARTEXT_MECHANISMS = frozenset({"PLAIN", "LOGIN"})


def offered_mechanisms(*, legacy: bool) -> tuple[str, ...]:
    """Return what a server offers, in the order of preference."""
    return tuple(name for name in ALL_MECHANISMS if legacy or name not in LEGACY_MECHANISMS)


def make_server_mechanism(
    name: str, *, hostname: str, server_secret: bytes, channel_bindings: Mapping[str, bytes]
) -> ServerMechanism:
    """Make the server's side of an exchange.

    Args:
        name: One of `ALL_MECHANISMS`.
        hostname: For CRAM-MD5's challenge.
        server_secret: Random, the same over restarts and workers: salts for logins that do not exist come of it.
        channel_bindings: Type, such as ``tls-exporter``, and data of this connection; empty without TLS, or where
            no -PLUS mechanism is offered.

    Raises:
        KeyError: there is no such mechanism.
    """
    if name == "PLAIN":
        return PlainServer()
    if name == "LOGIN":
        return LoginServer()
    if name == "CRAM-MD5":
        return CramMD5Server(hostname)
    return ScramServer(name, channel_bindings=channel_bindings, server_secret=server_secret)


def make_client_mechanism(
    offered: Collection[str],
    login: str,
    password: str,
    *,
    allowed: Collection[str] = ALL_MECHANISMS,
    channel_binding: tuple[str, bytes] | None = None,
    is_encrypted: bool,
) -> ClientMechanism | None:
    """Make the client's side of the best mechanism that both sides have; None when there is none.

    Args:
        offered: What the server announces, in upper case.
        allowed: Names in the order of preference.
        channel_binding: Type and data of this connection.
        is_encrypted: Without it PLAIN and LOGIN are left out.

    Raises:
        ValueError: login or password are not permitted.
    """
    for name in allowed:
        if name not in offered or (name.endswith("-PLUS") and channel_binding is None):
            continue
        if name in CLEARTEXT_MECHANISMS and not is_encrypted:
            continue
        if name == "PLAIN":
            return PlainClient(login, password)
        if name == "LOGIN":
            return LoginClient(login, password)
        if name == "CRAM-MD5":
            return CramMD5Client(login, password)
        # "We could bind, and you cannot" would be a lie, and taken for an attack, where the server offers any -PLUS.
        is_declined = not name.endswith("-PLUS") and any(other.endswith("-PLUS") for other in offered)
        return ScramClient(name, login, password, channel_binding=None if is_declined else channel_binding)
    return None
