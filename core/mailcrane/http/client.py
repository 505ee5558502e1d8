"""The HTTP client for addresses that somebody else wrote: webhooks, policies, reports.

A name is resolved once and the address that was checked is the one that is connected to, so that an answer which
changes in between leads nowhere. There are no redirects, no proxies from the environment, no cookies, no
decompression; a response and the whole time are bounded. httpcore speaks HTTP/1.1; ours are the network below it, TLS,
the connections that are kept, and the limits.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import math
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore2 as httpcore
import trio
from msgspec import Struct

from mailcrane.http.guard import AddressGuard, IPAddress
from mailcrane.http.pool import ConnectionPool
from mailcrane.model.address import AddressError, parse_domain
from mailcrane.tls.context import ClientTLS

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_CONNECT_SECONDS = 10.0
_MAX_ADDRESSES = 4
_DRAINED_OCTETS = 16384
_MAX_UNSENT_OCTETS = 65536
# A connection kept alive may be closed by the server at any moment; a second one may be as old as the first.
_MAX_TRIES = 3
# What is outside of ASCII or not allowed in a request target is percent-encoded; what is encoded stays.
_TARGET_SAFE = "/?:@!$&'()*+,;=-._~%[]"


class HTTPClientError(Exception):
    """There is no response; the message says why and is safe to show to the owner of the URL."""


class URLRefused(HTTPClientError):
    """The URL is not one that can be fetched."""


class AddressRefused(HTTPClientError):
    """The host has only addresses that must not be reached."""


class ConnectFailed(HTTPClientError):
    """The host cannot be resolved or reached, or there is no trusted TLS with it."""


class ResponseFailed(HTTPClientError):
    """The connection was lost before a response, or the response breaks HTTP."""


class RequestTimedOut(HTTPClientError):
    """There was no whole response in time."""


class HTTPResponse(Struct, frozen=True):
    """A response.

    Attributes:
        headers: Names in lower case; of several with one name, the last.
        body: Its beginning, up to the limit that was asked for.
        is_truncated: Whether there was more.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    is_truncated: bool = False


class _Wanted(Struct, frozen=True):
    """What is wanted of a response.

    Attributes:
        octets: Of its body.
        seconds: For the body, once the header is there.
    """

    octets: int
    seconds: float = math.inf

    @property
    def drained_octets(self) -> int:
        """How much more is read and dropped, so that the connection can be used again."""
        return 0 if self.seconds == math.inf else _DRAINED_OCTETS


class GuardedClient:
    """A client with a pool of connections. Use it from any task; close it with `aclose`."""

    def __init__(
        self,
        *,
        allow_networks: Iterable[str] = (),
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        tls: ClientTLS | None = None,
        max_connections: int = 100,
    ) -> None:
        """Make a client; nothing is opened yet.

        Args:
            allow_networks: Networks, as CIDR, that may be reached although they are not global.
            resolve: Gives the addresses of a host name; None asks the system.
            connect: Opens a connection to an address and port; for tests.
            tls: None verifies certificates with the system's CAs.
            max_connections: More requests than that wait for each other.
        """
        guard = AddressGuard(allow_networks)
        network = _Network(guard, resolve or resolve_by_system, connect or _connect, tls or ClientTLS())
        self._pool = ConnectionPool(network, max_connections=max_connections)

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float = 60.0,  # noqa: ASYNC109 - bounds the whole, over tries, and has its own error
        max_response_octets: int = 65536,
        body_seconds: float = math.inf,
    ) -> HTTPResponse:
        """Post a body.

        A connection kept alive that turns out to be closed is replaced and the request sent again.

        Args:
            body_seconds: How long the body of the response is waited for, once its header is there. What has come by
                then, or until the connection was lost, is its beginning: the server has said what it has to say with
                its status. Infinity takes only a response that is whole.

        Raises:
            HTTPClientError: there is no response. Redirects and errors of the server are responses.
        """
        return await self._request(
            "POST", url, headers, body, _Wanted(max_response_octets, body_seconds), seconds=timeout
        )

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - as for post
        max_response_octets: int = 65536,
    ) -> HTTPResponse:
        """Get a resource.

        Raises:
            HTTPClientError: there is no response. Redirects and errors of the server are responses.
        """
        return await self._request("GET", url, headers or {}, b"", _Wanted(max_response_octets), seconds=timeout)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, wanted: _Wanted, *, seconds: float
    ) -> HTTPResponse:
        target, host = parse_url(url)
        fields = [(b"Host", host)]
        for name, value in headers.items():
            fields.append((name.encode("ascii"), value.encode("utf-8")))
        if body or method == "POST":
            fields.append((b"Content-Length", b"%d" % len(body)))
        with trio.move_on_after(seconds):
            return await self._try(method, target, fields, body, wanted)
        raise RequestTimedOut(f"no response within {seconds:g} s")

    async def _try(
        self, method: str, target: httpcore.URL, headers: list[tuple[bytes, bytes]], body: bytes, wanted: _Wanted
    ) -> HTTPResponse:
        tries = 0
        request = httpcore.Request(method, target, headers=headers, content=body)
        while True:
            tries += 1
            async with self._pool.lend(target) as lent:
                try:
                    response = await lent.connection.handle_async_request(request)
                except httpcore.LocalProtocolError as error:
                    raise URLRefused(f"not a valid request: {error}") from None
                except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
                    if tries < _MAX_TRIES and not lent.is_fresh:
                        continue
                    raise ResponseFailed(_words(error)) from None
                return await _read(response, wanted)


