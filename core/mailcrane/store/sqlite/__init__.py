"""The embedded engine: SQLite with one writer thread, group commit and a pool of read connections."""

from mailcrane.store.sqlite.engine import open_sqlite

__all__ = ["open_sqlite"]
