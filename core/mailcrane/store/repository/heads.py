"""Which destination has something due: one row per destination with work, so that a blocked one costs nothing.

A million entries for a domain that is not to be tried now must not be walked over to find the others. `Heads` keeps
for every destination a time before which nothing of it is to be looked for. It may be too early: whoever makes
something due calls `lower`, and whoever looks calls `set`. Whoever has no room for a destination, or leaves it alone,
sets a later time, so that it is not met again and again; he calls `bring_forward` when there is room, and should he die
before, the time is near enough, or `look_everywhere` puts it right.
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

    def bring_forward(self, names: Collection[str], at_us: int) -> None:
        """Have destinations looked at again at an instant that were put off; those without work stay out."""
        self._sql.run_many(
            "UPDATE heads SET due_at = ? WHERE kind = ? AND name = ? AND due_at > ?",
            [(at_us, self._kind, name, at_us) for name in names],
        )

    def look_everywhere(self, first_due: str) -> None:
        """Note anew when the first work of every destination is due.

        Args:
            first_due: An expression of SQL that gives it for ``heads.name``; NULL where there is no work.
        """
        self._sql.run(f"UPDATE heads SET due_at = COALESCE({first_due}, due_at) WHERE kind = ?", (self._kind,))

    def due(self, now_us: int, exclude: Collection[str], page: int) -> Iterator[str]:
        """Yield destinations that may have something due, the oldest first, each once.

        The caller calls `set` for each before it takes the next.
        """
        seen = set(exclude)
        while True:
            most = page + len(seen)
            rows = self._sql.rows(
                "SELECT name FROM heads WHERE kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?",
                (self._kind, now_us, most),
            )
            for (name,) in rows:
                if name not in seen:
                    seen.add(name)
                    yield name
            if len(rows) < most:
                return

    def first_after(self, at_us: int) -> int | None:
        """Return the earliest time after another one at which something may be due."""
        row = self._sql.row(
            "SELECT due_at FROM heads WHERE kind = ? AND due_at > ? ORDER BY due_at LIMIT 1", (self._kind, at_us)
        )
        return None if row is None else int(row[0])

    def count_due(self, now_us: int, most: int) -> int:
        """Return how many destinations may have something due, counted up to a number."""
        row = self._sql.row(
            "SELECT COUNT(*) FROM (SELECT 1 FROM heads WHERE kind = ? AND due_at <= ? LIMIT ?)",
            (self._kind, now_us, most),
        )
        return 0 if row is None else int(row[0])

    def earliest(self, exclude: Collection[str]) -> int | None:
        """Return the earliest time at which something may be due, leaving out some destinations."""
        excluded = frozenset(exclude)
        rows = self._sql.rows(
            "SELECT name, due_at FROM heads WHERE kind = ? ORDER BY due_at LIMIT ?", (self._kind, len(excluded) + 1)
        )
        return next((due_at for name, due_at in rows if name not in excluded), None)
