"""`mailcrane.toml`: what is read once at start. `mailcrane config describe` prints the descriptions that stand here.

Sections of plugins and transports stay tables; their owners convert them with `mailcrane.config.convert.convert`.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from mailcrane.config.convert import ConfigError, convert, join_key
from mailcrane.model.address import AddressError, parse_domain

Level = Literal["error", "warning", "info", "debug"]
Limit = Annotated[int, Meta(ge=0)]
ListenerProtocol = Literal["smtp", "submission", "submissions", "http", "https"]

_TLS_FROM_THE_START = frozenset({"submissions", "https"})
_SMTP_PROTOCOLS = frozenset({"smtp", "submission", "submissions"})
_WEB_PROTOCOLS = frozenset({"http", "https"})
# What a listener's protocol must be for a field to have an effect; fields that are not here have one for all.
_FIELD_IS_FOR = {
    "require_tls_for_auth": frozenset({"submission", "submissions", "http", "https"}),
    "require_starttls": frozenset({"smtp", "submission"}),
    "max_message_octets": _SMTP_PROTOCOLS,
    "relay_networks": _SMTP_PROTOCOLS,
    "relay_account": _SMTP_PROTOCOLS,
    "catch_all_account": frozenset({"smtp"}),
    "special_recipients": _SMTP_PROTOCOLS,
    "services": _WEB_PROTOCOLS,
    "limit_requests": _WEB_PROTOCOLS,
    "is_behind_proxy": _WEB_PROTOCOLS,
}
_MAX_PORT = 65535
_DNS_PORT = 53


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, on standard error."""

    level: Annotated[Level, Meta(description="Lowest level that is logged.")] = "info"
    format: Annotated[Literal["logfmt", "json"], Meta(description="`logfmt` for people, `json` for collectors.")] = (
        "logfmt"
    )
    levels: Annotated[
        dict[str, Level],
        Meta(description='Levels of packages, such as `"mailcrane.smtp" = "debug"`; `mailcrane.` may be left out.'),
    ] = {}


class StoreConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where everything that must survive is kept."""

    path: Annotated[str, Meta(description="The SQLite database; empty is `mailcrane.db` in `data_dir`.")] = ""


class PluginsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Which plugins run."""

    enabled: Annotated[
        tuple[str, ...], Meta(description="Names of plugins, in the order in which their hooks are asked.")
    ] = ("transports", "webapi")


class QueueConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the queue delivers."""

    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=10000,
            description="Deliveries under way at once. A delivery is one message to all its recipients at one domain. "
            "The last half is shared out more sparingly the less is free, so that slow domains cannot take it all.",
        ),
    ] = 2000
    concurrency_per_domain: Annotated[
        int, Meta(ge=1, le=10000, description="Deliveries under way at once to one domain.")
    ] = 20
    max_attempts: Annotated[
        int, Meta(ge=1, le=100, description="Attempts before an entry fails, the first included.")
    ] = 8
    retry_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86400,
            description="Between the first attempt and the second; every further wait is twice as long.",
        ),
    ] = 450.0
    lease_seconds: Annotated[
        float,
        Meta(ge=10, le=86400, description="How long an entry stays with a worker that was not heard of since."),
    ] = 300.0
    hold_new_entries: Annotated[
        bool, Meta(description="New entries are held until somebody releases them, whoever submitted them.")
    ] = False
    default_transport: Annotated[
        str, Meta(description="Name of the `[transports.NAME]` for entries that no route matches.")
    ] = ""


class WebhooksConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How webhook calls are made."""

    concurrency: Annotated[int, Meta(ge=1, le=10000, description="Calls under way at once.")] = 100
    concurrency_per_url: Annotated[int, Meta(ge=1, le=10000, description="Calls under way at once to one URL.")] = 16
    retry_interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86400,
            description="Between the first attempt of a call and the second; the further waits grow in proportion.",
        ),
    ] = 60.0
    allow_networks: Annotated[
        tuple[str, ...],
        Meta(description="Networks such as `10.0.0.0/8` that calls may go to although they are not public."),
    ] = ()


class DNSConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How names are looked up."""

    servers: Annotated[
        tuple[str, ...],
        Meta(
            description="Servers to ask, in turn: `127.0.0.1`, `192.0.2.53:5353` or `[2001:db8::53]:5353`. Empty takes "
            "those of `/etc/resolv.conf`."
        ),
    ] = ()
    trusted: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of servers that are believed when they say that an answer is authentic (DNSSEC), "
            "because nobody can change what is on the way to them. Those on loopback are always believed."
        ),
    ] = ()
    timeout_seconds: Annotated[
        float, Meta(ge=1, le=300, description="How long one look-up may take, all servers together.")
    ] = 30.0
    server_timeout_seconds: Annotated[
        float, Meta(ge=0.1, le=60, description="How long one server may take before the next is asked.")
    ] = 5.0
    cache_size: Annotated[int, Meta(ge=0, le=10_000_000, description="Answers that are kept; 0 keeps none.")] = 10000
    cache_max_seconds: Annotated[
        float, Meta(ge=0, le=604800, description="How long an answer is kept at most, whatever the record says.")
    ] = 86400.0


class AuthConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How clients log in."""

    legacy: Annotated[
        bool,
        Meta(
            description="Whether secrets for CRAM-MD5 and SCRAM-SHA-1 are kept of new passwords and the mechanisms "
            "offered."
        ),
    ] = False


class CertificateConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate with its private key, which listeners name in `tls`."""

    cert_file: Annotated[str, Meta(description="PEM file with the certificate and its chain.")]
    key_file: Annotated[str, Meta(description="PEM file with the private key.")]


class ListenerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses that one protocol is spoken on."""

    protocol: Annotated[
        ListenerProtocol,
        Meta(
            description="`smtp` receives from servers, `submission` from clients with STARTTLS, `submissions` with TLS "
            "from the start; `http` and `https` serve `services`."
        ),
    ]
    addresses: Annotated[
        tuple[str, ...], Meta(description="Such as `0.0.0.0:25` and `[::]:25`; port 0 lets the system choose.")
    ]
    tls: Annotated[str, Meta(description="Name of the `[tls.NAME]` to use; empty offers no TLS.")] = ""
    require_tls_for_auth: Annotated[
        bool, Meta(description="Whether logins are refused in plaintext (submission and http).")
    ] = True
    require_starttls: Annotated[bool, Meta(description="Whether MAIL is refused in plaintext.")] = False
    max_message_octets: Annotated[int, Meta(ge=1024, description="Largest message that is taken, in octets.")] = (
        104857600
    )
    max_connections: Annotated[int, Meta(ge=1, description="Connections open at once.")] = 1000
    max_connections_per_minute: Annotated[
        tuple[Limit, Limit, Limit],
        Meta(
            description="New connections per minute from one address, from its network (/26, /48), and from the larger "
            "network around that (/21, /32); 0 is no limit."
        ),
    ] = (300, 900, 2700)
    max_connections_per_network: Annotated[
        tuple[Limit, Limit, Limit],
        Meta(description="Connections open at once from the same three; 0 is no limit."),
    ] = (30, 90, 270)
    proxy_protocol_from: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks of proxies: connections from there must begin with a PROXY protocol header (1 or 2) "
            "and it is believed."
        ),
    ] = ()
    relay_networks: Annotated[
        tuple[str, ...], Meta(description="Clients in these networks submit without a login, as `relay_account`.")
    ] = ()
    relay_account: Annotated[str, Meta(description="Name of the account that `relay_networks` submit as.")] = ""
    services: Annotated[
        dict[str, str],
        Meta(description='Web services by name with their path: `{ webapi = "/webapi/" }` (http and https).'),
    ] = {}
    limit_requests: Annotated[
        bool, Meta(description="Whether the requests of one address, or the network around it, are limited (http).")
    ] = True
    is_behind_proxy: Annotated[
        bool,
        Meta(
            description="Whether a reverse proxy is in front, whose `X-Forwarded-For` tells the client's address (http "
            "and https). Connections of one network are then not limited."
        ),
    ] = False
    catch_all_account: Annotated[
        str,
        Meta(
            description="Account that gets mail for every address that is not known, at any domain, on a `smtp` "
            "listener of a development server; empty refuses it."
        ),
    ] = ""
    special_recipients: Annotated[
        bool,
        Meta(description="Local parts such as `permerror` and `user451` answer as they say; localserve sets it."),
    ] = False


class StaticConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    hostname: Annotated[
        str, Meta(description="The server's own name: in greetings, trace fields and Message-Ids. A name in DNS.")
    ]
    data_dir: Annotated[
        str, Meta(description="Directory of the database and the control socket; relative to the file.")
    ]
    log: Annotated[LogConfig, Meta(description="Logging.")] = LogConfig()
    store: Annotated[StoreConfig, Meta(description="The database.")] = StoreConfig()
    plugins: Annotated[PluginsConfig, Meta(description="Plugins.")] = PluginsConfig()
    plugin: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="Configuration of plugins, by name; `mailcrane plugins show NAME` lists the keys."),
    ] = {}
    transports: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="Transports, by name. `type` says which kind; the other keys are that kind's own."),
    ] = {}
    queue: Annotated[QueueConfig, Meta(description="The queue.")] = QueueConfig()
    webhooks: Annotated[WebhooksConfig, Meta(description="Webhook calls.")] = WebhooksConfig()
    dns: Annotated[DNSConfig, Meta(description="Names.")] = DNSConfig()
    auth: Annotated[AuthConfig, Meta(description="Logins.")] = AuthConfig()
    tls: Annotated[dict[str, CertificateConfig], Meta(description="Certificates, by name.")] = {}
    listeners: Annotated[dict[str, ListenerConfig], Meta(description="Listeners, by name.")] = {}

    @property
    def store_path(self) -> str:
        """The database file."""
        return self.store.path or str(Path(self.data_dir) / "mailcrane.db")

    @property
    def control_path(self) -> str:
        """The control socket."""
        return str(Path(self.data_dir) / "control")


def load(path: str | Path) -> StaticConfig:
    """Read and check a file. Relative paths in it are taken from the directory it is in.

    Raises:
        ConfigError: it cannot be read, is not TOML, or does not hold together.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "Name the file with --config") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8", "Save it as UTF-8") from None
    return parse(text, source=str(path), base_dir=path.absolute().parent)


def parse(text: str, *, source: str = "mailcrane.toml", base_dir: str | Path = ".") -> StaticConfig:
    """Check the text of a file.

    Args:
        text: TOML.
        source: What errors call the file.
        base_dir: What relative paths are taken from.

    Raises:
        ConfigError: it is not TOML or does not hold together.
    """
    try:
        config = convert(tomllib.loads(text), StaticConfig, "")
        config = _with_absolute_paths(config, Path(base_dir))
        _check(config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, f"is not TOML: {error}", "Correct the line") from None
    except ConfigError as error:
        error.source = source
        raise
    return msgspec.structs.replace(config, hostname=parse_domain(config.hostname))


def split_address(text: str) -> tuple[str, int]:
    """Split a listener's address into the IP address and the port.

    Raises:
        ValueError: it is not ``IPv4:port`` or ``[IPv6]:port``.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise ValueError("no port at the end")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    return str(ipaddress.IPv4Address(host)), int(port)


def split_server(text: str) -> tuple[str, int]:
    """Split a DNS server into its IP address and its port, 53 by default.

    Raises:
        ValueError: it is not an IP address with or without a port.
    """
    try:
        return str(ipaddress.ip_address(text)), _DNS_PORT
    except ValueError:
        return split_address(text)


def _with_absolute_paths(config: StaticConfig, base: Path) -> StaticConfig:
    def absolute(name: str) -> str:
        return str(base / name) if name else ""

    if not config.data_dir:
        raise ConfigError("data_dir", '"" is not a directory', "Name a directory")
    return msgspec.structs.replace(
        config,
        data_dir=absolute(config.data_dir),
        store=StoreConfig(path=absolute(config.store.path)),
        tls={
            name: CertificateConfig(absolute(certificate.cert_file), absolute(certificate.key_file))
            for name, certificate in config.tls.items()
        },
    )


def _check(config: StaticConfig) -> None:
    try:
        parse_domain(config.hostname)
    except AddressError as error:
        raise ConfigError(
            "hostname", f'"{config.hostname}" is not a host name: {error}', "Write a name such as mail.example.org"
        ) from None
    check_networks("webhooks.allow_networks", config.webhooks.allow_networks)
    _check_dns(config.dns)
    seen: set[str] = set()
    for index, name in enumerate(config.plugins.enabled):
        if name in seen:
            raise ConfigError(f"plugins.enabled[{index}]", f'"{name}" is there twice', "Remove one")
        seen.add(name)
    for name, section in config.transports.items():
        if not isinstance(section.get("type"), str):
            raise ConfigError(join_key("transports", name), "has no type", 'Add type = "…", such as "smtp"')
    default = config.queue.default_transport
    if default and default not in config.transports:
        raise ConfigError(
            "queue.default_transport",
            f'there is no transport "{default}"',
            f"Add [transports.{default}] or name one of: {', '.join(sorted(config.transports)) or '(there is none)'}",
        )
    taken: dict[tuple[str, int], str] = {}
    for name, listener in config.listeners.items():
        _check_listener(config, name, listener, taken)


