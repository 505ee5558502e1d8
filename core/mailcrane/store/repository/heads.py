"""Which destination has something due: one row per destination with work, so that a blocked one costs nothing.

A million entries for a domain that is not to be tried now must not be walked over to find the others. `Heads` keeps
for every destination a time before which nothing of it is due. It may be too early, never too late: whoever makes
something due calls `lower`, and whoever looks and finds nothing calls `set`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mailcrane.store.sql import SQL


class Heads:
    """The heads of one kind of work."""

    def __init__(self, sql: SQL, kind: str) -> None:
        self._sql = sql
        self._kind = kind

    def lower(self, name: str, at_us: int) -> None:
        """Note that something of a destination is due at an instant."""
        self._sql.run(
            "INSERT INTO heads (kind, name, due_at) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE"
            " SET due_at = excluded.due_at WHERE excluded.due_at < heads.due_at",
            (self._kind, name, at_us),
        )

    def set(self, name: str, at_us: int | None) -> None:
        """Note when the first work of a destination is due, having looked; None when it has none."""
        if at_us is None:
            self._sql.run("DELETE FROM heads WHERE kind = ? AND name = ?", (self._kind, name))
        else:
            self._sql.run(
                "UPDATE heads SET due_at = ? WHERE kind = ? AND name = ?",
                (at_us, self._kind, name),
            )

    def due(self, now_us: int, exclude: Collection[str], page: int) -> Iterator[str]:
        """Yield destinations that may have something due, the oldest first, each once.

        The caller calls `set` for each before it takes the next.
        """
        seen = set(exclude)
        while True:
            rows = self._sql.rows(
                "SELECT name FROM heads WHERE kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?",
                (self._kind, now_us, page + len(seen)),
            )
            names = [name for (name,) in rows if name not in seen]
            if not names:
                return
            for name in names:
                seen.add(name)
                yield name

    def earliest(self, exclude: Collection[str]) -> int | None:
        """Return the earliest time at which something may be due, leaving out some destinations."""
        excluded = frozenset(exclude)
        rows = self._sql.rows(
            "SELECT name, due_at FROM heads WHERE kind = ? ORDER BY due_at LIMIT ?", (self._kind, len(excluded) + 1)
        )
        return next((due_at for name, due_at in rows if name not in excluded), None)
