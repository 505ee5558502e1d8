"""The key-value store of a plugin: for itself, and per queue entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailcrane.store.store import Store


class PluginDataStore(Protocol):
    """Where the values of all plugins are kept."""

    async def get(self, plugin: str, key: str, entry_id: int) -> bytes | None:
        """Return a value, or None."""
        ...

    async def set(self, plugin: str, key: str, value: bytes, entry_id: int) -> bool:
        """Set a value; False when the entry does not exist any more."""
        ...

    async def delete(self, plugin: str, key: str, entry_id: int) -> bool:
        """Remove a value; False when there was none."""
        ...

    async def list(self, plugin: str, prefix: str, entry_id: int) -> list[tuple[str, bytes]]:
        """Return the values whose keys begin with a prefix, by key."""
        ...


class PluginData:
    """A plugin's own key-value store; with ``entry_id`` one per queue entry, kept as long as the entry's retired row.

    It survives retries and restarts. Other plugins do not see it.
    """

    def __init__(self, plugin: str, store: Callable[[], PluginDataStore]) -> None:
        self._plugin = plugin
        self._store = store

    async def get(self, key: str, *, entry_id: int = 0) -> bytes | None:
        """Return a value, or None."""
        return await self._store().get(self._plugin, key, entry_id)

    async def set(self, key: str, value: bytes, *, entry_id: int = 0) -> bool:
        """Set a value; when this returns it survives a power cut.

        Returns:
            False when the entry is neither queued nor kept any more, so that nothing was stored.
        """
        return await self._store().set(self._plugin, key, value, entry_id)

    async def delete(self, key: str, *, entry_id: int = 0) -> bool:
        """Remove a value; False when there was none."""
        return await self._store().delete(self._plugin, key, entry_id)

    async def list(self, prefix: str = "", *, entry_id: int = 0) -> list[tuple[str, bytes]]:
        """Return up to 1000 keys that begin with a prefix, with their values, in the order of the keys."""
        return await self._store().list(self._plugin, prefix, entry_id)


class StoredPluginData:
    """Keeps the values in the server's store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, plugin: str, key: str, entry_id: int) -> bytes | None:
        """Return a value, or None."""
        return await self._store.read(lambda tx: tx.plugin_data.get(plugin, key, entry_id))

    async def set(self, plugin: str, key: str, value: bytes, entry_id: int) -> bool:
        """Set a value in a unit of its own."""
        return await self._store.write(
            lambda tx: tx.plugin_data.set(plugin, key, value, entry_id), key=f"plugin:{plugin}"
        )

    async def delete(self, plugin: str, key: str, entry_id: int) -> bool:
        """Remove a value in a unit of its own."""
        return await self._store.write(lambda tx: tx.plugin_data.delete(plugin, key, entry_id), key=f"plugin:{plugin}")

    async def list(self, plugin: str, prefix: str, entry_id: int) -> list[tuple[str, bytes]]:
        """Return the values whose keys begin with a prefix, by key."""
        return await self._store.read(lambda tx: tx.plugin_data.list(plugin, entry_id, prefix=prefix))


class HeldPluginData:
    """Keeps the values in memory, for tests and for looking at a plugin without a server."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int, str], bytes] = {}

    async def get(self, plugin: str, key: str, entry_id: int) -> bytes | None:
        """Return a value, or None."""
        return self.values.get((plugin, entry_id, key))

    async def set(self, plugin: str, key: str, value: bytes, entry_id: int) -> bool:
        """Set a value."""
        self.values[plugin, entry_id, key] = value
        return True

    async def delete(self, plugin: str, key: str, entry_id: int) -> bool:
        """Remove a value."""
        return self.values.pop((plugin, entry_id, key), None) is not None

    async def list(self, plugin: str, prefix: str, entry_id: int) -> list[tuple[str, bytes]]:
        """Return the values whose keys begin with a prefix, by key."""
        return sorted(
            (key, value)
            for (owner, entry, key), value in self.values.items()
            if (owner, entry) == (plugin, entry_id) and key.startswith(prefix)
        )
