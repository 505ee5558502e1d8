"""What plugins keep: values by key, for the plugin as a whole and for single queue entries."""

from __future__ import annotations

import builtins

from mailcrane.store.sql import SQL


class PluginDataRepository:
    """A key-value store for each plugin.

    Values of an entry go when its retired row goes, or with the entry where none is kept.
    """

    def __init__(self, sql: SQL) -> None:
        self._sql = sql

    def get(self, plugin: str, key: str, entry_id: int = 0) -> bytes | None:
        """Return a value, or None."""
        row = self._sql.row(
            "SELECT value FROM plugin_data WHERE plugin = ? AND entry_id = ? AND key = ?", (plugin, entry_id, key)
        )
        return None if row is None else row[0]

    def set(self, plugin: str, key: str, value: bytes, entry_id: int = 0) -> bool:
        """Store or replace a value. False: the entry is neither queued nor kept as retired, and nothing was stored."""
        if (
            entry_id
            and self._sql.row(
                "SELECT 1 FROM entries WHERE id = ? UNION ALL SELECT 1 FROM retired WHERE entry_id = ? LIMIT 1",
                (entry_id, entry_id),
            )
            is None
        ):
            return False
        self._sql.run(
            "INSERT INTO plugin_data (plugin, entry_id, key, value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (plugin, entry_id, key) DO UPDATE SET value = excluded.value",
            (plugin, entry_id, key, value),
        )
        return True

    def delete(self, plugin: str, key: str, entry_id: int = 0) -> bool:
        """Remove a value; False when there was none."""
        return bool(
            self._sql.run(
                "DELETE FROM plugin_data WHERE plugin = ? AND entry_id = ? AND key = ?", (plugin, entry_id, key)
            )
        )

    def list(
        self, plugin: str, entry_id: int = 0, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> builtins.list[tuple[str, bytes]]:
        """Return keys and values in the order of the keys, of those that begin with a prefix and come after a key."""
        rows = self._sql.rows(
            "SELECT key, value FROM plugin_data WHERE plugin = ? AND entry_id = ? AND key > ?"
            " AND SUBSTR(key, 1, ?) = ? ORDER BY key LIMIT ?",
            (plugin, entry_id, after, len(prefix), prefix, limit),
        )
        return [(key, value) for key, value in rows]
