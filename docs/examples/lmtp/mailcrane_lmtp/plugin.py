"""The plugin: it registers the transport type ``lmtp``."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from mailcrane.api import Plugin, TransportType, hookimpl
from mailcrane_lmtp.transport import LMTPTransport


class LMTPConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[transports.NAME]`` with ``type = "lmtp"``."""

    socket: Annotated[str, msgspec.Meta(description="Path of the server's Unix socket; empty connects to host.")] = ""
    host: Annotated[str, msgspec.Meta(description="The server's name or address.")] = "localhost"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535, description="Its port.")] = 24


class LMTPPlugin(Plugin):
    """Lets ``[transports.NAME]`` say ``type = "lmtp"``."""

    name = "lmtp"

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        """Return the one type."""

        async def open_one(config: LMTPConfig) -> LMTPTransport:
            return LMTPTransport(config.socket or (config.host, config.port), self.context.hostname)

        return [TransportType("lmtp", LMTPConfig, open_one)]
