"""What transports have of the server that they run in."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from mailcrane.api import Log
from mailcrane.api.dns import Resolver
from mailcrane.api.tls import OpportunisticTLS, TLSPolicyProvider

StartSoon = Callable[[Callable[[], Awaitable[object]]], object]


class Home(Struct, frozen=True):
    """The surroundings of a transport.

    Attributes:
        start_soon: Starts what goes on after a delivery, as a nursery does that outlives the transports.
        hostname: Gives the server's name.
        resolver: Looks names up.
        is_local_domain: Tells whether the server takes mail for a domain itself.
        policies: Of domains, for their mail exchangers.
        log: Of the plugin.
    """

    start_soon: StartSoon
    hostname: Callable[[], str]
    resolver: Resolver
    is_local_domain: Callable[[str], bool]
    policies: TLSPolicyProvider = OpportunisticTLS()
    log: Log = Log(logging.getLogger("mailcrane.plugins.transports"))
