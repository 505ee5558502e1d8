"""The plugin ``transports``: the transport types that ``[transports.NAME]`` may name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from mailcrane.api import Plugin, Transport, TransportType, hookimpl
from mailcrane_transports.config import (
    DirectConfig,
    FailConfig,
    LocalConfig,
    SMTPConfig,
    SocksConfig,
    SubmissionConfig,
    SubmissionsConfig,
)
from mailcrane_transports.direct import open_direct, open_socks
from mailcrane_transports.fail import open_fail
from mailcrane_transports.home import Home
from mailcrane_transports.relay import open_local, open_smtp, open_submissions


class TransportsPlugin(Plugin):
    """Registers the types ``direct``, ``smtp``, ``submission``, ``submissions``, ``socks``, ``fail`` and ``local``."""

    name = "transports"

    async def start(self, nursery: trio.Nursery) -> None:
        """Know where sessions are closed that outlive a delivery."""
        self._nursery = nursery

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        """Return the types."""
        return [
            TransportType("direct", DirectConfig, self._at_home(open_direct)),
            TransportType("smtp", SMTPConfig, self._at_home(open_smtp)),
            TransportType("submission", SubmissionConfig, self._at_home(open_smtp)),
            TransportType("submissions", SubmissionsConfig, self._at_home(open_submissions)),
            TransportType("socks", SocksConfig, self._at_home(open_socks)),
            TransportType("fail", FailConfig, self._at_home(open_fail)),
            TransportType("local", LocalConfig, self._at_home(open_local)),
        ]

    def _at_home(
        self, open_transport: Callable[[Any, Home], Awaitable[Transport]]
    ) -> Callable[[Any], Awaitable[Transport]]:
        async def opened(config: Any) -> Transport:
            context = self.context
            home = Home(self._nursery.start_soon, lambda: context.hostname, context.resolver, context.is_local_domain)
            return await open_transport(config, home)

        return opened