def _check_dns(config: DNSConfig) -> None:
    for index, text in enumerate(config.servers):
        try:
            split_server(text)
        except ValueError:
            raise ConfigError(
                f"dns.servers[{index}]",
                f'"{text}" is not an IP address, with or without a port',
                'Write "192.0.2.53" or "[2001:db8::53]:53"',
            ) from None
    for index, text in enumerate(config.trusted):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ConfigError(f"dns.trusted[{index}]", f'"{text}" is not an IP address', 'Write "192.0.2.53"') from None


def _check_listener(
    config: StaticConfig, name: str, listener: ListenerConfig, taken: dict[tuple[str, int], str]
) -> None:
    path = join_key("listeners", name)
    if not listener.addresses:
        raise ConfigError(f"{path}.addresses", "is empty", 'Write at least one, such as ["0.0.0.0:25"]')
    for index, text in enumerate(listener.addresses):
        try:
            address = split_address(text)
        except ValueError:
            raise ConfigError(
                f"{path}.addresses[{index}]",
                f'"{text}" is not an address with a port',
                'Write "192.0.2.1:25" or "[2001:db8::1]:25"',
            ) from None
        if address[1] != 0 and address in taken:
            raise ConfigError(
                f"{path}.addresses[{index}]", f'"{text}" is taken by {taken[address]}', "Choose another port"
            )
        taken[address] = path
    _check_fields_fit(path, listener)
    if listener.tls and listener.tls not in config.tls:
        raise ConfigError(
            f"{path}.tls",
            f'there is no certificate "{listener.tls}"',
            f"Add [tls.{listener.tls}] with cert_file and key_file",
        )
    if listener.protocol in _TLS_FROM_THE_START and not listener.tls:
        raise ConfigError(f"{path}.tls", f"is missing, and {listener.protocol} is always with TLS", "Name a [tls.NAME]")
    if listener.require_starttls and not listener.tls:
        raise ConfigError(f"{path}.require_starttls", "is true without a certificate", f"Set {path}.tls")
    if listener.protocol == "submission" and listener.require_tls_for_auth and not listener.tls:
        raise ConfigError(
            f"{path}.require_tls_for_auth",
            "is true without a certificate, so nobody could log in",
            f"Set {path}.tls, or require_tls_for_auth = false",
        )
    _check_services(f"{path}.services", listener.services)
    check_networks(f"{path}.proxy_protocol_from", listener.proxy_protocol_from)
    check_networks(f"{path}.relay_networks", listener.relay_networks)
    if bool(listener.relay_networks) != bool(listener.relay_account):
        missing = "relay_account" if listener.relay_networks else "relay_networks"
        raise ConfigError(f"{path}.{missing}", "is missing", "Set both relay_networks and relay_account, or none")


def _check_services(path: str, services: dict[str, str]) -> None:
    taken: dict[str, str] = {}
    for service, service_path in services.items():
        key = join_key(path, service)
        if not service_path.startswith("/"):
            raise ConfigError(key, f'"{service_path}" does not begin with a slash', f'Write "/{service_path}"')
        segments = service_path.strip("/").split("/")
        if service_path.strip("/") and not set(segments).isdisjoint({"", ".", ".."}):
            raise ConfigError(key, f'"{service_path}" has an empty or dot segment', 'Write a path such as "/webapi/"')
        other = taken.setdefault("/".join(segments), service)
        if other != service:
            raise ConfigError(key, f'"{service_path}" is the path of {other}', "Choose another path")


def _check_fields_fit(path: str, listener: ListenerConfig) -> None:
    defaults = ListenerConfig(listener.protocol, listener.addresses)
    for name, protocols in _FIELD_IS_FOR.items():
        if listener.protocol not in protocols and getattr(listener, name) != getattr(defaults, name):
            raise ConfigError(
                f"{path}.{name}",
                f"is not for {listener.protocol}",
                f"Remove it, or move it to a listener for {', '.join(sorted(protocols))}",
            )


def check_networks(key_path: str, networks: Iterable[str]) -> None:
    """Check that each text is a network such as ``10.0.0.0/8`` or ``2001:db8::/32``.

    Raises:
        ConfigError: one is not.
    """
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ConfigError(
                f"{key_path}[{index}]", f'"{network}" is not a network: {error}', 'Write it as "10.0.0.0/8"'
            ) from None
