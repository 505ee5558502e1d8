"""A development server in a directory of its own: any address is taken, and every message and webhook can be looked at.

On its first run it writes ``mailcrane.toml`` and a self-signed certificate, and makes the domain ``localhost`` with the
account ``mox`` (login ``mox@localhost``, password ``moxmoxmox``). The file may be edited; it is not written again.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from msgspec.structs import replace

from mailcrane.config.rows import Account, Address, Configuration, DKIMKey, Domain, Settings, Webhook
from mailcrane.config.static import ListenerConfig, StaticConfig, split_address
from mailcrane.observe.secret import Secret
from mailcrane.run.shown import Reached
from mailcrane.tls.certificate import make_self_signed

ACCOUNT = "mox"
LOGIN = "mox@localhost"
PASSWORD = "moxmoxmox"
CONFIG_NAME = "mailcrane.toml"

WEBHOOK_SECRET = "whsec_bWFpbGNyYW5lIGxvY2Fsc2VydmUgc2VjcmV0"
"""Signs the webhooks of the account until somebody sets another; nothing that is known to everybody is a secret."""

PORT_BASE = 1000
"""What is added to the well-known ports: 1025 for SMTP, 1080 for HTTP."""

_THREE_DAYS_SECONDS = 72 * 3600

# Where this server's own catcher can be; see `on_this_machine`.
_CATCHER = re.compile(r"http://(?:127\.[0-9.]+|\[::1\]):\d+/hooks/\Z")

_CONFIG = """\
# A development server, made by `mailcrane localserve`. `mailcrane config describe` explains every field.
hostname = "localhost"
data_dir = "data"

[auth]
legacy = true

[plugins]
enabled = ["transports", "webapi"]

# What is queued is delivered to this server's own SMTP listener, whatever its domain.
[transports.local]
type = "local"

# A message that is deferred is tried again after a second, then after two, four and so on.
[queue]
default_transport = "local"
retry_interval_seconds = 1

[webhooks]
retry_interval_seconds = 1
allow_networks = ["127.0.0.0/8", "::1/128"]

[tls.localhost]
cert_file = "localhost.crt"
key_file = "localhost.key"

[listeners.smtp]
protocol = "smtp"
addresses = ["127.0.0.1:1025", "[::1]:1025"]
tls = "localhost"
catch_all_account = "mox"
special_recipients = true
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.submission]
protocol = "submission"
addresses = ["127.0.0.1:1587", "[::1]:1587"]
tls = "localhost"
require_tls_for_auth = false
special_recipients = true
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.submissions]
protocol = "submissions"
addresses = ["127.0.0.1:1465", "[::1]:1465"]
tls = "localhost"
special_recipients = true
max_connections_per_minute = [0, 0, 0]
max_connections_per_network = [0, 0, 0]

[listeners.http]
protocol = "http"
addresses = ["127.0.0.1:1080", "[::1]:1080"]
require_tls_for_auth = false
limit_requests = false
services = { webapi = "/webapi/", messages = "/messages/", hooks = "/hooks/" }

[listeners.https]
protocol = "https"
addresses = ["127.0.0.1:1443", "[::1]:1443"]
tls = "localhost"
limit_requests = false
services = { webapi = "/webapi/", messages = "/messages/", hooks = "/hooks/" }

[listeners.metrics]
protocol = "http"
addresses = ["127.0.0.1:1081", "[::1]:1081"]
limit_requests = false
services = { metrics = "/metrics/", health = "/health/" }
"""


class Addresses(Struct, frozen=True):
    """Where a development server is reached; each is ``ip:port`` of the first address of a listener, or empty.

    Attributes:
        metrics: Of the listener with the service ``metrics``.
        messages_path: Where the service ``messages`` is on `http`; empty where it is not.
        hooks_path: Where the service ``hooks`` is on `http`; empty where it is not.
    """

    smtp: str
    submission: str
    submissions: str
    http: str
    https: str
    metrics: str
    messages_path: str = ""
    hooks_path: str = ""

    @property
    def messages_url(self) -> str:
        """Where delivered messages are looked at; empty without the service."""
        return f"http://{self.http}{self.messages_path}" if self.messages_path else ""

    @property
    def hooks_url(self) -> str:
        """Where webhooks are caught and looked at; empty without the service."""
        return f"http://{self.http}{self.hooks_path}" if self.hooks_path else ""


class Ports(Struct, frozen=True):
    """Which ports a development server listens on, if not those of its file.

    Attributes:
        base: Moves all ports by its distance to `PORT_BASE`; 0 leaves them.
        is_free: The system chooses each port; `base` does not count then.
    """

    base: int = 0
    is_free: bool = False


AS_IN_FILE = Ports()


def default_directory() -> Path:
    """``$XDG_CONFIG_HOME/mailcrane-localserve``, by default in ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "mailcrane-localserve"


