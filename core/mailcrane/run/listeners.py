"""Makes the listeners that ``mailcrane.toml`` asks for. Their sockets are bound here, before anything is started."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from msgspec.structs import replace

from mailcrane.config.convert import ConfigError, join_key
from mailcrane.config.static import ListenerConfig, StaticConfig, split_address
from mailcrane.listener.limits import ConnectionLimits
from mailcrane.listener.smtp import BACKLOG, ListenerSettings, SMTPListener
from mailcrane.receive.incoming import IncomingReceiver
from mailcrane.session.settings import Network, SessionSettings
from mailcrane.session.smtp import SessionProfile, SessionServices
from mailcrane.tls.certificate import CertificateAndKey, CertificateError
from mailcrane.tls.context import ServerTLS, UnknownServerName, choose_alpn

if TYPE_CHECKING:
    from mailcrane.http.app import ASGIApp, HTTPApp, Receive, Scope, Send
    from mailcrane.http.server import HTTPListener

_HANDSHAKE_SECONDS = 60.0


def load_certificates(config: StaticConfig) -> dict[str, CertificateAndKey]:
    """Read the certificates of ``[tls]``.

    Raises:
        ConfigError: a file cannot be read or used.
    """
    certificates = {}
    for name, files in config.tls.items():
        path = join_key("tls", name)
        try:
            certificates[name] = CertificateAndKey.from_pem(
                Path(files.cert_file).read_bytes(), Path(files.key_file).read_bytes()
            )
        except OSError as error:
            raise ConfigError(path, f"{error.filename} cannot be read: {error.strerror}", "Name another file") from None
        except CertificateError as error:
            raise ConfigError(path, str(error), "Name the files of a certificate and its private key") from None
    return certificates


def make_smtp_listener(
    config: StaticConfig,
    name: str,
    services: SessionServices,
    certificates: Mapping[str, CertificateAndKey],
) -> SMTPListener:
    """Make an SMTP listener; it is not bound yet.

    Args:
        config: The whole file.
        name: Of the listener.
        services: For its sessions; `SessionServices.incoming` and `SessionServices.tls` are set here.
        certificates: From `load_certificates`.
    """
    listener = config.listeners[name]
    if listener.protocol not in {"smtp", "submission", "submissions"}:
        raise ValueError(f"listener {name} does not speak SMTP")
    is_mx = listener.protocol == "smtp"
    tls = None
    if listener.tls:
        # A server that relays to us must not fail because of the name it asks for; it would fall back to plaintext.
        unknown = UnknownServerName.FALL_BACK if is_mx else UnknownServerName.REFUSE
        tls = ServerTLS(
            [certificates[listener.tls]],
            unknown_server_name=unknown,
            session_tickets=not is_mx,
            handshake_timeout=_HANDSHAKE_SECONDS,
        )
    incoming = IncomingReceiver(
        services.store,
        services.hooks,
        hostname=config.hostname,
        relay_account=listener.relay_account,
        is_held=config.queue.hold_new_entries,
    )
    settings = SessionSettings(
        listener=name,
        protocol=listener.protocol,
        hostname=config.hostname,
        max_message_octets=listener.max_message_octets,
        is_legacy_auth=config.auth.legacy,
        require_tls_for_auth=listener.require_tls_for_auth,
        require_starttls=listener.require_starttls,
        relay_networks=_networks(listener.relay_networks),
        relay_account=listener.relay_account,
        catch_all_account=listener.catch_all_account,
        has_special_recipients=listener.special_recipients,
    )
    profile = SessionProfile.make(replace(services, incoming=incoming, tls=tls), settings)
    return SMTPListener(
        profile,
        ListenerSettings(
            listener.max_connections,
            listener.max_connections_per_minute,
            listener.max_connections_per_network,
            _networks(listener.proxy_protocol_from),
        ),
    )


def bind_smtp(config: StaticConfig, name: str, listener: SMTPListener) -> None:
    """Bind an SMTP listener.

    Raises:
        ConfigError: an address cannot be bound.
    """
    for text in config.listeners[name].addresses:
        try:
            listener.bind([split_address(text)])
        except OSError as error:
            raise _cannot_bind(name, text, error) from None


def bind_http(config: StaticConfig, name: str) -> list[trio.SocketListener]:
    """Bind the sockets of an HTTP listener.

    Raises:
        ConfigError: an address cannot be bound.
    """
    bound = []
    for text in config.listeners[name].addresses:
        host, port = split_address(text)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((host, port))
            one.listen(BACKLOG)
        except OSError as error:
            one.close()
            raise _cannot_bind(name, text, error) from None
        bound.append(trio.SocketListener(trio.socket.from_stdlib_socket(one)))
    return bound


class WebServices:
    """The web applications that listeners may mount, each made once."""

    def __init__(self, apps: Mapping[str, HTTPApp]) -> None:
        self._apps = dict(apps)
        self._made: dict[str, _Served] = {}

    def check(self, config: StaticConfig) -> None:
        """Check that every service that a listener names exists.

        Raises:
            ConfigError: one does not.
        """
        for name, listener in config.listeners.items():
            for service in listener.services:
                if service not in self._apps:
                    raise ConfigError(
                        join_key(f"{join_key('listeners', name)}.services", service),
                        f'there is no web service "{service}"',
                        f"Enable the plugin that has it, or name one of: {', '.join(sorted(self._apps)) or 'none'}",
                    )

    def app(self, service: str) -> ASGIApp:
        """Return the application of a service; it is made with the first call."""
        if service not in self._made:
            self._made[service] = _Served(self._apps[service].make())
        return self._made[service]

    async def start(self, nursery: trio.Nursery, until: AsyncExitStack) -> None:
        """Tell the applications that were made that the server starts, and when `until` ends that it stops.

        Args:
            nursery: Outlives them.

        Raises:
            LifespanFailed: one cannot start.
        """
        from mailcrane.http.lifespan import Lifespan  # noqa: PLC0415

        for served in self._made.values():
            lifespan = await until.enter_async_context(Lifespan(served.app, nursery))
            served.state = lifespan.state

    def is_internal(self, service: str) -> bool:
        """Whether responses carry the security headers of our own pages."""
        return self._apps[service].is_internal


class _Served:
    """An application with what it has put into the state of its lifespan, which each of its requests gets."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.state: Mapping[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.state:
            scope["state"] = {**scope.get("state", {}), **self.state}
        await self.app(scope, receive, send)


