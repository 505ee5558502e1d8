"""The file of the sendmail command: where it submits to, and as whom."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from mailcrane.config.convert import ConfigError, convert
from mailcrane.model.address import AddressError, Mailbox
from mailcrane.observe.secret import NO_SECRET, Secret

DEFAULT_PATH: Final = "/etc/mailcrane/sendmail.toml"
PATH_VARIABLE: Final = "MAILCRANE_SENDMAIL_CONFIG"

_DEFAULT_PORTS = {"implicit": 465, "starttls": 587, "none": 587}


class SendmailConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where `mailcrane sendmail` submits to. Everybody who may send must be able to read it."""

    host: Annotated[str, Meta(min_length=1, description="The server that messages are submitted to.")]
    from_: Annotated[
        str, Meta(description="The author and the reverse-path of every message; an address that the account has.")
    ] = field(name="from")
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Its port; 0 is 465 with implicit TLS and 587 otherwise.")
    ] = 0
    tls: Annotated[
        Literal["implicit", "starttls", "none"],
        Meta(description="TLS from the first octet (RFC 8314), by STARTTLS, or not at all."),
    ] = "implicit"
    tls_insecure_skip_verify: Annotated[bool, Meta(description="Take any certificate.")] = False
    ca_file: Annotated[str, Meta(description="PEM file with the CA certificates to trust instead of the system's.")] = (
        ""
    )
    local_hostname: Annotated[str, Meta(description="Our name in EHLO; empty is this machine's.")] = ""
    username: Annotated[str, Meta(description="The login; empty logs nobody in.")] = ""
    password: Annotated[Secret, Meta(description="Its password.")] = NO_SECRET
    client_ed25519_key: Annotated[
        Secret,
        Meta(
            description="Instead of a password: seed of an Ed25519 key, base64url. The key is shown to the server in a "
            "TLS certificate that is made of it."
        ),
    ] = NO_SECRET
    client_certificate_file: Annotated[
        str, Meta(description="Instead of a password: PEM file with a TLS certificate and its private key.")
    ] = ""
    mechanisms: Annotated[
        tuple[str, ...],
        Meta(
            description="SASL mechanisms in the order of preference; the first that the server offers is used. Empty "
            "takes SCRAM-SHA-256, SCRAM-SHA-1 and CRAM-MD5, behind TLS PLAIN and LOGIN too, and EXTERNAL for a key or "
            "a certificate."
        ),
    ] = ()
    default_destination: Annotated[
        str, Meta(description="Takes what is sent to a name without a domain, such as root.")
    ] = ""
    keep_from: Annotated[
        bool,
        Meta(
            description="Leave the author of a message as it is, and take the reverse-path from -f, where they are "
            "addresses with a domain."
        ),
    ] = False
    require_tls: Annotated[
        Literal["", "yes", "no"],
        Meta(
            description="yes: only over verified TLS all the way (REQUIRETLS, RFC 8689). no: also where TLS fails "
            "(TLS-Required: No)."
        ),
    ] = ""
    failures_dir: Annotated[
        str, Meta(min_length=1, description="Messages that could not be submitted are kept here, for the user.")
    ] = "~/mailcrane-sendmail.failures"

    @property
    def port_number(self) -> int:
        """The port that is meant."""
        return self.port or _DEFAULT_PORTS[self.tls]

    @property
    def author(self) -> Mailbox:
        """The configured address."""
        return Mailbox.parse(self.from_)


def load_config() -> SendmailConfig:
    """Read the file that the environment names, or the usual one.

    Raises:
        ConfigError: it is not there, or not right.
    """
    path = os.environ.get(PATH_VARIABLE) or DEFAULT_PATH
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            path,
            f"cannot be read: {error}",
            f"Write it, or name another in {PATH_VARIABLE}; `mailcrane config describe --sendmail` explains it",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, f"is not TOML: {error}") from None
    try:
        config = convert(table, SendmailConfig, "")
        _check(config)
    except ConfigError as error:
        raise ConfigError(error.key_path, error.problem, error.hint, source=path) from None
    return config


def _check(config: SendmailConfig) -> None:
    for key, address in (("from", config.from_), ("default_destination", config.default_destination)):
        if address or key == "from":
            try:
                Mailbox.parse(address)
            except AddressError as error:
                raise ConfigError(key, f'"{address}" is not an address: {error}') from None
    secrets = {
        "password": bool(config.password),
        "client_ed25519_key": bool(config.client_ed25519_key),
        "client_certificate_file": bool(config.client_certificate_file),
    }
    given = [name for name, is_given in secrets.items() if is_given]
    if config.username and len(given) != 1:
        raise ConfigError("username", "needs exactly one secret", f"Write one of: {', '.join(secrets)}")
    if given and not config.username:
        raise ConfigError(given[0], "is there without a login", "Add username")
    if config.tls == "none" and (config.client_ed25519_key or config.client_certificate_file):
        raise ConfigError("tls", "a key or certificate can only be shown in TLS", 'Write "implicit" or "starttls"')
    if config.tls == "none" and config.require_tls == "yes":
        raise ConfigError("require_tls", '"yes" needs TLS to the server', 'Write tls = "implicit" or "starttls"')