def set_up(directory: Path) -> bool:
    """Write what is missing in the directory; returns whether this is its first run."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key = directory / "localhost.crt", directory / "localhost.key"
    if not (certificate.exists() and key.exists()):
        certificate_pem, key_pem = make_self_signed(["localhost", "127.0.0.1", "::1"], days=3650)
        _write(key, key_pem, 0o600)
        _write(certificate, certificate_pem, 0o644)
    config = directory / CONFIG_NAME
    if config.exists():
        return False
    _write(config, _CONFIG.encode(), 0o644)
    return True


def initial_configuration(hooks_url: str) -> Configuration:
    """The rows of a new development server: one domain, one account that takes everything, one signing key.

    Args:
        hooks_url: Where the account's webhooks go; empty for nowhere.
    """
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Configuration(
        settings=Settings(postmaster_account=ACCOUNT),
        domains=(Domain("localhost", description="for development"),),
        accounts=(
            Account(
                ACCOUNT,
                "localhost",
                outgoing_webhook=Webhook(hooks_url, secrets=(Secret(WEBHOOK_SECRET),)) if hooks_url else None,
                keep_retired_messages_seconds=_THREE_DAYS_SECONDS,
                keep_retired_webhooks_seconds=_THREE_DAYS_SECONDS,
                # A test run may send what no person does in a day.
                max_outgoing_messages_per_day=0,
                max_first_time_recipients_per_day=0,
            ),
        ),
        addresses=(Address(LOGIN, ACCOUNT), Address("@localhost", ACCOUNT)),
        dkim_keys=(DKIMKey("localhost", "localserve", "ed25519", Secret(key.decode())),),
    )


def with_hooks_at(configuration: Configuration, hooks_url: str) -> Configuration | None:
    """Return the rows with the account's webhooks at another catcher of a development server; None to leave them.

    The server may listen on another address than the last time. A URL that somebody has set is left alone.
    """
    for index, account in enumerate(configuration.accounts):
        hook = account.outgoing_webhook
        if (
            account.name == ACCOUNT
            and hook is not None
            and hooks_url not in {"", hook.url}
            and _CATCHER.match(hook.url)
        ):
            moved = replace(account, outgoing_webhook=replace(hook, url=hooks_url))
            accounts = (*configuration.accounts[:index], moved, *configuration.accounts[index + 1 :])
            return replace(configuration, accounts=accounts)
    return None


def on_this_machine(config: StaticConfig, ip: str = "", ports: Ports = AS_IN_FILE) -> StaticConfig:
    """Return the configuration with addresses that can be bound here.

    Args:
        config: As read from the file.
        ip: Replaces the address of every listener, with the port of its first one. Otherwise IPv6 addresses are left
            out where the machine has no IPv6.
        ports: Replace those of the file.

    Raises:
        ValueError: `ip` is no address, or a port would be none.
    """
    listeners = dict(config.listeners)
    if ip:
        address = ipaddress.ip_address(ip)
        listeners = {
            name: replace(one, addresses=(_join(str(address), _port(one)),)) for name, one in listeners.items()
        }
        config = replace(
            config,
            transports={name: _local_at(section, str(address)) for name, section in config.transports.items()},
            webhooks=replace(config.webhooks, allow_networks=(*config.webhooks.allow_networks, str(address))),
        )
    elif not has_ipv6():
        listeners = {
            name: replace(one, addresses=tuple(text for text in one.addresses if not text.startswith("[")))
            for name, one in listeners.items()
        }
        listeners = {name: one for name, one in listeners.items() if one.addresses}
    if ports.is_free or ports.base:
        listeners = {name: replace(one, addresses=_at_ports(one.addresses, ports)) for name, one in listeners.items()}
    return replace(config, listeners=listeners)


def as_bound(
    config: StaticConfig, bound: Mapping[str, Sequence[tuple[str, int]]], ports: Ports = AS_IN_FILE
) -> StaticConfig:
    """Return the configuration with the addresses that were bound.

    Args:
        bound: By listener, in the order of its addresses.
        ports: As given to `on_this_machine`. Where they are not those of the file, local transports follow the first
            SMTP listener.
    """
    listeners = {
        name: replace(one, addresses=tuple(_join(host, port) for host, port in bound[name]))
        for name, one in config.listeners.items()
    }
    transports = config.transports
    smtp = next((one for one in listeners.values() if one.protocol == "smtp"), None)
    if smtp is not None and ports != AS_IN_FILE:
        transports = {name: _local_at(section, port=_port(smtp)) for name, section in transports.items()}
    return replace(config, listeners=listeners, transports=transports)


def has_ipv6() -> bool:
    """Whether ``::1`` can be bound."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def addresses_of(config: StaticConfig) -> Addresses:
    """Say where each protocol and service is reached, by the first listener that has it."""

    def first(is_wanted: Callable[[ListenerConfig], bool]) -> str:
        return next((one.addresses[0] for one in config.listeners.values() if one.addresses and is_wanted(one)), "")

    http = next((one for one in config.listeners.values() if one.protocol == "http" and "webapi" in one.services), None)
    services = {} if http is None else http.services
    return Addresses(
        smtp=first(lambda one: one.protocol == "smtp"),
        submission=first(lambda one: one.protocol == "submission"),
        submissions=first(lambda one: one.protocol == "submissions"),
        http=first(lambda one: one is http),
        https=first(lambda one: one.protocol == "https" and "webapi" in one.services),
        metrics=first(lambda one: one.protocol == "http" and "metrics" in one.services),
        messages_path=services.get("messages", ""),
        hooks_path=services.get("hooks", ""),
    )