async def resolve_by_system(host: str) -> list[str]:
    """Ask the system's resolver for a host's addresses.

    Raises:
        OSError: there are none.
    """
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    # A dict keeps their order, which says which to prefer.
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.lru_cache(maxsize=1024)
def parse_url(url: str) -> tuple[httpcore.URL, bytes]:
    """Return the parts of a URL as they travel, and the value of ``Host``.

    Raises:
        URLRefused: the URL is not one that can be fetched.
    """
    if any(character <= " " or character == "\x7f" for character in url):
        raise URLRefused("the URL has a space or control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise URLRefused(f"not a URL: {error}") from None
    if parts.scheme not in {"http", "https"}:
        raise URLRefused("the URL is neither http nor https")
    if parts.username is not None or parts.password is not None:
        raise URLRefused("the URL has a user name or password; give an Authorization header instead")
    name = parts.hostname or ""
    try:
        host = str(ipaddress.ip_address(name))
    except ValueError:
        try:
            host = parse_domain(name)
        except AddressError:
            raise URLRefused("the URL has no valid host name") from None
    path = quote(parts.path or "/", safe=_TARGET_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_TARGET_SAFE)
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme]:
        shown += f":{port}"
    target = httpcore.URL(scheme=parts.scheme, host=host, port=port, target=path)
    return target, shown.encode("ascii")


async def _read(response: httpcore.Response, wanted: _Wanted) -> HTTPResponse:
    body, limit, is_whole = bytearray(), wanted.octets, False
    try:
        with trio.move_on_after(wanted.seconds):
            async with contextlib.aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limit + wanted.drained_octets:
                        break
                else:
                    is_whole = True
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        if wanted.seconds == math.inf:
            raise ResponseFailed(f"the response is not whole: {_words(error)}") from None
    finally:
        await response.aclose()
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return HTTPResponse(response.status, headers, bytes(body[:limit]), len(body) > limit or not is_whole)


def _chunks(response: httpcore.Response) -> Any:
    """The body's own iterator, an asynchronous generator, so that it can be closed before its end."""
    stream: Any = response.stream
    return aiter(stream)


class _Network(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, to addresses that may be reached."""

    def __init__(self, guard: AddressGuard, resolve: Resolve, connect: Connect, tls: ClientTLS) -> None:
        self._guard = guard
        self._resolve = resolve
        self._connect = connect
        self._tls = tls

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem = ""
        for address in (await self._addresses(host))[:_MAX_ADDRESSES]:
            with trio.move_on_after(_CONNECT_SECONDS) as scope:
                try:
                    return _NetworkStream(await self._connect(str(address), port), self._tls)
                except (OSError, trio.BrokenResourceError) as error:
                    problem = f"{address}: {_words(error)}"
            if scope.cancelled_caught:
                problem = f"{address}: no connection within {_CONNECT_SECONDS:g} s"
        raise ConnectFailed(f"cannot connect to {host} port {port}: {problem}")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _addresses(self, host: str) -> list[IPAddress]:
        try:
            found: list[IPAddress] = [ipaddress.ip_address(host)]
        except ValueError:
            try:
                found = [ipaddress.ip_address(text) for text in await self._resolve(host)]
            except OSError as error:
                raise ConnectFailed(f"cannot resolve {host}: {_words(error)}") from None
        if not found:
            raise ConnectFailed(f"cannot resolve {host}: it has no addresses")
        allowed = [address for address in found if self._guard.may_reach(address)]
        if not allowed:
            raise AddressRefused(f"{host} has no address that may be reached; {found[0]} is not a global one")
        return allowed


class _NetworkStream(httpcore.AsyncNetworkStream):
    """A connection as httpcore wants it."""

    def __init__(self, stream: trio.abc.Stream, tls: ClientTLS) -> None:
        self._stream = stream
        self._tls = tls
        self._unsent = bytearray()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        # A server may refuse without reading everything; what it says then is to be read.
        with contextlib.suppress(httpcore.WriteError):
            await self._flush()
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(_words(error)) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        # httpcore writes header and body apart; together they are one packet, and half the work on both sides.
        self._unsent += buffer
        if len(self._unsent) >= _MAX_UNSENT_OCTETS:
            await self._flush()

    async def _flush(self) -> None:
        if not self._unsent:
            return
        octets = bytes(self._unsent)
        self._unsent.clear()
        try:
            await self._stream.send_all(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(_words(error)) from None

    async def aclose(self) -> None:
        # httpcore shields this. There is nothing left to say to a server that answered, or that must not be waited for.
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        stream = self._tls.wrap(self._stream, server_hostname or "")
        try:
            await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(self._stream)
            if isinstance(error, trio.BrokenResourceError):
                raise ConnectFailed(f"no TLS with {server_hostname}: {error}") from None
            raise
        return _NetworkStream(stream, self._tls)

    def get_extra_info(self, info: str) -> Any:
        return None


async def _connect(address: str, port: int) -> trio.abc.Stream:
    return await trio.open_tcp_stream(address, port)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
