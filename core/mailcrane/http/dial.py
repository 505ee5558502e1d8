"""Opens connections to addresses that may be reached: the address that was checked is the one that is connected to."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence

import trio

from mailcrane.http.guard import AddressGuard, IPAddress
from mailcrane.http.response import AddressRefused, ConnectFailed, words_of
from mailcrane.http.url import Origin
from mailcrane.tls.context import ClientTLS

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_CONNECT_SECONDS = 10.0
_MAX_ADDRESSES = 4


class Dialer:
    """Opens connections.

    Args:
        guard: Says which addresses may be reached.
        resolve: Gives the addresses of a host name; asked once for each connection.
        connect: Opens a connection to an address and port.
        tls: Of the connections to https origins.
    """

    def __init__(self, guard: AddressGuard, resolve: Resolve, connect: Connect, tls: ClientTLS) -> None:
        self._guard = guard
        self._resolve = resolve
        self._connect = connect
        self._tls = tls

    async def open(self, origin: Origin) -> trio.abc.Stream:
        """Open a connection to an origin, with TLS where it says https.

        Raises:
            AddressRefused: none of its addresses may be reached.
            ConnectFailed: it has none, none answers, or there is no trusted TLS.
        """
        stream = await self._open_tcp(origin)
        if origin.scheme != "https":
            return stream
        encrypted = self._tls.wrap(stream, origin.host)
        try:
            await encrypted.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.BrokenResourceError):
                raise ConnectFailed(f"no TLS with {origin.host}: {error}") from None
            raise
        return encrypted

    async def _open_tcp(self, origin: Origin) -> trio.abc.Stream:
        problem = ""
        for address in (await self._addresses(origin.host))[:_MAX_ADDRESSES]:
            with trio.move_on_after(_CONNECT_SECONDS) as scope:
                try:
                    return await self._connect(str(address), origin.port)
                except (OSError, trio.BrokenResourceError) as error:
                    problem = f"{address}: {words_of(error)}"
            if scope.cancelled_caught:
                problem = f"{address}: no connection within {_CONNECT_SECONDS:g} s"
        raise ConnectFailed(f"cannot connect to {origin.host} port {origin.port}: {problem}")

    async def _addresses(self, host: str) -> list[IPAddress]:
        try:
            found: list[IPAddress] = [ipaddress.ip_address(host)]
        except ValueError:
            try:
                found = [ipaddress.ip_address(text) for text in await self._resolve(host)]
            except OSError as error:
                raise ConnectFailed(f"cannot resolve {host}: {words_of(error)}") from None
        if not found:
            raise ConnectFailed(f"cannot resolve {host}: it has no addresses")
        allowed = [address for address in found if self._guard.may_reach(address)]
        if not allowed:
            raise AddressRefused(f"{host} has no address that may be reached; {found[0]} is not a global one")
        return allowed


async def resolve_by_system(host: str) -> list[str]:
    """Ask the system's resolver for a host's addresses.

    Raises:
        OSError: there are none.
    """
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    # A dict keeps their order, which says which to prefer.
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
