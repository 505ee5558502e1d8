"""The plugin: it registers the transport type ``pipe``."""

from collections.abc import Sequence

from mailcrane.api import Plugin, TransportType, hookimpl
from mailcrane_pipe.config import PipeConfig
from mailcrane_pipe.transport import PipeTransport


class PipePlugin(Plugin):
    """Lets ``[transports.NAME]`` say ``type = "pipe"``."""

    name = "pipe"

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        """Return the one type."""

        async def open_one(config: PipeConfig) -> PipeTransport:
            return PipeTransport(config)

        return [TransportType("pipe", PipeConfig, open_one)]
