"""What ``[transports.NAME]`` may say, per type."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mailcrane.api import Secret

NO_SECRET = Secret("")


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


class SMTPConfig(Struct, frozen=True, forbid_unknown_fields=True):
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


class LocalConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Deliver everything to this server's own listener, for development."""

    host: Annotated[str, Meta(min_length=1, description="Address of the listener.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 1025
