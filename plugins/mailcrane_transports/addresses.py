"""The IP addresses of a host, and which of them is tried first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest

import trio

from mailcrane.api import Attempt
from mailcrane.api.dns import LookupFailed, NotFound, Resolver
from mailcrane_transports import metrics
from mailcrane_transports.dial import CannotConnect, is_ipv6

_OTHER_FAMILY_SECONDS = 5.0


async def find_addresses(resolver: Resolver, host: str, families: Collection[int]) -> tuple[str, ...]:
    """Look up the addresses of a host, IPv6 and IPv4 in turn.

    Args:
        families: 4, 6 or both.

    Raises:
        CannotConnect: it has none that may be used, or it is not known.
    """
    found: dict[int, Sequence[str]] = {}
    failures: dict[int, LookupFailed] = {}

    async def look_up(family: int) -> None:
        try:
            answer = await (resolver.aaaa(host) if family == 6 else resolver.a(host))
            found[family] = answer.records
            # Where one family has addresses, the other's are not worth half a minute.
            scope.deadline = min(scope.deadline, trio.current_time() + _OTHER_FAMILY_SECONDS)
        except LookupFailed as failure:
            failures[family] = failure

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for family in families:
                nursery.start_soon(look_up, family)
    pairs = zip_longest(found.get(6, ()), found.get(4, ()))
    ips = tuple(ip for pair in pairs for ip in pair if ip is not None)
    if ips:
        return ips
    metrics.connections.inc("dns")
    if all(isinstance(failure, NotFound) for failure in failures.values()):
        names = " and ".join(f"IPv{family}" for family in sorted(families))
        raise CannotConnect(f"{host} has no {names} address")
    raise CannotConnect("looking up " + "; ".join(str(failure) for failure in failures.values()))


def of_families(ips: Iterable[str], families: Collection[int]) -> tuple[str, ...]:
    """Return the addresses that are of some families."""
    return tuple(ip for ip in ips if (6 if is_ipv6(ip) else 4) in families)


def dialed_before(attempts: Iterable[Attempt], host: str) -> tuple[str, ...]:
    """Return the addresses of a host that earlier attempts have connected to, in order."""
    return tuple(
        ip
        for attempt in attempts
        if attempt.result is not None
        for dialed, ip in attempt.result.dialed
        if dialed == host
    )


def in_order(ips: Sequence[str], dialed: Sequence[str]) -> tuple[str, ...]:
    """Order addresses for another attempt.

    First the family that was not used the last time: the other address of ours may be welcome. Within a family that was
    used once the same address comes first again, because a server that greylists knows us there; after that, those that
    were used least.
    """
    if not dialed:
        return tuple(ips)
    times = Counter(dialed)
    last_family = is_ipv6(dialed[-1])
    uses_of_family = Counter(is_ipv6(ip) for ip in dialed)

    def key(ip: str) -> tuple[bool, int]:
        is_again = uses_of_family[is_ipv6(ip)] == 1
        return is_ipv6(ip) == last_family, -times[ip] if is_again else times[ip]

    return tuple(sorted(ips, key=key))
