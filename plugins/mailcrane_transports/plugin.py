"""The plugin ``transports``: the transport types that ``[transports.NAME]`` may name."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from msgspec import Struct

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

Open = Callable[[Any, Home], Awaitable[Transport]]

TYPES: tuple[tuple[str, type[Struct], Open], ...] = (
    ("direct", DirectConfig, open_direct),
    ("smtp", SMTPConfig, open_smtp),
    ("submission", SubmissionConfig, open_smtp),
    ("submissions", SubmissionsConfig, open_submissions),
    ("socks", SocksConfig, open_socks),
    ("fail", FailConfig, open_fail),
    ("local", LocalConfig, open_local),
)


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
            TransportType(name, config, functools.partial(self._open, open_transport))
            for name, config, open_transport in TYPES
        ]

    async def _open(self, open_transport: Open, config: Any) -> Transport:
        context = self.context
        home = Home(
            self._nursery.start_soon,
            lambda: context.hostname,
            context.resolver,
            context.is_local_domain,
            log=context.log,
        )
        return await open_transport(config, home)
