"""The HTTP client for addresses that somebody else wrote: webhooks, policies, reports.

A name is resolved once and the address that was checked is the one that is connected to, so that an answer which
changes in between leads nowhere. There are no redirects, no proxies from the environment, no cookies, no
decompression; a response and the whole time are bounded. Why it is our own: docs/decisions/0013.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import h11
import trio
from msgspec import Struct

from mailcrane.http.dial import Connect, Dialer, Resolve, resolve_by_system
from mailcrane.http.exchange import ClientConnection, encode_request
from mailcrane.http.guard import AddressGuard
from mailcrane.http.pool import ConnectionPool
from mailcrane.http.response import (
    AddressRefused,
    ConnectFailed,
    HTTPClientError,
    HTTPResponse,
    RequestTimedOut,
    ResponseFailed,
    URLRefused,
)
from mailcrane.http.url import FetchedURL, parse_url
from mailcrane.tls.context import ClientTLS
from mailcrane.tls.tcp import open_tcp

_DRAINED_OCTETS = 16384


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
        dialer = Dialer(guard, resolve or resolve_by_system, connect or open_tcp, tls or ClientTLS())
        self._pool = ConnectionPool(dialer, max_connections=max_connections)

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
            timeout: Seconds for the whole; infinity where the caller has a time limit of its own.
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
        parsed = parse_url(url)
        fields = [(b"Host", parsed.host_field)]
        for name, value in headers.items():
            fields.append((name.encode("ascii"), value.encode("utf-8")))
        if body or method == "POST":
            fields.append((b"Content-Length", b"%d" % len(body)))
        request = encode_request(method, parsed.target, fields)
        if seconds == math.inf:
            return await self._send(parsed, request, body, wanted)
        with trio.move_on_after(seconds):
            return await self._send(parsed, request, body, wanted)
        raise RequestTimedOut(f"no response within {seconds:g} s")

    async def _send(self, url: FetchedURL, request: h11.Request, body: bytes, wanted: _Wanted) -> HTTPResponse:
        pool = self._pool
        await pool.take_place()
        try:
            kept = await pool.take_kept(url.origin)
            if kept is not None:
                try:
                    return await self._exchange(url, kept, request, body, wanted)
                except ResponseFailed:
                    if kept.has_answered:
                        raise
                # The server closed it meanwhile, and perhaps the others of that age too.
            return await self._exchange(url, await pool.open(url.origin), request, body, wanted)
        finally:
            pool.leave_place()

    async def _exchange(
        self, url: FetchedURL, connection: ClientConnection, request: h11.Request, body: bytes, wanted: _Wanted
    ) -> HTTPResponse:
        try:
            header = await connection.exchange(request, body)
            return await _read(connection, header, wanted)
        finally:
            await self._pool.give_back(url.origin, connection)


async def _read(connection: ClientConnection, header: h11.Response, wanted: _Wanted) -> HTTPResponse:
    body, most, is_whole = bytearray(), wanted.octets + wanted.drained_octets, False
    try:
        is_whole = connection.take_body(body, most)
        if not is_whole:
            with trio.move_on_after(wanted.seconds):
                is_whole = await connection.receive_body(body, most)
    except ResponseFailed as error:
        if wanted.seconds == math.inf:
            raise ResponseFailed(f"the response is not whole: {error}") from None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in header.headers}
    is_truncated = len(body) > wanted.octets or not is_whole
    return HTTPResponse(header.status_code, headers, bytes(body[: wanted.octets]), is_truncated)


__all__ = [
    "AddressRefused",
    "ConnectFailed",
    "GuardedClient",
    "HTTPClientError",
    "HTTPResponse",
    "RequestTimedOut",
    "ResponseFailed",
    "URLRefused",
]
