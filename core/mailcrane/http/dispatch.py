"""One ASGI application per listener: finds the service for a request by its path.

It cleans paths, gives every request an id and a client address, limits requests per network, adds the security
headers of our own pages, and keeps an application's failure to its request. Names in ``Host`` are not looked at.
"""

from __future__ import annotations

import ipaddress
import posixpath
import secrets
from collections.abc import Iterable
from urllib.parse import quote

import trio
from msgspec import Struct

from mailcrane.http.app import (
    ASGIApp,
    Message,
    Receive,
    RequestContext,
    Scope,
    Send,
    drain,
    header,
    respond,
    set_request_context,
)
from mailcrane.model.session import SessionInfo, TLSInfo
from mailcrane.observe.limits import WindowLimiter
from mailcrane.observe.log import get_log

log = get_log(__name__)

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-frame-options", b"deny"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline' data:"),
    (b"referrer-policy", b"same-origin"),
)

TLS_INFO_KEY = "mailcrane.tls"
"""Where the server puts the connection's `TLSInfo` into the scope."""

# What is read of a body that nobody wants, so that the client sees the response.
_DRAIN_OCTETS = 256 * 1024


class Mount(Struct, frozen=True):
    """A service at a path.

    Attributes:
        path: Begins and ends with a slash.
        is_internal: Whether responses get the security headers.
    """

    path: str
    service: str
    app: ASGIApp
    is_internal: bool = True


class Dispatcher:
    """The ASGI application of one listener."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        *,
        listener: str,
        limiter: WindowLimiter | None = None,
        is_forwarded: bool = False,
        require_tls_for_auth: bool = False,
    ) -> None:
        """Mount services.

        Args:
            mounts: No two with the same path.
            listener: The listener's name, for sessions and logs.
            limiter: Counts requests per network, shared by listeners; None does not limit.
            is_forwarded: Take the client's address from ``X-Forwarded-For``, which a reverse proxy in front must set.
            require_tls_for_auth: Tell applications to refuse logins in plaintext.

        Raises:
            ValueError: a path does not begin and end with a slash, or is mounted twice.
        """
        self._mounts = sorted(mounts, key=lambda mount: len(mount.path), reverse=True)
        paths = [mount.path for mount in self._mounts]
        for path in paths:
            if not (path.startswith("/") and path.endswith("/")) or clean_path(path) != path:
                raise ValueError(f"path {path!r} must begin and end with a slash and have no empty or dot segments")
            if paths.count(path) > 1:
                raise ValueError(f"path {path!r} is mounted twice")
        self._listener = listener
        self._limiter = limiter
        self._is_forwarded = is_forwarded
        self._require_tls_for_auth = require_tls_for_auth

    @property
    def apps(self) -> tuple[ASGIApp, ...]:
        """The mounted applications, for their lifespan."""
        return tuple(mount.app for mount in self._mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            # No service speaks it; closing before accepting is answered with 403.
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            return
        response = _Response(send)
        begin = trio.current_time()
        client_ip = self._client_ip(scope)
        service = await self._handle(scope, receive, response, client_ip)
        if log.is_debug():
            self._log_access(scope, response, service, client_ip, trio.current_time() - begin)

    async def _handle(self, scope: Scope, receive: Receive, response: _Response, client_ip: str | None) -> str:
        """Answer, and return the service's name for the log."""
        if client_ip is None:
            await self._refuse(receive, response, 500)
            return "(no client address)"
        if header(scope, b"transfer-encoding") is not None and header(scope, b"content-length") is not None:
            # RFC 9112 section 6.3: may be an attempt to smuggle a request past a proxy, which may have believed the
            # length. What follows on the connection is not to be read as a request.
            await self._refuse(receive, response, 400, ((b"connection", b"close"),))
            return "(bad framing)"
        if self._limiter is not None and not self._limiter.add(client_ip):
            await self._refuse(receive, response, 429)
            return "(ratelimited)"
        path = scope["path"] = clean_path(scope["path"])
        for mount in self._mounts:
            if path.startswith(mount.path):
                await self._run(mount, scope, receive, response, client_ip)
                return mount.service
            if path == mount.path[:-1]:
                query = b"?" + scope["query_string"] if scope["query_string"] else b""
                location = quote(mount.path).encode("ascii") + query
                await self._refuse(receive, response, 303, ((b"location", location),))
                return mount.service
        await self._refuse(receive, response, 404)
        return "(nomatch)"

    async def _run(self, mount: Mount, scope: Scope, receive: Receive, response: _Response, client_ip: str) -> None:
        scope["root_path"] = mount.path[:-1]
        tls: TLSInfo | None = scope.get(TLS_INFO_KEY)
        remote, local = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
        session = SessionInfo(
            id=secrets.token_urlsafe(12),
            protocol="http",
            listener=self._listener,
            remote_ip=client_ip,
            remote_port=remote[1] if remote[0] == client_ip else 0,
            local_ip=local[0],
            local_port=local[1] or 0,
            tls=tls,
        )
        response.session_id = session.id
        response.is_internal = mount.is_internal
        set_request_context(scope, RequestContext(session, tls is not None or not self._require_tls_for_auth))
        try:
            await mount.app(scope, receive, response.send)
        except Exception:
            log.exception("web application failed", service=mount.service, session=session.id, path=scope["path"])
            if not response.status:
                await respond(response.send, 500)

    async def _refuse(
        self, receive: Receive, response: _Response, status: int, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        await drain(receive, _DRAIN_OCTETS)
        await respond(response.send, status, headers=headers)

    def _client_ip(self, scope: Scope) -> str | None:
        """The client's address in canonical form, or None where it cannot be known."""
        if self._is_forwarded:
            value = header(scope, b"x-forwarded-for") or b""
            text = value.partition(b",")[0].strip().decode("latin-1")
        else:
            client = scope.get("client")
            text = client[0] if client else ""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(address)

    def _log_access(
        self, scope: Scope, response: _Response, service: str, client_ip: str | None, duration: float
    ) -> None:
        log.debug(
            "http request",
            listener=self._listener,
            session=response.session_id,
            service=service,
            method=scope["method"],
            path=scope["path"],
            host=(header(scope, b"host") or b"").decode("latin-1"),
            status=response.status,
            size_octets=response.size_octets,
            duration=round(duration, 6),
            version=scope.get("http_version", ""),
            remote_ip=client_ip or "",
            user_agent=(header(scope, b"user-agent") or b"").decode("latin-1"),
        )


class _Response:
    """Passes a response on, adding headers and remembering what the log wants to know."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_internal = True
        self.status = 0
        self.size_octets = 0
        self.session_id = ""

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = int(message["status"])
            if self.is_internal:
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
        elif kind == "http.response.body":
            self.size_octets += len(message.get("body", b""))
        await self._send(message)


def clean_path(path: str) -> str:
    """Return a path without empty and dot segments; a slash at its end stays."""
    if "//" not in path and "/." not in path and path.startswith("/"):
        return path
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    if cleaned != "/" and path.endswith(("/", "/.", "/..")):
        cleaned += "/"
    return cleaned