def missing_services(config: StaticConfig) -> tuple[str, ...]:
    """Return services that a new file has and this one, of an earlier release, has not: ``name = "/path/"`` each."""
    listener = next(
        (one for one in config.listeners.values() if one.protocol == "http" and "webapi" in one.services), None
    )
    if listener is None:
        return ()
    return tuple(f'{name} = "/{name}/"' for name in ("messages", "hooks") if name not in listener.services)


def greeting(addresses: Addresses, directory: Path) -> str:
    """What is printed when the server is ready: where it is, how to log in, and a line to try."""
    request = (
        '{"From": [{"Address": "mox@localhost"}], "To": [{"Address": "you@example.org"}], '
        '"Subject": "hello", "Text": "It works."}'
    )
    lines = [
        f"mailcrane localserve is ready. Directory: {directory}",
        "",
        f"  SMTP, any recipient   {addresses.smtp}",
        f"  submission            {addresses.submission}    (STARTTLS offered, not required)",
        f"  submission, TLS       {addresses.submissions}",
        f"  webapi                http://{addresses.http}/webapi/    https://{addresses.https}/webapi/",
        *([f"  messages, delivered   {addresses.messages_url}"] if addresses.messages_path else ()),
        *([f"  webhooks, caught      {addresses.hooks_url}"] if addresses.hooks_path else ()),
        *([f"  metrics               http://{addresses.metrics}/metrics/"] if addresses.metrics else ()),
        "",
        f"  login {LOGIN}   password {PASSWORD}",
        "",
        "Try it:",
        "",
        f"  curl -u {LOGIN}:{PASSWORD} --data-urlencode 'request={request}' \\",
        f"    http://{addresses.http}/webapi/v0/Send",
        *([f"  curl '{addresses.messages_url}?to=you@example.org&timeout=10'"] if addresses.messages_path else ()),
        "",
        "A recipient that ends in temperror, permerror, timeout or three digits (400 to 599) fails in that way;",
        "with x2 after it twice, and is then accepted: ann-451x2@example.org, or ann-451x2-550@example.org.",
    ]
    return "\n".join(lines)


def reached(addresses: Addresses, directory: Path) -> Reached:
    """Say for programs what `greeting` says for people."""
    return Reached(
        directory=str(directory.absolute()),
        smtp=split_address(addresses.smtp),
        submission=split_address(addresses.submission),
        submissions=split_address(addresses.submissions),
        webapi_url=f"http://{addresses.http}/webapi/",
        messages_url=addresses.messages_url,
        hooks_url=addresses.hooks_url,
        login=LOGIN,
        password=PASSWORD,
        webhook_secret=WEBHOOK_SECRET,
        certificate=str(directory.absolute() / "localhost.crt"),
    )


def _at_ports(addresses: tuple[str, ...], ports: Ports) -> tuple[str, ...]:
    if ports.is_free:
        # Of two addresses each would get a port of its own, and nobody could say "the port".
        return (_join(split_address(addresses[0])[0], 0),)
    moved = []
    for host, port in map(split_address, addresses):
        to = port + ports.base - PORT_BASE
        if not 0 < to < 65536:
            raise ValueError(f"port {port} would become {to}")
        moved.append(_join(host, to))
    return tuple(moved)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _local_at(section: dict[str, Any], host: str = "", port: int = 0) -> dict[str, Any]:
    if section.get("type") != "local":
        return section
    return {**section, **({"host": host} if host else {}), **({"port": port} if port else {})}


def _port(listener: ListenerConfig) -> int:
    return split_address(listener.addresses[0])[1]


def _write(path: Path, octets: bytes, mode: int) -> None:
    """Write a new file whole: what is interrupted leaves no half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
    temporary.replace(path)
