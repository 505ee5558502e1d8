"""The plugin ``transports``: the transport types that ``[transports.NAME]`` may name."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mailcrane.api import Plugin, TransportType, hookimpl
from mailcrane_transports.config import LocalConfig, SMTPConfig
from mailcrane_transports.local import open_local
from mailcrane_transports.smtp import open_smtp


class TransportsPlugin(Plugin):
    """Registers the types ``smtp`` and ``local``."""

    name = "transports"

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        """Return the types; each is opened with the name that we say in EHLO."""
        return [
            TransportType("smtp", SMTPConfig, functools.partial(open_smtp, hostname=self._hostname)),
            TransportType("local", LocalConfig, functools.partial(open_local, hostname=self._hostname)),
        ]

    def _hostname(self) -> str:
        return self.context.hostname
