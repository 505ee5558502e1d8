"""The plugin: a transport, a route to it, and a field in every webhook."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from mailcrane.api import Entry, Event, Plugin, RouteChoice, TransportType, WebhookFields, hookimpl
from pigeonhole.transport import PigeonholeConfig, PigeonholeTransport


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in ``[plugin.pigeonhole]``."""

    domains: Annotated[tuple[str, ...], msgspec.Meta(description="Domains whose mail goes into pigeonholes.")]
    transport: Annotated[str, msgspec.Meta(description="Name of the transport that takes it.")] = "pigeonholes"


class PigeonholePlugin(Plugin):
    """Routes some domains to pigeonholes."""

    name = "pigeonhole"
    Config = Config

    @hookimpl
    def register_transport_types(self) -> Sequence[TransportType]:
        """Let ``[transports.NAME]`` say ``type = "pigeonhole"``."""

        async def open_one(config: PigeonholeConfig) -> PigeonholeTransport:
            return PigeonholeTransport(config)

        return [TransportType("pigeonhole", PigeonholeConfig, open_one)]

    @hookimpl
    async def select_route(self, entry: Entry) -> RouteChoice | None:
        """Take our domains, and leave the others to the plugins and rules after us."""
        if entry.forward_path.domain in self.config.domains:
            return RouteChoice(self.config.transport, "pigeonhole domain")
        return None

    @hookimpl
    async def add_webhook_fields(self, event: Event, payload: dict[str, Any]) -> WebhookFields:
        """Tell the application which department a message was for."""
        department = str(event.data.get("extra", {}).get("department", "unknown"))
        return WebhookFields({"Department": department})
