"""Which addresses may be fetched from because of what a stranger or a user of an account wrote.

Only global ones: everything else may be a service of this machine or its network that trusts those who reach it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052 section 2.1: a translator turns the last 32 bits into an IPv4 address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressGuard:
    """Tells global addresses from others."""

    def __init__(self, allow_networks: Iterable[str] = ()) -> None:
        """Set up the guard.

        Args:
            allow_networks: Networks, as CIDR, that an administrator allows all the same.

        Raises:
            ValueError: a text is not a network.
        """
        self._allowed = tuple(ipaddress.ip_network(text) for text in allow_networks)

    def may_reach(self, address: IPAddress) -> bool:
        """Whether an address is global or in a network that is allowed.

        An IPv6 address that stands for an IPv4 address is judged as that.
        """
        if any(address in network for network in self._allowed):
            return True
        embedded = _embedded_ipv4(address)
        if embedded is None:
            return _is_global(address)
        if any(embedded in network for network in self._allowed):
            return True
        return _is_global(embedded)


def _is_global(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address.scope_id is not None):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded_ipv4(address: IPAddress) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
