"""Connections to SQLite: how they are set up, and the `SQL` that repositories use over one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mailcrane.store.errors import CommitFailed, DiskFull, StoreError
from mailcrane.store.sql import Row

PAGE_OCTETS: Final = 4096
WAL_CHECKPOINT_PAGES: Final = 4000
WAL_LIMIT_OCTETS: Final = 64 * 1024 * 1024
_STATEMENT_CACHE: Final = 512
_BUSY_SECONDS: Final = 10.0
_NO_SPACE_OCTETS: Final = 1024 * 1024


class SQLiteConnection:
    """`SQL` over one connection. Used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        return self._execute(statement, parameters).fetchall()

    def row(self, statement: str, parameters: Sequence[Any] = ()) -> Row | None:
        """Run a statement that has at most one row."""
        # All rows are taken: a statement with RETURNING that is not run to its end would hold up the commit.
        rows = self._execute(statement, parameters).fetchall()
        return rows[0] if rows else None

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that has no rows and return how many rows it changed."""
        return self._execute(statement, parameters).rowcount

    def run_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        self.connection.executemany(statement, parameters)


def connect_writer(path: str) -> sqlite3.Connection:
    """Open the connection that writes, and set up a new database, which only its owner may read.

    Raises:
        StoreError: the file cannot be made or opened, or is not a database.
    """
    try:
        if path != ":memory:":
            # It holds private keys. SQLite gives its other files the permissions of this one.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = _connect(path)
        try:
            _set_up(connection)
        except sqlite3.Error:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the database {path}: {error}") from error
    return connection


def connect_reader(path: str) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -4096")
    return connection


def translate(error: Exception, path: str) -> Exception:
    """Return what a caller is told instead of an error of the driver; an exception of its own stays as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    if is_full(error, path):
        return DiskFull(f"no space left for the database: {error}")
    if primary_code(error) == sqlite3.SQLITE_READONLY:
        return StoreError("a read must not write")
    return StoreError(f"the database refused a statement: {error}")


def translate_commit(error: Exception, path: str) -> Exception:
    """Return what the callers of a batch are told when it could not be committed."""
    if isinstance(error, sqlite3.Error) and is_full(error, path):
        return DiskFull(f"no space left for the database: {error}")
    return CommitFailed(f"the commit failed: {error}")


def is_engine_error(error: Exception | None) -> bool:
    """Whether a unit failed because of the engine rather than by its own exception."""
    return isinstance(error, (DiskFull, CommitFailed))


def is_full(error: sqlite3.Error, path: str) -> bool:
    """Whether an error means that there is no space: told so, or an I/O error where none is left."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return True
    if code != sqlite3.SQLITE_IOERR or path == ":memory:":
        return False
    try:
        return shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free < _NO_SPACE_OCTETS
    except OSError:
        return False


def is_corrupt(error: Exception) -> bool:
    """Whether an error means that the database cannot be relied on any more."""
    return isinstance(error, sqlite3.Error) and primary_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for errors of Python's driver itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENT_CACHE,
    )


def _set_up(connection: sqlite3.Connection) -> None:
    # Both hold only when they are set before the first table.
    connection.execute(f"PRAGMA page_size = {PAGE_OCTETS}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_OCTETS}")
    # Some builds zero every page that is freed, which doubles the cost of a deletion.
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA cache_size = -32768")
