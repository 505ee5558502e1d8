"""The events that plugins add: their kinds, and how a plugin records one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailcrane.model.event import Event, EventService, EventType
from mailcrane.plugin.caller import Hooks
from mailcrane.plugin.errors import PluginError


def registered_event_types(hooks: Hooks) -> dict[str, EventType]:
    """Return the kinds of events of all plugins, by name.

    Raises:
        PluginError: one is not named after its plugin.
    """
    types: dict[str, EventType] = {}
    for plugin, found in hooks.register_event_types():
        if not found.name.startswith(f"{plugin}."):
            raise PluginError(
                plugin, f"registers the event type {found.name!r}", f'name it "{plugin}.…", after the plugin'
            )
        types[found.name] = found
    return types


class PluginEvents:
    """Records events of a plugin's own kinds.

    They are rows like the core's: in the account's feed, in the timeline of the entry, and posted to webhooks that name
    them.
    """

    def __init__(self, plugin: str, service: Callable[[], EventService]) -> None:
        self._plugin = plugin
        self._service = service

    async def record(
        self, name: str, *, account: str = "", entry_id: int = 0, data: dict[str, Any] | None = None
    ) -> Event:
        """Record an event; when this returns it survives a power cut.

        Args:
            name: Of the kind, without the plugin's: ``queued`` for ``large.queued``.
            account: In whose feed; not needed where there is an entry.
            entry_id: The queue entry that it is about, queued or kept; 0 for none.
            data: JSON-compatible; webhooks have it in ``Data``.

        Raises:
            LookupError: the plugin registered no such kind, or there is no such account or entry.
            ValueError: the data is not JSON.
        """
        return await self._service().record(
            f"{self._plugin}.{name}", account=account, entry_id=entry_id, data=dict(data or {})
        )