def make_http_listeners(
    config: StaticConfig,
    bound: Mapping[str, list[trio.SocketListener]],
    web: WebServices,
    certificates: Mapping[str, CertificateAndKey],
) -> list[HTTPListener]:
    """Make the HTTP listeners over their bound sockets."""
    # Loading hypercorn takes a while, which a server without web listeners need not spend.
    from mailcrane.http.dispatch import Dispatcher, Mount  # noqa: PLC0415
    from mailcrane.http.server import HTTPListener  # noqa: PLC0415
    from mailcrane.observe.limits import HTTP_REQUEST_WINDOWS, WindowLimiter  # noqa: PLC0415

    limiter = WindowLimiter(HTTP_REQUEST_WINDOWS)
    made = []
    for name, sockets in bound.items():
        listener = config.listeners[name]
        mounts = [
            Mount(path if path.endswith("/") else f"{path}/", service, web.app(service), web.is_internal(service))
            for service, path in listener.services.items()
        ]
        dispatcher = Dispatcher(
            mounts,
            listener=name,
            limiter=limiter if listener.limit_requests else None,
            is_forwarded=listener.is_behind_proxy,
            require_tls_for_auth=listener.require_tls_for_auth,
        )
        tls = None
        if listener.protocol == "https":
            tls = ServerTLS([certificates[listener.tls]], alpn=choose_alpn("h2", "http/1.1"))
        gate = ConnectionLimits(listener.max_connections_per_minute, listener.max_connections_per_network)
        made += [
            HTTPListener(
                name,
                one,
                dispatcher,
                tls,
                listener.max_connections,
                _networks(listener.proxy_protocol_from),
                gate if listener.limit_requests and not listener.is_behind_proxy else None,
            )
            for one in sockets
        ]
    return made


def listener_names(config: StaticConfig, is_wanted: Callable[[ListenerConfig], bool]) -> list[str]:
    """Return the names of the listeners that fit."""
    return [name for name, listener in config.listeners.items() if is_wanted(listener)]


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _cannot_bind(name: str, address: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{join_key('listeners', name)}.addresses",
        f'"{address}" cannot be bound: {error.strerror}',
        "Choose another address or port, or stop the program that uses it",
    )
